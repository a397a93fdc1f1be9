"""Latencies on this machine, in ONNX Runtime: of whole models, and of layers with fewer heads and neurons.

Letters: H heads, F neurons, N layers.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bertlite_jax.config.compression.prune import Prune
from bertlite_jax.config.model import Model
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.graph import to_bytes
from bertlite_jax.convert.onnx.integer import per_token
from bertlite_jax.convert.onnx.model import build_onnx
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.train.compression.choice import Latencies

_WIDTHS = 16
"""Widths of the feed-forward layer that are timed, beside none."""
_LAYERS = 4
"""Layers of the models that are timed for the table: enough that a layer's kernels do not stay in the cache."""
_ROUNDS, _LEAST_SECONDS = 10, 0.05
"""Turns of each model, and the least time of one turn."""


def table_of(weights: Weights, settings: Prune, length: int, log: Callable[[str], None]) -> Latencies:
    """Times layers of random weights with each number of heads and 16 widths, and the whole model.

    Args:
      weights: of the model; `rest` is what it takes besides its layers.
      settings: threads and arithmetic.
      length: tokens of the text.
      log: prints one line.
    """
    model = weights.model.exported
    layers = min(_LAYERS, model.num_layers)
    widths = np.unique(np.round(np.linspace(0, model.ffn_size, _WIDTHS + 1)).astype(int))
    # (heads, neurons, layers): those without both are what a layer takes besides, and what is there without layers.
    shapes = [(0, 0, layers), (0, 0, 2 * layers)]
    shapes += [(heads, 0, layers) for heads in range(1, model.num_heads + 1)]
    shapes += [(0, int(width), layers) for width in widths[1:]]
    arithmetic = f"{settings.threads} thread(s), {settings.products}"
    log(f"prune: timing {len(shapes)} kinds of layers with a text of {length} tokens, {arithmetic}")
    makers: list[Callable[[], Weights]] = [functools.partial(_random, model, length, *shape) for shape in shapes]
    seconds = seconds_of([*makers, lambda: weights], settings, length)
    empty, twice, whole = seconds[0], seconds[1], seconds[-1]
    of_parts = np.maximum((np.asarray(seconds[2:-1]) - empty) / layers, 0.0)
    heads, neurons = rising(of_parts[: model.num_heads]), rising(of_parts[model.num_heads :])
    besides = max(0.0, (twice - empty) / layers)
    return scaled_to(Latencies(heads, widths, neurons, besides, 0.0), model, whole, empty - layers * besides)


def rising(seconds: np.ndarray) -> np.ndarray:
    """With 0 before them, and none above a later one: fewer heads take no longer, and a busy machine only adds time."""
    return np.concatenate([[0.0], np.minimum.accumulate(seconds[::-1])[::-1]])


def scaled_to(parts: Latencies, model: Model, whole: float, least_rest: float) -> Latencies:
    """The table of a model that takes `whole` seconds: `rest` is what its layers do not take.

    Where the layers by themselves take so long that less than `least_rest` is left, they were timed in a slower moment
    than the model, and their times are scaled.

    Args:
      parts: whose `rest` is not read.
      model: the shape.
      whole: seconds of the whole model.
      least_rest: seconds of a model with this width without layers.
    """
    layers = range(model.num_layers)
    of_neurons = [float(np.interp(model.ffn_size_in(i), parts.widths, parts.neurons)) for i in layers]
    total = sum(float(parts.heads[model.heads_in(i)]) + of_neurons[i] + parts.layer for i in layers)
    least_rest = min(max(least_rest, 0.0), 0.5 * whole)
    factor = min(1.0, (whole - least_rest) / total) if total else 1.0
    return Latencies(
        parts.heads * factor, parts.widths, parts.neurons * factor, parts.layer * factor, whole - total * factor
    )


def seconds_of(makers: Sequence[Callable[[], Weights]], settings: Prune, length: int) -> list[float]:
    """Seconds of one text through each model, the fastest of several turns that alternate between them.

    Args:
      makers: return the weights of a model, which are not kept.
      settings: threads and arithmetic.
      length: tokens of the text.
    """
    calls = [call_of(make(), settings, length) for make in makers]
    counts = []
    for call in calls:
        call()
        began = time.perf_counter()
        call()
        counts.append(max(1, round(_LEAST_SECONDS / max(time.perf_counter() - began, 1e-6))))
    fastest = [np.inf] * len(calls)
    for _ in range(_ROUNDS):
        for number, (call, count) in enumerate(zip(calls, counts, strict=True)):
            for _ in range(count):
                began = time.perf_counter()
                call()
                fastest[number] = min(fastest[number], time.perf_counter() - began)
    return [float(seconds) for seconds in fastest]


def call_of(weights: Weights, settings: Prune, length: int) -> Callable[[], Any]:
    """A function that answers one text of this length; its last hidden states, whatever the head."""
    weights = dataclasses.replace(weights, tokenizer=None)
    arithmetic = float32(weights) if settings.products == "float32" else per_token(quantized.quantize(weights))
    session = open_session(to_bytes(build_onnx(weights, arithmetic, "states")), settings.threads)
    ids = np.arange(length)[None] % weights.model.vocab_size
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return functools.partial(run_session, session, batch)


def _random(model: Model, length: int, heads: int, neurons: int, layers: int) -> Weights:
    """An encoder with a small vocabulary, all of whose layers have so many heads and neurons."""
    groups = 1 if model.share == "all" else layers
    small = dataclasses.replace(
        model,
        vocab_size=8,
        max_positions=length,
        num_layers=layers,
        share_groups=1,
        pooler=False,
        pair_classes=0,
        pruned_heads=(heads,) * groups,
        pruned_ffn=(neurons,) * groups,
    )
    generator = np.random.default_rng(0)
    flat = {
        path: 0.05 * generator.standard_normal(shape, dtype=np.float32)
        for path, shape in parameters.shapes(small).items()
        if not path.startswith("mlm/")
    }
    return Weights(parameters.nest(flat), small)
