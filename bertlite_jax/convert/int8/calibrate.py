"""Ranges of activations on real text, for products whose step is fixed beforehand.

Each application of a product has a range of its own: every application is a separate node, so the twelve of a shared
layer can differ at no cost.

Sources: TensorRT's entropy calibration (Migacz 2017, "8-bit inference with TensorRT", GTC); percentile as in
NVIDIA's pytorch-quantization.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from onnx import helper

from bertlite_jax.convert.int8 import measuring_text
from bertlite_jax.convert.int8.measuring_text import Batch
from bertlite_jax.convert.onnx.arithmetic import Arithmetic, Site
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.graph import FLOAT, Graph, node
from bertlite_jax.convert.onnx.integer import DECODE
from bertlite_jax.convert.onnx.model import Output, build_onnx
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights.folder import Weights

Method = Literal["minmax", "percentile", "entropy"]
BINS = 2048
_LEVELS = 128
"""Levels that a histogram of magnitudes is reduced to when its entropy is compared."""


def ranges(
    weights: Weights,
    batches: Sequence[Batch],
    method: Method = "minmax",
    percentile: float = 99.99,
    output: Output = "auto",
) -> dict[str, tuple[float, float]]:
    """Lowest and highest activation that each product has to represent, by `Site.name`.

    Two passes over the batches through the float32 graph: extremes first, then a histogram between them.

    Args:
      weights: float.
      batches: of real text, padded as in use.
      method: minmax clips nothing, and does best where a few large channels matter, as in BERT; percentile keeps
        `percentile` percent of the values and clips the rest, half at each end; entropy clips where the histogram
        reduced to 8 bits loses the least information.
      percentile: in percent.
      output: as for `build_onnx`.
    """
    scored = measuring_text.scored_output(weights, output)
    activations: dict[str, str] = {}
    model = build_onnx(weights, _watching(float32(weights), activations), output)
    model.graph.output.extend([helper.make_tensor_value_info(value, FLOAT, None) for value in activations.values()])
    session = open_session(model.SerializeToString())

    def values(batch: Batch) -> dict[str, np.ndarray]:
        outputs = run_session(session, measuring_text.as_read(batch, scored))
        return {name: outputs[value] for name, value in activations.items()}

    extremes: dict[str, tuple[float, float]] = {}
    for batch in batches:
        for name, value in values(batch).items():
            low, high = extremes.get(name, (np.inf, -np.inf))
            extremes[name] = min(low, float(value.min())), max(high, float(value.max()))
    if method == "minmax":
        return extremes
    counts = {name: np.zeros(BINS, np.int64) for name in extremes}
    for batch in batches:
        for name, value in values(batch).items():
            counts[name] += np.histogram(value, BINS, extremes[name])[0]
    if method == "percentile":
        return {name: percentile_range(counts[name], *extremes[name], percentile) for name in counts}
    return {name: entropy_range(counts[name], *extremes[name]) for name in counts}


def _watching(arithmetic: Arithmetic, activations: dict[str, str]) -> Arithmetic:
    """The same arithmetic, which also fills `activations`: by `Site.name`, the value that is each product's input."""

    def watch(graph: Graph, x: str, site: Site) -> str:
        if ("watched", x) not in graph.memo:
            graph.memo["watched", x] = node(graph, "Identity", x, name=f"watched.{site.name}")
        activations[site.name] = graph.memo["watched", x]
        return activations[site.name]

    def dense(graph: Graph, x: str, site: Site) -> str:
        return arithmetic.dense(graph, watch(graph, x, site), site)

    def decode(graph: Graph, x: str) -> str:
        return arithmetic.decode(graph, watch(graph, x, DECODE))

    return Arithmetic(dense, arithmetic.rows, decode)


def percentile_range(counts: np.ndarray, low: float, high: float, percent: float) -> tuple[float, float]:
    """The range that keeps `percent` of a histogram [BINS] on [low, high]; half of the rest is cut at each end."""
    edges = np.linspace(low, high, len(counts) + 1)
    share = np.cumsum(counts) / counts.sum()
    tail = (1 - percent / 100) / 2
    first = int(np.searchsorted(share, tail, side="right"))
    last = int(np.searchsorted(share, 1 - tail, side="left"))
    return float(edges[first]), float(edges[min(last + 1, len(counts))])


def entropy_range(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Clips a histogram at the magnitude for which its reduction to 8 bits diverges least from it.

    Both ends share one magnitude t: the range is [max(low, -t), min(high, t)].
    """
    edges = np.linspace(low, high, len(counts) + 1)
    middles = np.abs((edges[1:] + edges[:-1]) / 2)
    top = max(abs(low), abs(high))
    magnitudes, bounds = np.histogram(middles, BINS, (0, top), weights=counts)
    best, chosen = np.inf, top
    for bins in range(_LEVELS, BINS + 1, _LEVELS // 8):
        loss = _reduction_loss(magnitudes, bins)
        if loss < best:
            best, chosen = loss, float(bounds[bins])
    return max(low, -chosen), min(high, chosen)


def _reduction_loss(counts: np.ndarray, bins: int) -> float:
    """KL divergence of the first `bins` bins, the rest moved into the last of them, from 128 levels."""
    whole = counts[:bins].astype(np.float64)
    reduced = whole.copy()
    whole[-1] += counts[bins:].sum()
    groups = np.minimum(np.arange(bins) * _LEVELS // bins, _LEVELS - 1)
    occupied = reduced > 0
    totals = np.bincount(groups, reduced, _LEVELS)
    sizes = np.bincount(groups, occupied, _LEVELS)
    spread = np.where(occupied, (totals / np.maximum(sizes, 1))[groups], 0.0)
    p, q = whole / whole.sum(), spread / max(spread.sum(), 1e-300)
    nonzero = p > 0
    return float(np.sum(p[nonzero] * np.log(p[nonzero] / np.maximum(q[nonzero], 1e-12))))
