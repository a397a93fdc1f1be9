"""Ranges of activations on real text, for products whose step is fixed beforehand.

One range for each application of a product: every application is a node of its own, so the twelve of a shared layer
can differ at no cost.

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
"""Steps that a histogram of magnitudes is reduced to when its entropy is compared."""


def ranges(
    weights: Weights,
    batches: Sequence[Batch],
    method: Method = "minmax",
    percentile: float = 99.99,
    output: Output = "auto",
) -> dict[str, tuple[float, float]]:
    """Lowest and highest activation that each product shall tell apart, by `Site.name`.

    Two passes over the batches through the float32 graph: extremes first, then a histogram between them.

    Args:
      weights: float.
      batches: of real text, padded as they will be.
      method: minmax clips nothing, and does best where few channels are large and matter, as in BERT; percentile
        leaves out as much at both ends together as `percentile` says; entropy
        clips where the histogram reduced to 8 bits loses the least information.
      percentile: in percent.
      output: as for `build_onnx`.
    """
    what = measuring_text.scored(weights, output)
    seen: dict[str, str] = {}
    model = build_onnx(weights, _watching(float32(weights), seen), output)
    model.graph.output.extend([helper.make_tensor_value_info(value, FLOAT, None) for value in seen.values()])
    session = open_session(model.SerializeToString())

    def values(batch: Batch) -> dict[str, np.ndarray]:
        found = run_session(session, measuring_text.as_read(batch, what))
        return {name: found[value] for name, value in seen.items()}

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


def _watching(arithmetic: Arithmetic, seen: dict[str, str]) -> Arithmetic:
    """The same arithmetic, which notes in `seen` under which name each product's activation can be read."""

    def watch(graph: Graph, x: str, site: Site) -> str:
        if ("seen", x) not in graph.memo:
            graph.memo["seen", x] = node(graph, "Identity", x, name=f"seen.{site.name}")
        seen[site.name] = graph.memo["seen", x]
        return seen[site.name]

    def dense(graph: Graph, x: str, site: Site) -> str:
        return arithmetic.dense(graph, watch(graph, x, site), site)

    def decode(graph: Graph, x: str) -> str:
        return arithmetic.decode(graph, watch(graph, x, DECODE))

    return Arithmetic(dense, arithmetic.rows, decode)


def percentile_range(counts: np.ndarray, low: float, high: float, percent: float) -> tuple[float, float]:
    """The shortest ends of a histogram [BINS] on [low, high] that leave out 100 - `percent` of its mass, half each."""
    edges = np.linspace(low, high, len(counts) + 1)
    share = np.cumsum(counts) / counts.sum()
    tail = (1 - percent / 100) / 2
    first = int(np.searchsorted(share, tail, side="right"))
    last = int(np.searchsorted(share, 1 - tail, side="left"))
    return float(edges[first]), float(edges[min(last + 1, len(counts))])


def entropy_range(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Clips a histogram at the magnitude with which its reduction to 8 bits diverges least from it.

    The ends move together: a magnitude t keeps [max(low, -t), min(high, t)].
    """
    edges = np.linspace(low, high, len(counts) + 1)
    middles = np.abs((edges[1:] + edges[:-1]) / 2)
    top = max(abs(low), abs(high))
    magnitudes, bounds = np.histogram(middles, BINS, (0, top), weights=counts)
    best, chosen = np.inf, top
    for kept in range(_LEVELS, BINS + 1, _LEVELS // 8):
        loss = _reduction_loss(magnitudes, kept)
        if loss < best:
            best, chosen = loss, float(bounds[kept])
    return max(low, -chosen), min(high, chosen)


def _reduction_loss(counts: np.ndarray, kept: int) -> float:
    """KL divergence of the first `kept` bins, the rest moved into the last, from their reduction to 128 levels."""
    whole = counts[:kept].astype(np.float64)
    reduced = whole.copy()
    whole[-1] += counts[kept:].sum()
    groups = np.minimum(np.arange(kept) * _LEVELS // kept, _LEVELS - 1)
    occupied = reduced > 0
    totals = np.bincount(groups, reduced, _LEVELS)
    sizes = np.bincount(groups, occupied, _LEVELS)
    spread = np.where(occupied, (totals / np.maximum(sizes, 1))[groups], 0.0)
    p, q = whole / whole.sum(), spread / max(spread.sum(), 1e-300)
    there = p > 0
    return float(np.sum(p[there] * np.log(p[there] / np.maximum(q[there], 1e-12))))
