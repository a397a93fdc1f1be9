"""Error against latency of every shape that was tried, in one picture, with the published models drawn in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bertlite_jax.report import plots

FILE = "front.png"
_LARGEST = 160.0
"""Area of the marker of the largest shape, in square points."""
_APART = 0.02
"""Published models that are nearer to each other than this share of the axis have one line."""


def draw(content: Mapping[str, Any], error: str) -> bytes:
    """A point for each shape, its area in proportion to the parameters; those of the front are filled.

    A published model whose shape was tried has its name at that point. Of others only the latency is known, by the same
    costs as of all shapes: they are vertical lines.

    Args:
      content: of `figures.content`.
      error: what the error is, for the axis.

    Returns:
      PNG.

    Raises:
      UserError: matplotlib is not installed.
    """
    with plots.drawing((7.2, 4.6), "png", job="search") as (figure, file):
        from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

        axes = plots.open_axes(figure)
        axes.set_xscale("log")
        axes.margins(y=0.18)  # Room for names.
        _draw_shapes(axes, content["ranking"], {row["name"] for row in content["front"]})
        _name_points(axes, content)
        _draw_published_lines(axes, content)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.4g}"))
        axes.set_xlabel("latency, ms; areas are in proportion to the parameters")
        axes.set_ylabel(f"error ({error}), nats")
        axes.grid(color="#dddddd", linewidth=0.6)
        figure.legend(loc="outside upper left", frameon=False, ncols=3)
    return file.getvalue()


def published_points(content: Mapping[str, Any]) -> dict[str, str]:
    """The names of shapes that were tried, with those of the published models that have them."""
    found: dict[str, list[str]] = {}
    for each in content["published"]:
        if each["error"] is not None:
            found.setdefault(each["shape"], []).append(each["name"])
    return {shape: ", ".join(names) for shape, names in found.items()}


def published_lines(content: Mapping[str, Any]) -> list[tuple[list[str], float]]:
    """Names and seconds of the other published models within the latencies that are drawn, the fastest first."""
    least, most = _range(content)
    others = [each for each in content["published"] if each["error"] is None and least <= each["seconds"] <= most]
    groups: list[list[Mapping[str, Any]]] = []
    for each in sorted(others, key=lambda each: each["seconds"]):
        if groups and math.log(each["seconds"] / groups[-1][0]["seconds"]) <= _APART * math.log(most / least):
            groups[-1].append(each)
        else:
            groups.append([each])
    return [([each["name"] for each in group], group[0]["seconds"]) for group in groups]


def _range(content: Mapping[str, Any]) -> tuple[float, float]:
    """The least and the greatest latency of a shape that was tried."""
    times = [row["seconds"] for row in content["ranking"]]
    return min(times), max(times)


def _draw_shapes(axes: Any, rows: Sequence[Mapping[str, Any]], on_front: set[str]) -> None:
    most = max(row["parameters"] for row in rows)
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


def _name_points(axes: Any, content: Mapping[str, Any]) -> None:
    """Names of the winner and of published models, beside their points where there is more room."""
    known, (least, most) = published_points(content), _range(content)
    names = known | {content["winner"]["name"]: f"{content['winner']['name']}, the winner"}
    for row in content["ranking"]:
        if row["name"] not in names:
            continue
        name = names[row["name"]]
        if row["name"] == content["winner"]["name"] and row["name"] in known:
            name += f" ({known[row['name']]})"
        is_left = row["seconds"] <= math.sqrt(least * most)
        axes.annotate(
            name,
            (1e3 * row["seconds"], row["error"]),
            xytext=(8, 12) if is_left else (-12, -24),
            ha="left" if is_left else "right",
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "linewidth": 0.7},
            bbox={"facecolor": "#ffffff", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )


def _draw_published_lines(axes: Any, content: Mapping[str, Any]) -> None:
    label = "published, not tried"
    for names, seconds in published_lines(content):
        axes.axvline(1e3 * seconds, color="#777777", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0, label=label)
        place = {"transform": axes.get_xaxis_transform(), "rotation": 30, "rotation_mode": "anchor"}
        axes.text(1e3 * seconds, 1.015, "\n".join(names), fontsize=8, **place)
        label = ""  # Once in the legend.
