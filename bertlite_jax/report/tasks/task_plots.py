"""Pictures of task models as SVG, half a page wide: confusion matrix, reliability, numbers, seeds, layers, sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bertlite_jax.report import plots
from bertlite_jax.report.plots import Level
from bertlite_jax.report.tasks.figures import Bin

MOST_LABELS = 16
"""A matrix of more labels would be too small to read."""
_SIZE = (4.7, 3.9)
_FILL, _EDGE = "#6b8fb3", "#111111"


def matrix(counts: np.ndarray, labels: Sequence[str]) -> bytes:
    """A confusion matrix [C, C]: counts; the darker a cell, the larger its share of the row."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [label if len(label) <= 18 else label[:17] + "…" for label in labels]
    side = min(7.0, 2.2 + 0.42 * len(labels))
    with plots.drawing((max(4.7, side + 0.6), max(3.0, side))) as (figure, file):
        axes = plots.open_axes(figure)
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
    return file.getvalue()


def reliability(bins: Sequence[Bin]) -> bytes:
    """Bars: the share of right answers among those of about one probability; a line where both are equal."""
    most = max(each.count for each in bins)
    with plots.drawing(_SIZE) as (figure, file):
        axes = plots.open_axes(figure)
        for each in bins:
            middle, width = 50 * (each.low + each.high), 100 * (each.high - each.low)
            axes.bar(middle, 100 * each.right, 0.94 * width, color=_FILL, edgecolor=_EDGE, linewidth=0.8)
            note = {"ha": "center", "fontsize": 7.5, "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.8}}
            axes.text(middle, min(100 * each.right + 2, 101), f"{each.count:,}", va="bottom", **note)
        axes.plot([0, 100], [0, 100], label="perfectly calibrated", **plots.STYLES["level"])
        seen = [each for each in bins if each.count >= 0.002 * most]
        points = {"linestyle": "none", "marker": "o", "markersize": 4, "color": _EDGE}
        shares = [100 * each.confidence for each in seen], [100 * each.right for each in seen]
        axes.plot(*shares, label="mean probability, share right", **points)
        axes.set(
            xlim=(0, 100), ylim=(0, 112), xlabel="probability of the answer, %", ylabel="answers that are right, %"
        )
        axes.set_yticks(range(0, 101, 20))
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, 1.14), ncols=2)
    return file.getvalue()


def numbers(pairs: np.ndarray) -> bytes:
    """[M, 2] numbers in the data and predicted, as points, with a line where both are equal."""
    pairs = plots.drawable(pairs)
    low, high = float(pairs.min()), float(pairs.max())
    with plots.drawing(_SIZE) as (figure, file):
        axes = plots.open_axes(figure)
        axes.plot([low, high], [low, high], label="equal", **plots.STYLES["level"])
        axes.plot(pairs[:, 0], pairs[:, 1], linestyle="none", marker="o", markersize=2.6, color=_FILL,
                  markeredgecolor=_EDGE, markeredgewidth=0.3)  # fmt: skip
        axes.set(xlabel="in the data", ylabel="predicted")
        axes.legend(frameon=False, fontsize=8)
    return file.getvalue()


def spread(values: Sequence[float], names: Sequence[str], unit: str) -> bytes:
    """One point for each run, and their median as a line."""
    with plots.drawing((4.7, 0.9 + 0.26 * len(values))) as (figure, file):
        axes = plots.open_axes(figure)
        places, values = range(len(values)), plots.drawable(values).tolist()
        axes.plot(values, places, linestyle="none", marker="o", markersize=5, color=_EDGE)
        axes.axvline(float(np.median(values)), label="median", **plots.STYLES["level"])
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.margins(y=0.15)
        axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0))
    return file.getvalue()


def layers(values: Sequence[float], unit: str, levels: Sequence[Level] = (), names: Sequence[str] = ()) -> bytes:
    """A figure for each layer from the embeddings up."""
    values = plots.drawable(values).tolist()
    with plots.drawing((5.6, 3.2)) as (figure, file):
        axes = plots.open_axes(figure)
        axes.plot(range(len(values)), values, label="head on this layer", **plots.STYLES["marked"])
        for level in levels:
            axes.axhline(float(plots.drawable(level.value)), label=level.label, **plots.STYLES["level"])
        best = int(np.argmax(values))
        axes.plot([best], [values[best]], linestyle="none", marker="o", markersize=9, fillstyle="none", color=_EDGE)
        text = f"{values[best]:.3f}" if abs(values[best]) < 1e9 else f"{values[best]:.3g}"
        axes.annotate(text, (best, values[best]), (0, 8), textcoords="offset points", ha="center")
        shown = names or ["emb.", *map(str, range(1, len(values)))]
        axes.set_xticks(range(len(values)), shown, fontsize=9 if len(values) <= 14 else 7)
        axes.set(xlabel="layer", ylabel=unit)
        axes.margins(y=0.15)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        if levels:
            axes.legend(frameon=False, fontsize=8.5, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0))
    return file.getvalue()


def latencies(milliseconds: Sequence[float], scores: Sequence[float], names: Sequence[str], unit: str) -> bytes:
    """A score beside a latency for each model; the first one, which the others were made from, is hollow."""
    times, scores = plots.drawable(milliseconds).tolist(), plots.drawable(scores).tolist()
    with plots.drawing((5.6, 3.4)) as (figure, file):
        axes = plots.open_axes(figure)
        look = {"linestyle": "none", "marker": "o", "markersize": 7, "color": _EDGE}
        axes.plot(times[:1], scores[:1], fillstyle="none", **look)
        axes.plot(times[1:], scores[1:], **look)
        for time, score, name in zip(times, scores, names, strict=True):
            axes.annotate(name, (time, score), (0, 8), textcoords="offset points", ha="center")
        axes.set_xlim(0, 1.15 * max(times) or 1)
        axes.margins(y=0.2)
        axes.set(xlabel="milliseconds a text", ylabel=unit)
        axes.grid(color="#dddddd", linewidth=0.6)
    return file.getvalue()
