"""A look inside a model as a section of its report: pictures of attention, and words with like embeddings."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bertlite_jax.report import plots
from bertlite_jax.report.html_parts import table

MOST_LAYERS, MOST_HEADS = 12, 12
"""Of a picture; of more layers, some at equal distances, and of more heads the first."""


def section(inside: Mapping[str, Any]) -> str:
    """Both parts under a heading; "" if there are none.

    Args:
      inside: {"tokens": L pieces, "attention": [N, H, L, L], "neighbours": [{"word": piece, "near": [(piece, cosine),
        ..]}, ..]}.

    Raises:
      UserError: matplotlib is not installed.
    """
    if not inside:
        return ""
    picture = plots.data_uri(draw_attention(inside["attention"]))
    text = " ".join(inside["tokens"])
    note = (
        "Each square is one head of one layer: the token of a row looks at those of the columns, and dark is much. "
        f"From the left and from the top: {text}"
    )
    rows = [(each["word"], _near(each["near"])) for each in inside["neighbours"]]
    words = f"<h3>Words with like embeddings</h3>{table(rows, ('word', 'nearest, by cosine'))}" if rows else ""
    return (
        f'<h2>Inside</h2><h3>Attention</h3><p class="small quiet">{html.escape(note)}</p>'
        f'<img src="{picture}" alt="attention of each head, {html.escape(text)}">{words}'
    )


def draw_attention(weights: np.ndarray) -> bytes:
    """A grid of squares as SVG: a row for a layer, a column for a head.

    Args:
      weights: [N, H, L, L], each row of the last axis adding up to 1.

    Raises:
      UserError: matplotlib is not installed.
    """
    layers = sorted({round(place) for place in np.linspace(0, len(weights) - 1, min(len(weights), MOST_LAYERS))})
    heads = range(min(weights.shape[1], MOST_HEADS))
    size = 9.6 / max(len(heads), 6)
    with plots.drawing((size * len(heads) + 0.4, size * len(layers) + 0.4)) as (figure, file):
        axes = figure.subplots(len(layers), len(heads), squeeze=False)
        for row, layer in enumerate(layers):
            for head in heads:
                square = axes[row, head]
                square.imshow(weights[layer, head], cmap="Greys", vmin=0, vmax=1)
                square.set_xticks([])
                square.set_yticks([])
                if row == 0:
                    square.set_title(f"head {head + 1}", fontsize=8)
                if head == 0:
                    square.set_ylabel(f"layer {layer + 1}", fontsize=8)
    return file.getvalue()


def _near(pieces: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{piece} {cosine:.2f}" for piece, cosine in pieces)
