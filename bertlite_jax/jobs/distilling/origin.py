"""What the content of a store follows from, by the names of settings; and which runs it serves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.model import Model
from bertlite_jax.data.teaching import index, records
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.distilling.teachers import Teacher
from bertlite_jax.jobs.runs import workdir
from bertlite_jax.train.distillation import targets

_READ_BY = {"distill.temperature": {"soft", "pair_soft"}, "distill.soft_tokens": {"soft"}}
"""Settings that matter to some losses only."""


def origin(config: Distill, tokenizer: Tokenizer, teachers: Sequence[Teacher]) -> dict[str, Any]:
    """All that rows, masks and what the teachers say of them follow from, as JSON.

    Args:
      config: of the run, with all sizes.
      tokenizer: of the run.
      teachers: of the run.
    """
    data, run, mask = config.data, config.run, config.mask
    pairs = data.pair_task != "none"
    rate_steps = (mask.rate_steps or run.steps) if mask.first_rate else 0
    of: dict[str, Any] = {
        "run.seed": run.seed,
        "tokenizer": tokenizer.hash,
        "corpora": list(workdir.corpus_digests(data.corpus).values()),
        "data.weights": data.weights,
        "data.length": data.length,
        "data.batch_rows": data.batch_rows,
        "data.pack": data.pack,
        "data.windows_per_row": data.window_slots,
        "data.buckets": data.buckets,
        "data.pair_task": data.pair_task,
        "data.single_segment": data.single_segment if pairs else "",
        "run.lengths": run.lengths,
        "run.batches": run.batches,
        **{f"mask.{name}": value for name, value in dataclasses.asdict(mask).items()},
        "mask.rate_steps": rate_steps,
        "teachers": [teacher.digest for teacher in teachers],
        "distill.temperature": config.distill.temperature,
        "distill.soft_tokens": config.distill.soft_tokens,
    }
    return index.plain(of)


def check_serves(
    stored: index.Index, folder: str, config: Distill, wanted: Mapping[str, Any], teachers: Sequence[Model]
) -> None:
    """Raises UserError, one line, if a store is not what this run would compute.

    Args:
      stored: index of the store.
      folder: of the store.
      config: of the run, with all sizes.
      wanted: `origin` of the run.
      teachers: their shapes.
    """
    names = targets.names_of(config, teachers)
    compared = [name for name in wanted if name not in _READ_BY or _READ_BY[name] & names.keys()]
    if wrong := index.difference(stored.of, wanted, compared):
        raise UserError(
            f"distill: {folder} was written {wrong}; pass another --distill.store, or write one with `bertlite teach` "
            "and the options of this run"
        )
    if stored.of[index.STEPS] < config.run.steps:
        raise UserError(
            f"distill: {folder} has {stored.of[index.STEPS]} steps, and run.steps = {config.run.steps}; write one with "
            "`bertlite teach` and the options of this run"
        )
    for loss, each in names.items():
        if any(name not in {entry.name for entry in layout} for layout in stored.layouts.values() for name in each):
            raise UserError(
                f"distill: {folder} lacks what distill.{loss}_weight compares; write it with that weight above 0 and "
                "with the same layers"
            )


def read_of(layout: records.Layout, names: Mapping[str, Sequence[str]]) -> records.Layout:
    """Those arrays of a layout that the losses read, with what belongs to the predictions.

    Args:
      layout: of a store.
      names: of `targets.names_of`.
    """
    wanted = {name for each in names.values() for name in each}
    wanted |= {targets.IDS, targets.TAIL} if targets.SOFT in wanted else set()
    return tuple(entry for entry in layout if entry.name in wanted)
