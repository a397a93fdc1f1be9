"""Error against latency of every shape that was tried, in one picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertlite_jax.report import plots

FILE = "front.png"
_LARGEST = 160.0
"""Area of the marker of the largest shape, in square points."""


def draw(content: Mapping[str, Any], error: str) -> bytes:
    """A point for each shape, its area in proportion to the parameters; those of the front are filled.

    Args:
      content: of `figures.content`.
      error: what the error is, for the axis.

    Returns:
      PNG.

    Raises:
      UserError: matplotlib is not installed.
    """
    rows, on_front = content["ranking"], {row["name"] for row in content["front"]}
    most = max(row["parameters"] for row in rows)
    with plots.drawing((7.2, 4.6), "png", job="search") as (figure, file):
        axes = plots.open_axes(figure)
        for kept, color, label in ((False, "none", "tried"), (True, "#6b8fb3", "on the front")):
            chosen = [row for row in rows if (row["name"] in on_front) == kept]
            axes.scatter(
                [1e3 * row["seconds"] for row in chosen],
                plots.drawable([row["error"] for row in chosen]),
                s=[max(6.0, _LARGEST * row["parameters"] / most) for row in chosen],
                facecolors=color,
                edgecolors="#111111",
                linewidths=0.7,
                label=label,
            )
        best = content["winner"]
        axes.annotate(
            f"{best['name']}, the winner",
            (1e3 * best["seconds"], best["error"]),
            xytext=(8, 12),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "linewidth": 0.7},
        )
        axes.set_xscale("log")
        axes.set_xlabel("latency, ms; areas are in proportion to the parameters")
        axes.set_ylabel(f"error ({error}), nats")
        axes.grid(color="#dddddd", linewidth=0.6)
        figure.legend(loc="outside upper left", frameon=False, ncols=2)
    return file.getvalue()
