"""The family of a compressed model: its table, its picture of score against latency, and its page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from bertlite_jax.report import plots
from bertlite_jax.report.html_parts import number, page, percent, table

_HEADS = ("model", "speed-up", "milliseconds", "{score}", "score kept", "agreement", "MB", "parameters", "layers")
_EDGE, _FILL = "#111111", "#6b8fb3"
_FONT, _WIDTH = 8.0, 0.55
"""Size of the labels in points, and the width of a letter beside it."""
_LEAST, _MOST = 20.0, 900.0
"""Areas of the markers of an empty file and of the largest, in square points."""


def rows_of(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row of cells for each model, the teacher first."""
    metric, models = summary["metric"], summary["models"]
    whole = models[0][metric]
    return [
        (
            f"teacher, {model['name']}" if model["kind"] == "teacher" else model["name"],
            f"{model['speed_up']:.2f}",
            f"{model['milliseconds']:.3f}",
            f"{model[metric]:.4f}",
            "–" if whole <= 0 else percent(model[metric] / whole),
            percent(model["agreement"]),
            f"{model['bytes'] / 1e6:.2f}",
            number(model["parameters"]),
            number(model["layers"] or None),
        )
        for model in models
    ]


def heads_of(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Headings of the columns."""
    return tuple(head.format(score=summary["metric"].replace("_", " ")) for head in _HEADS)


def about(summary: Mapping[str, Any]) -> str:
    """What was measured, in sentences."""
    other = f"{summary['over']} in PyTorch float32, with random weights ({number(summary['over_milliseconds'])} ms)"
    over = other if summary["over"] else f"the teacher in {summary['reference']}"
    note = f" {summary['note'][:1].upper()}{summary['note'][1:]}." if summary["note"] else ""
    return (
        f"{summary['task']}: smaller models of {summary['compressed_from']}. Latencies of one text of "
        f"{summary['length']:,} tokens on {summary['threads']:,} thread(s) of {summary['cpu']}, the fastest call of "
        f"several turns. Speed-up: over {over}.{note} Scores: of the files on the "
        "validation split, in ONNX Runtime; PyTorch is given that of ONNX float32. Agreement: share of answers that "
        "are the teacher's. Size: of the file that is served."
    )


def markdown(summary: Mapping[str, Any]) -> str:
    """The table as a page of Markdown."""
    heads = heads_of(summary)
    lines = [heads, ("---", *("---:" for _ in heads[1:])), *rows_of(summary)]
    return f"{about(summary)}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def render(name: str, summary: Mapping[str, Any]) -> str:
    """The page of a family, from the summary.json of its work directory.

    Raises:
      UserError: matplotlib is not installed.
    """
    title, heads = f"Compression: {name}", heads_of(summary)
    note = "The larger the marker, the larger the file."
    caption = f"<figcaption><b>Score against latency</b>{note}</figcaption>"
    image = f'<img src="{plots.data_uri(picture(summary))}" alt="Score against latency">'
    parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="quiet">{html.escape(about(summary))}</p>']
    parts += [f'<div class="plots"><figure class="wide">{caption}{image}</figure></div>']
    return page(title, [*parts, f"<h2>Models</h2>{table(rows_of(summary), heads, range(1, len(heads)))}"])


# --- The picture -----------------------------------------------------------------------------------------------------


def picture(summary: Mapping[str, Any], image: Literal["svg", "png"] = "svg") -> bytes:
    """Score against latency, markers by the size of files; the teacher is hollow, and a line is the floor.

    Raises:
      UserError: matplotlib is not installed.
    """
    metric, models = summary["metric"], summary["models"]
    with plots.drawing((9.6, 4.6), image, job="compress") as (figure, file):
        from matplotlib.ticker import NullFormatter, StrMethodFormatter

        axes = plots.open_axes(figure)
        areas = _areas([model["bytes"] for model in models])
        times, scores = (plots.drawable([model[key] for model in models]) for key in ("milliseconds", metric))
        looks = {"teacher": ("o", "none"), "point": ("o", _FILL), "floor": ("s", "#bbbbbb")}
        for model, time, score, area in zip(models, times, scores, areas, strict=True):
            marker, fill = looks[model["kind"]]
            axes.scatter([time], [score], s=area, marker=marker, facecolor=fill, edgecolor=_EDGE, linewidth=1.0)
            if model["kind"] == "floor":
                axes.axhline(score, label="floor: mean of word vectors", **plots.STYLES["level"])
                axes.legend(frameon=False, fontsize=8.5, loc="lower right")
        if 5 * min(times) > max(times) > 0:
            axes.set_xlim(0, 1.15 * max(times))
        elif min(times) > 0:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.4g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(0.08, 0.2)
        axes.set_xlabel(f"milliseconds a text of {summary['length']:,} tokens, {summary['threads']:,} thread(s)")
        axes.set_ylabel(metric.replace("_", " "))
        axes.grid(color="#dddddd", linewidth=0.6)
        names = [model["name"] for model in models]
        figure.draw_without_rendering()  # Lays the axes out.
        spots = axes.transData.transform(np.column_stack([times, scores])) * 72 / figure.dpi
        for name, time, score, shift in zip(names, times, scores, label_shifts(names, spots, areas), strict=True):
            how = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": _FONT}
            axes.annotate(name, (time, score), shift, **how)
    return file.getvalue()


def label_shifts(names: Sequence[str], spots: np.ndarray, areas: np.ndarray) -> list[tuple[float, float]]:
    """Where the middle of each label stands, from the middle of its marker, in points.

    Above the marker, below it, beside it, or a line further above or below: the first of these places where it covers
    no other marker and no earlier label; above, if there is none.

    Args:
      names: N labels.
      spots: middles of the markers, [N, 2], in points.
      areas: of the markers, [N], in square points.
    """
    radii = np.sqrt(areas) / 2
    markers = [_box(spot, 2 * radius, 2 * radius) for spot, radius in zip(spots, radii, strict=True)]
    found, labels = [], list[np.ndarray]()
    for i, (name, spot, radius) in enumerate(zip(names, spots, radii, strict=True)):
        wide, high = _WIDTH * _FONT * len(name), 1.3 * _FONT
        up, aside = radius + high / 2 + 1, radius + wide / 2 + 3
        places = [(0.0, up), (0.0, -up), (aside, 0.0), (-aside, 0.0), (0.0, up + high), (0.0, -up - high)]
        taken = [*labels, *markers[:i], *markers[i + 1 :]]
        free = (place for place in places if not any(_meet(_box(spot + place, wide, high), each) for each in taken))
        found.append(next(free, places[0]))
        labels.append(_box(spot + found[-1], wide, high))
    return found


def _box(middle: np.ndarray, wide: float, high: float) -> np.ndarray:
    """[left, bottom, right, top]."""
    half = np.array([wide, high]) / 2
    return np.concatenate([middle - half, middle + half])


def _meet(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.all(a[:2] < b[2:]) and np.all(b[:2] < a[2:]))


def _areas(sizes: Sequence[float]) -> np.ndarray:
    """Areas of markers, in proportion to the sizes of files beyond the least."""
    most = max(*sizes, 1)
    return _LEAST + (_MOST - _LEAST) * np.clip(np.asarray(sizes, np.float64), 0, None) / most
