"""The command that compiles a training step for a TPU slice."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import arg

from bertlite_jax.cli.recipe import config_file
from bertlite_jax.cli.tables import print_figures
from bertlite_jax.config.pretrain import Pretrain


@dataclasses.dataclass(frozen=True)
class Options:
    """Compiles a pretraining step for a TPU slice, on a machine without TPU, and says what it needs.

    For many models and slices, as a table: bertlite compile --table FILE (its options: with --help behind it).
    """

    config: Annotated[Pretrain, arg(name="")]
    topology: str
    """The slice, by the compiler's name (v5e:16x16, in chips) or the usual one (v5e-256; v4-512 is 256 chips)."""
    num_slices: int = 1
    """So many slices, over the data-centre network."""
    find_batch: bool = False
    """Search the largest batch that fits."""
    keep_hlo: str = ""
    """File for the compiled program's text."""
    heaviest: int = 0
    """Show so many operations that move the most bytes."""


def compile_step(args: Sequence[str]) -> None:
    """Reads a config and a slice, or writes the table of all."""
    if args and args[0].partition("=")[0] == "--table":
        from bertlite_jax.jobs.compiling.compile_table import compile_table

        tyro.cli(compile_table, args=args, prog="bertlite compile")
        return
    config, rest, prog = config_file("compile", args, Pretrain)
    options = tyro.cli(Options, args=rest, prog=prog, default=Options(config=config, topology=tyro.MISSING))
    from bertlite_jax.jobs.compiling.compile import compile_for

    figures = compile_for(
        options.config,
        options.topology,
        options.num_slices,
        options.find_batch,
        options.keep_hlo,
        options.heaviest,
    )
    print_figures(f"{args[0]} on {options.topology}", figures)
