"""The command that searches for a shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Annotated

import tyro
from tyro.conf import arg

from bertlite_jax.cli.options import parse
from bertlite_jax.cli.recipe import config_file, fields_given
from bertlite_jax.config import effects
from bertlite_jax.config.search.settings import Method, Search, Shape
from bertlite_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Options:
    """Searches a space of shapes for the one with the best score of parameters, latency and error.

    Each shape is trained for a few steps, and its error compared with that of the maximum point. If the work directory
    holds a part of the search already, no trial is repeated.
    """

    config: Annotated[Search, arg(name="")]
    workdir: str
    """Folder of the search: results.jsonl with a line for each trial, winner.json (a recipe for bertlite pretrain),
    front.csv, front.png, table.md, table.json."""
    dry_run: bool = False
    """Only show the space, what its shapes cost, and how long the search takes, by a few timed steps. Nothing is
    written."""
    overwrite: bool = False
    """Train all trials again."""


def search(args: Sequence[str]) -> None:
    """Reads a search and its overrides from the command line, and goes on with what is missing of it."""
    config, rest, prog = config_file("search", args, Search)
    options = parse(Options, rest, prog, default=Options(config=config, workdir=tyro.MISSING))
    given = fields_given(rest, config)
    check_given(given, options.config.method)
    effects.check_effects(options.config, given, effects.SEARCH_NEEDS)
    from bertlite_jax.jobs.searching.search import search as find

    find(options.config, args[0], options.workdir, options.dry_run, options.overwrite)


_ONLY_FOR = {"refine": ("published",), "trials": ("random", "halving"), "factor": ("halving",), "rounds": ("halving",)}
"""Field of `method` to the methods that read it."""


def check_given(given: Collection[str], method: Method) -> None:
    """Raises UserError for a field that the search itself sets in every trial, or that none of its methods reads."""
    set_by = {f"model.{field.name}": f"space.{field.name}" for field in dataclasses.fields(Shape)}
    set_by["optim.learning_rate"] = set_by["optim.reference_batch"] = "surrogate.learning_rates"
    for field in sorted(given):
        if field in set_by:
            raise UserError(
                f"config: {effects.option(field)} has no effect: the search chooses it; "
                f"{effects.option(set_by[field])} says from what"
            )
    for name, readers in _ONLY_FOR.items():
        changed = f"method.{name}" in given and getattr(method, name) != getattr(Method(), name)
        if changed and not {method.name, *method.others} & set(readers):
            raise UserError(
                f"config: {effects.option(f'method.{name}')} has no effect: neither method.name nor method.others is "
                f"{' or '.join(readers)}"
            )
