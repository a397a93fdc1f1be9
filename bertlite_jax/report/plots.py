"""Plots as SVG or PNG: one message a plot, axes with units, lines told apart by dash and marker, not only by colour."""

from __future__ import annotations

import base64
import contextlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from bertlite_jax.errors import UserError

MOST_POINTS = 400
"""Longer curves are drawn as means of consecutive logged lines."""
_FARTHEST, _NEAREST = 1e100, 1e-100
"""Values beyond the first are drawn there, values within the second at 0: the length of an axis, its inverse and sums
of values have to be numbers too."""
_LAST_STEP = 10**15


class Curve(NamedTuple):
    """Values over steps. `style`: `thin` for what is logged every few steps, `marked` for evaluations."""

    label: str
    steps: list[int]
    values: list[float]
    style: str


class Level(NamedTuple):
    """A horizontal line to compare with."""

    label: str
    value: float


class Bar(NamedTuple):
    """A value with a name before it and a note behind it."""

    label: str
    value: float
    note: str


STYLES: dict[str, dict[str, Any]] = {
    "thin": {"color": "#6b8fb3", "linewidth": 1.1},
    "marked": {"color": "#111111", "linewidth": 1.4, "marker": "o", "markersize": 3.6},
    "level": {"color": "#444444", "linewidth": 1.1, "linestyle": (0, (5, 3))},
}
# The salt makes the same plot the same file.
FONTS: dict[Any, Any] = {"font.size": 9, "font.family": "DejaVu Sans", "svg.hashsalt": "bertlite"}


def series(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of the lines that have a number under `name`, in the order of steps, as they can be drawn."""
    points = sorted((line["step"], float(line[name])) for line in lines if _is_number(line.get(name)))
    steps = [max(-_LAST_STEP, min(step, _LAST_STEP)) for step, _ in points]
    return steps, drawable([value for _, value in points]).tolist()


def drawable(values: Any) -> np.ndarray:
    """Finite numbers of any shape, as float64 that matplotlib can draw: see `_FARTHEST`."""
    values = np.clip(np.asarray(values, np.float64), -_FARTHEST, _FARTHEST)
    return np.where(np.abs(values) < _NEAREST, 0.0, values)


def thin_out(steps: Sequence[int], values: Sequence[float], most: int = MOST_POINTS) -> tuple[list[int], list[float]]:
    """At most `most` points: means of equally many consecutive values, each at the step of its last value."""
    size = -(-len(steps) // most) if steps else 1
    starts = range(0, len(steps), size)
    means = [math.fsum(part) / len(part) for part in (values[start : start + size] for start in starts)]
    return [steps[min(start + size, len(steps)) - 1] for start in starts], means


@contextlib.contextmanager
def drawing(
    size: tuple[float, float], image: Literal["svg", "png"] = "svg", job: str = "report"
) -> Iterator[tuple[Any, io.BytesIO]]:
    """An empty figure in our style, and a file that gets the picture when the block ends.

    Args:
      size: width and height in inches.
      image: format of the file.
      job: first word of the error message.

    Raises:
      UserError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"{job}: matplotlib is not installed; pip install matplotlib") from error
    file = io.BytesIO()
    with matplotlib.rc_context(FONTS):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, file
        if image == "svg":
            figure.savefig(file, format="svg", metadata={"Date": None})
        else:
            figure.savefig(file, format="png", dpi=110)


def open_axes(figure: Any) -> Any:
    """The axes of a figure, without a frame above and to the right."""
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return axes


def draw(
    curves: Sequence[Curve],
    unit: str,
    levels: Sequence[Level] = (),
    wide: bool = False,
    from_zero: bool = False,
    log: bool = False,
    image: Literal["svg", "png"] = "svg",
) -> bytes:
    """One plot of curves over steps.

    Args:
      curves: none of them empty.
      unit: the label of the vertical axis.
      levels: horizontal lines to compare with.
      wide: the full width of a page instead of half of it.
      from_zero: the vertical axis starts at 0.
      log: logarithmic vertical axis; only if all values are positive.
      image: format of the result.

    Raises:
      UserError: matplotlib is not installed.
    """
    with drawing((9.6, 3.6) if wide else (4.7, 2.9), image) as (figure, file):
        from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

        axes = open_axes(figure)
        for curve in curves:
            steps, values = thin_out(curve.steps, curve.values)
            single = {"marker": "o", "markersize": 3.6} if len(steps) == 1 else {}
            axes.plot(steps, values, label=curve.label, **(STYLES[curve.style] | single))
        for level in levels:
            axes.axhline(float(drawable(level.value)), label=level.label, **STYLES["level"])
        every = [value for curve in curves for value in curve.values]
        least, most = min(every), max(map(abs, every))
        if log and most >= 1.001 * least > 0:  # Powers of ten do not tell such values apart.
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
        elif from_zero:
            axes.set_ylim(bottom=0)
        axes.set_xlabel("step")
        axes.set_ylabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8 if wide else 5, integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        if log or most >= 1000:
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.4g}" if log or most >= 1e9 else "{x:,.0f}"))
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        if len(curves) + len(levels) > 1:
            look = {"frameon": False, "fontsize": 8.5, "handlelength": 2.2, "columnspacing": 1.2}
            figure.legend(loc="outside upper left", ncols=len(curves) + len(levels), **look)
    return file.getvalue()


def draw_bars(bars: Sequence[Bar], unit: str) -> bytes:
    """Horizontal bars with their notes behind them, the first one on top and hollow, as SVG half a page wide.

    Args:
      bars: at least one; none of the values negative.
      unit: the label of the horizontal axis.

    Raises:
      UserError: matplotlib is not installed.
    """
    with drawing((4.7, 0.7 + 0.24 * len(bars))) as (figure, file):
        axes = open_axes(figure)
        colors = ["#ffffff", *["#6b8fb3"] * (len(bars) - 1)]
        values = drawable([bar.value for bar in bars])
        drawn = axes.barh([bar.label for bar in bars], values, color=colors, edgecolor="#111111", linewidth=0.8)
        axes.bar_label(drawn, [bar.note for bar in bars], padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.45 * (values.max() or 1))
        axes.set_xlabel(unit)
        axes.tick_params(axis="y", length=0)
    return file.getvalue()


def data_uri(svg: bytes) -> str:
    """The picture as a `src` of HTML, so that the page needs no other file."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
