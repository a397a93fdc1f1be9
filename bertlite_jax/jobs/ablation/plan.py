"""What a grid would run, and about how long that takes: `bertlite ablate --dry-run`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.jobs.ablation import pace
from bertlite_jax.report.cost import flops
from bertlite_jax.report.run.metrics import clock_time


class Planned(NamedTuple):
    """A member, and what is known of its runs before they begin."""

    name: str
    runs: int
    left: int
    """Runs that are not finished."""
    config: Pretrain
    """With all sizes."""
    paces: tuple[pace.Pace, ...]
    """Of each of its stretches; empty where they could not be timed."""
    problem: str
    """Why they could not."""


def print_plan(where: str, members: Sequence[Planned], seconds: float, console: Console) -> None:
    """A row for each member, and how long all of it takes.

    Args:
      where: file of the grid.
      members: in their order.
      seconds: of training of each run, if that is the grid's budget; then steps that could not be timed are unknown.
      console: where to print.
    """
    table = Table(title=f"Plan of {where}", box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for heading in ("member", "to do", "parameters", "steps", "FLOP a run", "ms a step", "time a run"):
        table.add_column(heading, justify="left" if heading == "member" else "right", no_wrap=True)
    total = 0.0
    for each in members:
        known = bool(each.paces) or not seconds
        alone = each.config.job == "pretrain"  # FLOPs of teachers are known once a run has opened them.
        one = pace.run_seconds(each.config, each.paces) if each.paces else None
        total += (one or 0.0) * each.left
        table.add_row(
            each.name,
            f"{each.left:,} of {each.runs:,}",
            f"{flops.parameters(each.config.model)['total']:,}",
            f"{each.config.run.steps:,}" if known else "?",
            f"{flops.run_flops(each.config):.2e}" if known and alone else "?",
            " ".join(f"{1000 * stage.seconds_a_step:,.1f}" for stage in each.paces) or "?",
            "?" if one is None else clock_time(one),
        )
    console.print(table)
    for each in members:
        if each.problem:
            console.print(f"{each.name}: {each.problem}", markup=False, highlight=False, soft_wrap=True)
    print(
        f"ablate: {sum(each.left for each in members):,} of {sum(each.runs for each in members):,} runs to do, about "
        f"{clock_time(total)} in all, one after the other: measured just now, on steps of each member on this machine, "
        "with its start; evaluations by their size, fine-tuning not counted"
    )
