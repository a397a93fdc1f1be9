"""The command that compiles a training step for a TPU slice."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import arg

from bertlite_jax.cli.options import call, parse
from bertlite_jax.cli.recipe import config_file
from bertlite_jax.cli.tables import print_figures
from bertlite_jax.config import sizes
from bertlite_jax.config.pretrain import Pretrain


@dataclasses.dataclass(frozen=True)
class Options:
    """Compiles a pretraining step for a TPU slice, on a machine without a TPU, and prints what it needs.

    For a table of many models and slices: bertlite compile --table FILE; add --help to see its options.
    """

    config: Annotated[Pretrain, arg(name="")]
    topology: str
    """The slice, by the compiler's name (v5e:16x16, in chips) or the usual one (v5e-256; v4-512 has 256 chips)."""
    num_slices: int = 1
    """Number of such slices, connected by the data-centre network."""
    find_batch: bool = False
    """Search for the largest batch that fits into memory, instead of the recipe's."""
    keep_hlo: str = ""
    """File for the text of the compiled program (HLO)."""
    heaviest: int = 0
    """Also print this many operations, those that move most bytes."""


def compile_step(args: Sequence[str]) -> None:
    """Compiles a recipe for a slice, or fills the table of many."""
    if args and args[0].partition("=")[0] == "--table":
        from bertlite_jax.jobs.compiling.compile_table import compile_table

        call(compile_table, args, "bertlite compile")
        return
    config, rest, prog = config_file("compile", args, Pretrain)
    options = parse(Options, rest, prog, default=Options(config=config, topology=tyro.MISSING))
    recipe = _with_sizes(options.config)
    from bertlite_jax.jobs.compiling.compile import compile_run

    figures_of = compile_run(
        recipe,
        options.topology,
        options.num_slices,
        options.find_batch,
        options.keep_hlo,
        options.heaviest,
    )
    for steps, figures in figures_of.items():
        print_figures(f"{args[0]} on {options.topology}{', ' if steps else ''}{steps}", figures)


def _with_sizes(config: Pretrain) -> Pretrain:
    """Fills in what the recipe leaves open: from its tokenizer if it names one, otherwise as published."""
    if config.model.vocab_size:
        return sizes.published_sizes(config)
    if config.data.tokenizer:
        from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer

        return sizes.resolve_sizes(config, load_tokenizer(config.data.tokenizer).vocab_size)
    config = sizes.published_sizes(config)
    print(f"compile: with the published vocabulary of {config.model.vocab_size:,} pieces, as model.vocab_size is 0")
    return config
