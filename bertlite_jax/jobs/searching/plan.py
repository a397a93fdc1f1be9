"""What a search will train, and about how long that takes: the order of trials, and `bertlite search --dry-run`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bertlite_jax.config.search.settings import Search, Shape, model_of
from bertlite_jax.jobs.searching import latency, training
from bertlite_jax.jobs.searching.training import Member, Setup
from bertlite_jax.report.run.metrics import clock_time
from bertlite_jax.search import space, strategies
from bertlite_jax.search.candidates import Candidate, shown_time
from bertlite_jax.search.score import Score
from bertlite_jax.search.trials import Evaluation, Trial

MOST_ROWS = 100
"""Of the table of a space; of a larger one, shapes evenly spread over it."""
TIMED = 3
"""Shapes whose steps are timed: the smallest, the largest and one between."""


class Group(NamedTuple):
    """A shape that is trained with all learning rates and seeds at once."""

    candidate: Candidate
    steps: int

    @property
    def flops(self) -> int:
        """Of one member."""
        return self.candidate.cost.step_flops * self.steps


def groups(
    found: Sequence[Candidate], near: Callable[[Shape], Sequence[Shape]], config: Search, score: Score
) -> list[Group]:
    """What all methods would train if all errors were equal: what they try does not depend on them but for a part.

    That part is which shapes `halving` keeps, and where `refine` goes.

    Args:
      found: the whole space, in the order of size.
      near: neighbours of a shape.
      config: of the search.
      score: of costs and errors.
    """
    by_shape = {each.shape: each for each in found}
    asked: dict[Group, None] = {}

    def error(trial: Trial) -> float:
        asked[Group(by_shape[trial.shape], trial.steps)] = None
        return 1.0

    settings = config.surrogate
    evaluation = Evaluation(error, score, settings.learning_rates, settings.steps, lambda *_: lambda shape: 1.0)
    for pick, _ in strategies.compared(found, near, evaluation, config.method).values():
        if config.surrogate.longer_steps and pick is not None:
            asked[Group(pick, config.surrogate.longer_steps)] = None
    for each in longer_shapes(found, config):
        asked[Group(each, config.surrogate.longer_steps)] = None
    return list(asked)


def longer_shapes(found: Sequence[Candidate], config: Search) -> list[Candidate]:
    """The shapes that are trained for `longer_steps`, beside what the methods picked."""
    return evenly_spread(found, config.surrogate.longer_shapes) if config.surrogate.longer_steps else []


def evenly_spread(found: Sequence[Candidate], count: int) -> list[Candidate]:
    """So many candidates, evenly spread from the first to the last; all if they are no more."""
    return [found[place] for place in sorted({round(place) for place in np.linspace(0, len(found) - 1, count)})]


# --- A dry run -------------------------------------------------------------------------------------------------------


def print_plan(
    where: str,
    setup: Setup,
    found: Sequence[Candidate],
    maximum: Candidate,
    todo: Sequence[Group],
    console: Console,
) -> None:
    """The space with its costs, and how long the search takes by the pace of a few steps.

    Args:
      where: the recipe.
      setup: of the search.
      found: the space, in the order of size.
      maximum: the maximum point.
      todo: what is to be trained.
      console: where to print.
    """
    table = Table(title=f"Space of {where}", box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    elsewhere = latency.elsewhere(setup.config)
    for heading in ("shape", "parameters", "latency", *elsewhere, "FLOP an update"):
        table.add_column(heading, justify="left" if heading == "shape" else "right", no_wrap=True)
    for each in [*evenly_spread(found, MOST_ROWS), maximum]:
        cost, model = each.cost, model_of(setup.config.model, each.shape)
        there = [shown_time(seconds(model)) for seconds in elsewhere.values()]
        name = space.describe(each.shape)
        table.add_row(name, f"{cost.parameters:,}", shown_time(cost.seconds), *there, f"{cost.step_flops:.2e}")
    console.print(table)
    shared = any(each.shape.share == "all" for each in found)
    note = "; layers that share all parameters have model.residual_scale = depth" if shared else ""
    cost = setup.config.cost
    print(
        f"search: {len(found):,} shapes, the last row is the maximum point; latency of {cost.rows} x {cost.length} "
        f"tokens, {cost.latency}, host {cost.host}{note}"
    )
    if not todo:
        print("search: everything has been trained already")
        return
    seconds = estimate(setup, todo)
    print(
        f"search: {len(todo):,} trainings of {len(setup.config.surrogate.learning_rates)} learning rates x "
        f"{len(setup.config.surrogate.seeds)} seeds to do, about {clock_time(seconds)} in all: by a few steps that "
        "were timed just now on this machine, and what they took to compile; what depends on the errors is guessed"
    )
    method = setup.config.method
    if "supernet" in (method.name, *method.others):
        print("search: and a supernet, which gets as much compute as random search would and is not in that time")


def estimate(setup: Setup, todo: Iterable[Group]) -> float:
    """Seconds that groups take: straight lines between those shapes that are timed, over the FLOPs of an update."""
    todo = list(todo)
    settings = setup.config.surrogate
    members = [Member(rate, seed) for rate in settings.learning_rates for seed in settings.seeds]
    by_size = sorted({group.candidate for group in todo}, key=lambda each: each.cost.step_flops)
    timed = []
    for candidate in evenly_spread(by_size, TIMED):
        try:
            timed.append((candidate.cost.step_flops, *training.time_steps(setup, candidate.shape, members)))
        except training.NoMemory as error:
            print(f"search: {space.describe(candidate.shape)}: {error}")
    if not timed:
        return 0.0
    flops, *paces = (np.array(column, np.float64) for column in zip(*timed, strict=True))
    total = 0.0
    for group in todo:
        pace = training.Pace(*(float(np.interp(group.candidate.cost.step_flops, flops, each)) for each in paces))
        scorings = len(training.scored_at(group.steps)) - 1  # The first belongs to the start.
        total += pace.start + group.steps * pace.step + scorings * pace.scoring
    return total
