"""Pictures of task models as SVG, half a page wide: confusion matrix, reliability, numbers, seeds, layers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bertlite_jax.errors import UserError
from bertlite_jax.report import plots
from bertlite_jax.report.plots import Level
from bertlite_jax.report.tasks.figures import Bin

MOST_LABELS = 16
"""More labels than these do not fit into a matrix that can be read."""
_SIZE = (4.7, 3.9)
_FILL, _EDGE = "#6b8fb3", "#111111"


@contextlib.contextmanager
def _axes(image: list[bytes], size: tuple[float, float] = _SIZE) -> Iterator[Any]:
    """Axes without a frame above and to the right; the picture is put into `image` when the block ends."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("report: matplotlib is not installed; pip install 'bertlite_jax[report]'") from error
    with matplotlib.rc_context(plots.FONTS):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        yield axes
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    image.append(file.getvalue())


def matrix(counts: np.ndarray, labels: Sequence[str]) -> bytes:
    """A confusion matrix [C, C]: counts, and the darker the larger a share of its row."""
    image: list[bytes] = []
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [label if len(label) <= 18 else label[:17] + "…" for label in labels]
    side = min(7.0, 2.2 + 0.42 * len(labels))
    with _axes(image, (max(4.7, side + 0.6), max(3.0, side))) as axes:
        axes.imshow(shares, cmap="Greys", vmin=0, vmax=1.15, aspect="auto")
        for row, column in np.ndindex(*counts.shape):
            color = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color)
        steep = max(map(len, names)) * len(names) > 40
        axes.set_xticks(range(len(names)), names, rotation=45 if steep else 0, ha="right" if steep else "center")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("answered")
        axes.set_ylabel("in the data")
        axes.spines[["top", "right"]].set_visible(True)
        axes.tick_params(length=0)
    return image[0]


def reliability(bins: Sequence[Bin]) -> bytes:
    """Bars of how often answers of about one probability are right, and the line where both are equal."""
    image: list[bytes] = []
    most = max(each.count for each in bins)
    with _axes(image) as axes:
        for each in bins:
            middle, width = 50 * (each.low + each.high), 100 * (each.high - each.low)
            axes.bar(middle, 100 * each.right, 0.94 * width, color=_FILL, edgecolor=_EDGE, linewidth=0.8)
            note = {"ha": "center", "fontsize": 7.5, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.8}}
            axes.text(middle, min(100 * each.right + 2, 101), f"{each.count:,}", va="bottom", **note)
        axes.plot([0, 100], [0, 100], label="as sure as right", **plots.STYLES["level"])
        seen = [each for each in bins if each.count >= 0.002 * most]
        points = {"linestyle": "none", "marker": "o", "markersize": 4, "color": _EDGE}
        shares = [100 * each.sure for each in seen], [100 * each.right for each in seen]
        axes.plot(*shares, label="mean probability, share right", **points)
        axes.set(
            xlim=(0, 100), ylim=(0, 112), xlabel="probability of the answer, %", ylabel="answers that are right, %"
        )
        axes.set_yticks(range(0, 101, 20))
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, 1.14), ncols=2)
    return image[0]


def numbers(pairs: np.ndarray) -> bytes:
    """[M, 2] wanted and predicted numbers as points, with the line where both are equal."""
    image: list[bytes] = []
    low, high = float(pairs.min()), float(pairs.max())
    with _axes(image) as axes:
        axes.plot([low, high], [low, high], label="as wanted", **plots.STYLES["level"])
        axes.plot(pairs[:, 0], pairs[:, 1], linestyle="none", marker="o", markersize=2.6, color=_FILL,
                  markeredgecolor=_EDGE, markeredgewidth=0.3)  # fmt: skip
        axes.set(xlabel="in the data", ylabel="predicted")
        axes.legend(frameon=False, fontsize=8)
    return image[0]


def spread(values: Sequence[float], names: Sequence[str], unit: str) -> bytes:
    """One point a run, and their median as a line."""
    image: list[bytes] = []
    with _axes(image, (4.7, 0.9 + 0.26 * len(values))) as axes:
        places = range(len(values))
        axes.plot(values, places, linestyle="none", marker="o", markersize=5, color=_EDGE)
        axes.axvline(float(np.median(values)), label="median", **plots.STYLES["level"])
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.margins(y=0.15)
        axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0))
    return image[0]


def layers(values: Sequence[float], unit: str, levels: Sequence[Level] = (), names: Sequence[str] = ()) -> bytes:
    """A figure for each layer from the embeddings up."""
    image: list[bytes] = []
    with _axes(image, (5.6, 3.2)) as axes:
        axes.plot(range(len(values)), values, label="head on this layer", **plots.STYLES["marked"])
        for level in levels:
            axes.axhline(level.value, label=level.label, **plots.STYLES["level"])
        best = int(np.argmax(values))
        axes.plot([best], [values[best]], linestyle="none", marker="o", markersize=9, fillstyle="none", color=_EDGE)
        axes.annotate(f"{values[best]:.3f}", (best, values[best]), (0, 8), textcoords="offset points", ha="center")
        shown = names or ["emb.", *map(str, range(1, len(values)))]
        axes.set_xticks(range(len(values)), shown, fontsize=9 if len(values) <= 14 else 7)
        axes.set(xlabel="layer", ylabel=unit)
        axes.margins(y=0.15)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        if levels:
            axes.legend(frameon=False, fontsize=8.5, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0))
    return image[0]
