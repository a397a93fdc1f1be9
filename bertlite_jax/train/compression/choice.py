"""Which layers, heads and neurons stay so that a model takes at most a given time and loses least.

Each layer, or each group of layers that share, has options: how many heads and neurons stay, or that the layer goes
altogether. An option has a time, from a table of measured latencies, and a loss, the importance of what it takes away.
The best combination is that of a knapsack, which dynamic programming over discrete times finds.

Letters: H heads, F neurons, N layers, O options.
Source: Kurtic et al. 2023 (ZipLM, arXiv 2302.04089), section 3.2, for the table and the program; losses here are those
of `importance.py`.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from bertlite_jax.config.model import Model
from bertlite_jax.train.compression.importance import Importance
from bertlite_jax.train.compression.pruning import Kept, everything

_STEPS = 4000
"""Discrete times; each layer's is rounded up, so that a model of 12 layers may take 0.3 % less than it could."""


class Latencies(NamedTuple):
    """Seconds of one text, part by part.

    Attributes:
      heads: [H + 1], attention of one layer with 0, 1, ... H heads; the first is 0.
      widths: [W], numbers of neurons, rising, the first 0 and the last F.
      neurons: [W], the feed-forward layer of one layer with so many neurons; the first is 0.
      layer: what a layer takes besides, such as its norms.
      rest: embeddings, and the pooler where there is one.
    """

    heads: np.ndarray
    widths: np.ndarray
    neurons: np.ndarray
    layer: float
    rest: float


class _Option(NamedTuple):
    """One way to leave a layer."""

    heads: int
    neurons: int
    gone: bool = False


class _Options(NamedTuple):
    """What can be done with a layer, or with a group of layers that share."""

    ways: list[_Option]
    seconds: np.ndarray
    lost: np.ndarray


def seconds_of(model: Model, latencies: Latencies, kept: Kept | None = None) -> float:
    """What a model takes by the table, of which `kept` stays; None: all of it."""
    kept = kept or everything(model)
    total = latencies.rest
    for layer in kept.layers:
        heads, neurons = (model.stack_place(part, layer) for part in ("attention", "ffn"))
        assert heads is not None
        assert neurons is not None
        total += _seconds(latencies, len(kept.heads[heads]), len(kept.neurons[neurons]))
    return total


def fewest_seconds(model: Model, latencies: Latencies) -> float:
    """The least time of a model that still has a head or a neuron; where layers share, one in each group."""
    whole = everything(model)
    sharing = model.share == "all"
    units = [(int(group[0]),) for group in _groups(model)] if sharing else [(i,) for i in range(model.num_layers)]
    least = [_ways(whole, model, latencies, unit)[1].min(initial=np.inf) for unit in units]
    return latencies.rest + float(sum(least) if sharing else min(least))


def greatest_speed_up(model: Model, latencies: Latencies) -> float:
    """The greatest that can be reached, to two decimals and rounded down, so that it can be asked for."""
    return math.floor(100 * (1 - 1e-9) * seconds_of(model, latencies) / fewest_seconds(model, latencies)) / 100


def choose(importance: Importance, model: Model, latencies: Latencies, seconds: float) -> Kept:
    """What stays of a model so that it takes at most `seconds` and the importance of what goes is least.

    Args:
      importance: of each layer.
      model: the shape, which `pruning.check_prunable` accepts.
      latencies: measured for this shape.
      seconds: at least `fewest_seconds`.
    """
    whole = everything(model)
    if model.share != "all":
        units = [(layer,) for layer in range(model.num_layers)]
        ways, _ = _best([_options(importance, whole, model, latencies, unit, ()) for unit in units], latencies, seconds)
        return _kept(importance, whole, model, units, ways)
    groups = _groups(model)
    best, least = None, np.inf
    for depth in range(1, len(groups[0]) + 1):
        units = [tuple(map(int, group[:depth])) for group in groups]
        gone = [tuple(map(int, group[depth:])) for group in groups]
        options = [_options(importance, whole, model, latencies, *each) for each in zip(units, gone, strict=True)]
        if latencies.rest + sum(each.seconds.min() for each in options) > seconds:
            continue
        ways, lost = _best(options, latencies, seconds)
        if lost < least:
            best, least = _kept(importance, whole, model, units, ways), lost
    assert best is not None, "seconds is less than fewest_seconds"
    return best


def _groups(model: Model) -> list[np.ndarray]:
    """The layers of each group that shares."""
    return np.split(np.arange(model.num_layers), model.share_groups)


def _ways(whole: Kept, model: Model, latencies: Latencies, layers: tuple[int, ...]) -> tuple[list[_Option], np.ndarray]:
    """The ways to leave something of layers that share, or of one that does not, and their seconds; largest first."""
    heads, most = len(whole.heads[_place(model, "attention", layers)]), len(whole.neurons[_place(model, "ffn", layers)])
    widths = np.union1d(latencies.widths[latencies.widths <= most], [most])
    pairs = itertools.product(range(heads, -1, -1), widths[::-1].tolist())
    ways = [_Option(h, f) for h, f in pairs if h or f]
    seconds = [len(layers) * _seconds(latencies, way.heads, way.neurons) for way in ways]
    return ways, np.asarray(seconds)


def _options(
    importance: Importance,
    whole: Kept,
    model: Model,
    latencies: Latencies,
    layers: tuple[int, ...],
    gone: tuple[int, ...],
) -> _Options:
    """What can be done with layers that share, or with one that does not, and what that loses.

    Args:
      importance: of each layer.
      whole: what there is.
      model: the shape.
      latencies: of its parts.
      layers: those that are applied.
      gone: those that are not any more, whose importance is lost in any case.
    """
    ways, seconds = _ways(whole, model, latencies, layers)
    lost_heads = _lost(importance.heads, importance.squared_heads, layers)
    lost_neurons = _lost(importance.neurons, importance.squared_neurons, layers)
    always = sum(float(importance.squared_heads[i].sum() + importance.squared_neurons[i].sum()) for i in gone)
    lost = [lost_heads[-1 - way.heads] + lost_neurons[-1 - way.neurons] + always for way in ways]
    if model.share != "all":
        ways, seconds = [*ways, _Option(0, 0, gone=True)], np.append(seconds, 0.0)
        lost.append(lost_heads[-1] + lost_neurons[-1])
    return _Options(ways, seconds, np.asarray(lost))


def _best(options: list[_Options], latencies: Latencies, seconds: float) -> tuple[list[_Option], float]:
    """One way for each, together within the time, with the least loss; of equal ones the way that leaves most.

    The fastest ways fit into it. `least[t]` is the least loss of the units so far in at most t steps; `taken[unit][t]`
    is the way that leads there.
    """
    budget = seconds - latencies.rest
    least, taken, steps = np.zeros(_STEPS + 1), [], []
    for each in options:
        cost = np.ceil(each.seconds / budget * _STEPS - 1e-9).astype(np.int64)
        losses = np.full((len(cost), _STEPS + 1), np.inf)
        for way in np.flatnonzero(cost <= _STEPS):
            losses[way, cost[way] :] = least[: _STEPS + 1 - cost[way]] + each.lost[way]
        taken.append(losses.argmin(0))
        steps.append(cost)
        least = losses.min(0)
    time, chosen = _STEPS, [int(each.seconds.argmin()) for each in options]
    if np.isfinite(least[_STEPS]):  # Otherwise only rounding up is in the way: the fastest ways fit.
        for unit in range(len(options) - 1, -1, -1):
            chosen[unit] = int(taken[unit][time])
            time -= steps[unit][chosen[unit]]
    ways = [each.ways[way] for each, way in zip(options, chosen, strict=True)]
    return ways, float(sum(each.lost[way] for each, way in zip(options, chosen, strict=True)))


def _kept(importance: Importance, whole: Kept, model: Model, units: list[tuple[int, ...]], ways: list[_Option]) -> Kept:
    """The most important heads and neurons of each unit, as many as its way leaves."""
    layers: list[int] = []
    heads, neurons = list(whole.heads), list(whole.neurons)
    for unit, way in zip(units, ways, strict=True):
        if way.gone:
            continue
        layers += unit
        heads[_place(model, "attention", unit)] = _most_important(importance.heads, unit, way.heads)
        neurons[_place(model, "ffn", unit)] = _most_important(importance.neurons, unit, way.neurons)
    return Kept(tuple(layers), heads, neurons)


def _most_important(values: list[np.ndarray], layers: tuple[int, ...], count: int) -> np.ndarray:
    order = np.argsort(-_summed(values, layers), kind="stable")
    return np.sort(order[:count])


def _lost(values: list[np.ndarray], squared: list[np.ndarray], layers: tuple[int, ...]) -> np.ndarray:
    """[parts + 1]: the sum of squares of the n parts that are least by `values`, for n from 0."""
    order = np.argsort(-_summed(values, layers), kind="stable")[::-1]
    return np.concatenate([[0.0], np.cumsum(_summed(squared, layers)[order])])


def _summed(values: list[np.ndarray], layers: tuple[int, ...]) -> np.ndarray:
    return np.sum([values[layer] for layer in layers], axis=0)


def _seconds(latencies: Latencies, heads: int, neurons: int) -> float:
    """Of one layer."""
    of_neurons = np.interp(neurons, latencies.widths, latencies.neurons)
    return float(latencies.heads[heads] + of_neurons + latencies.layer)


def _place(model: Model, part: str, layers: tuple[int, ...]) -> int:
    place = model.stack_place(part, layers[0])
    assert place is not None
    return place
