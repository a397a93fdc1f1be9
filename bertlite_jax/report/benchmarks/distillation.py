"""Results of `bertlite bench distill` as a table in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from bertlite_jax.report.benchmarks.machine_line import machine_line


def print_steps(figures: dict[str, Any], console: Console) -> None:
    """Milliseconds of a step of each program, and what the two ways to have a teacher cost over the least they can."""
    settings = figures["settings"]
    title = f"steps of {settings['data.batch_rows']} rows of {settings['data.length']} tokens, {settings['compute']}"
    table = Table(title=title)
    table.add_column("program")
    table.add_column("ms a step", justify="right")
    for name, seconds in figures["seconds"].items():
        table.add_row(name, f"{1e3 * seconds:,.1f}")
    console.print(table)
    console.print(
        f"live teachers: {figures['live_over_sum']:.3f} of student and teachers together; stored teachers: "
        f"{figures['stored_over_student']:.3f} of the student alone\n{machine_line(figures['machine'])}",
        soft_wrap=True,
    )
