"""The command that trains a grid of recipes and compares them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

import tyro
from tyro.conf import arg

from bertlite_jax.cli.options import parse
from bertlite_jax.cli.recipe import config_file, fields_given
from bertlite_jax.config import effects
from bertlite_jax.config.ablation.grid import Grid
from bertlite_jax.config.ablation.members import with_fields
from bertlite_jax.config.ablation.problems import check_grid, refuse_names_twice
from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.files import find, flat
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Options:
    """Trains a grid of recipes with several seeds, each run in a process of its own, and compares them in a table.

    The options of the recipe replace fields of the grid's base. If the work directory holds a part of the grid already,
    finished runs are read and the others resume.
    """

    config: Annotated[Pretrain, arg(name="")]
    workdir: str
    """Folder of the grid: a folder for each member with a run for each seed in it, table.md, table.json, curves.png."""
    dry_run: bool = False
    """Only show the runs, their parameters and FLOPs and the time that they will take, measured with a few steps of
    each member. Nothing is written."""
    overwrite: bool = False
    """Train all runs again, from the beginning."""
    at_once: int = 1
    """Runs at the same time, each on its share of the cores and with its own memory. Small models gain; the same digits
    come from the same number of cores."""


def ablate(args: Sequence[str]) -> None:
    """Reads a grid and the overrides of its base from the command line, and trains what is missing of it."""
    grid, rest, prog = config_file("ablate", args, Grid)
    options = parse(Options, rest, prog, default=Options(config=grid.base, workdir=tyro.MISSING))
    refuse_names_twice(find(args[0]))
    check_grid(grid, args[0])
    grid = overridden(grid, options.config, fields_given(rest, grid.base), args[0])
    from bertlite_jax.jobs.ablation.ablate import ablate as train

    train(grid, args[0], options.workdir, options.dry_run, options.overwrite, options.at_once)


def overridden(grid: Grid, base: Pretrain, given: Collection[str], where: str) -> Grid:
    """The grid with another base, where the command line wins also over variants that are whole configs.

    Args:
      grid: as its file has it.
      base: its base with the values of the command line.
      given: fields that were given there.
      where: the file, for messages.

    Raises:
      UserError: a field has no effect, as the grid sets it for all members.
    """
    set_by = {"run.seed": "the grid's seeds", **{field: "an axis of the grid" for field in grid.axes}}
    if grid.steps or grid.seconds:
        set_by["run.steps"] = f"the grid's {'steps' if grid.steps else 'seconds'}"
    for field in sorted(given):
        if field in set_by:
            raise UserError(f"config: {effects.option(field)} has no effect: {field} is set by {set_by[field]}")
    needs = effects.DISTILL_NEEDS if isinstance(base, Distill) else effects.PRETRAIN_NEEDS
    effects.check_effects(base, given, needs)
    values = {field: value for field, value in flat(base).items() if field in given}
    variants = {
        name: with_fields(changes, _known(values, changes), where) if isinstance(changes, Pretrain) else changes
        for name, changes in grid.variants.items()
    }
    return dataclasses.replace(grid, base=base, variants=variants)


def _known(values: Mapping[str, Any], config: Pretrain) -> dict[str, Any]:
    """Those values whose fields a config has: one without a teacher has nothing of a teacher's."""
    return {field: value for field, value in values.items() if field in flat(config)}
