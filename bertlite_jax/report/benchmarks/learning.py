"""Results of `bertlite bench learn` as a table in the terminal and as a plot."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from bertlite_jax.report import plots
from bertlite_jax.report.benchmarks.machine_line import machine_line

_LOOKS = (
    {"color": "#6b8fb3", "linestyle": "-"},
    {"color": "#6b8fb3", "linestyle": (0, (5, 2))},
    {"color": "#6b8fb3", "linestyle": (0, (1, 1.5))},
    {"color": "#444444", "linestyle": (0, (5, 2, 1, 2))},
)


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Best loss and its time for each contender, and the ratio at the mark."""
    table = Table(title="validation loss of masked pieces over training time")
    table.add_column("who")
    for name in ("best loss", "after s", "below unigram"):
        table.add_column(name, justify="right")
    for name, points in summary["curves"].items():
        seconds, loss = min(points, key=lambda point: point[1])
        table.add_row(name, f"{loss:.4f}", f"{seconds:,.0f}", f"{summary['unigram_entropy'] - loss:.3f}")
    console.print(table)
    mark, ours = summary["mark"], summary["ours"]
    reached = (
        f"ours was there after {ours['seconds']:,.0f} s: {summary['ratio']:.3f} of that time"
        if ours
        else "ours did not get there"
    )
    console.print(
        f"the mark: {mark['loss']:.4f} by {mark['name']} after {mark['seconds']:,.0f} s; {reached}\n"
        f"{machine_line(summary['machine'])}\nPyTorch's seconds are those of its steps; ours also compile, evaluate "
        "and save.",
        soft_wrap=True,
    )


def draw(summary: dict[str, Any]) -> bytes:
    """Loss over seconds of every contender, with the unigram entropy, as PNG.

    Raises:
      UserError: matplotlib is not installed.
    """
    with plots.drawing((9.6, 3.8), "png", job="bench") as (figure, file):
        axes = plots.open_axes(figure)
        others = [name for name in summary["curves"] if name != "ours"]
        for place, name in enumerate(others):
            seconds, losses = zip(*summary["curves"][name], strict=True)
            axes.plot(seconds, losses, label=name, linewidth=1.3, **_LOOKS[place % len(_LOOKS)])
        seconds, losses = zip(*summary["curves"]["ours"], strict=True)
        axes.plot(seconds, losses, label="bertlite_jax", **(plots.STYLES["marked"] | {"markersize": 2.4}))
        axes.axhline(summary["unigram_entropy"], label="unigram", **plots.STYLES["level"])
        axes.set_xlabel("seconds of training")
        axes.set_ylabel("validation loss, nats")
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=8.5)
    return file.getvalue()
