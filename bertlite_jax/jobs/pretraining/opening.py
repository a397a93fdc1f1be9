"""What every run over rows of a corpus opens and checks before it computes anything."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from bertlite_jax.config import checks, sizes
from bertlite_jax.config.distillation.settings import trained_bits
from bertlite_jax.data.rows import source, stages
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.jobs.pretraining.vocabulary import tokenizer_of
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.model.ops.precision import Compute, of_bits
from bertlite_jax.train import processes, sharding


class Opened(NamedTuple):
    """A config that can work, and what it names."""

    config: Any
    """With all sizes."""
    mesh: jax.sharding.Mesh
    tokenizer: Tokenizer
    row_stages: stages.Stages
    compute: Compute
    """Precision of the products of the model that is trained."""
    in_floats: Compute
    """The same where that model is trained for a file of integers: of models beside it, which are not."""


def open_run(config: Any, check: Callable[[Any, int], None]) -> Opened:
    """Opens tokenizer and corpora of a run, and chooses its devices and its precision.

    Args:
      config: as the user has it.
      check: raises UserError for a config that cannot work on so many devices.

    Raises:
      UserError: of all that can be wrong with config, tokenizer and corpora.
    """
    checks.check_counts(config)  # First: NaN is never the same as that of the first process.
    processes.check_same_config(config)
    mesh = sharding.make_mesh(config.run.devices, config.run.fsdp, config.run.tensor)
    check(config, sharding.row_parts(mesh))
    tokenizer = tokenizer_of(config)
    config = sizes.resolve_sizes(config, tokenizer.vocab_size)
    check(config, sharding.row_parts(mesh))  # Again, now with the sizes that the recipe left open.
    processes.check_same_config(config)
    open_source = functools.partial(source.open_source, split="train", seed=config.run.seed, loaded=tokenizer)
    row_stages = stages.open_stages(config, open_source)
    platform = mesh.devices.flat[0].platform
    in_floats = processes.first_decides(lambda: choose_precision.resolve(config.model.compute, platform))
    bits = trained_bits(config)
    return Opened(config, mesh, tokenizer, row_stages, of_bits(bits) if bits else in_floats, in_floats)
