"""Answers that are timed on this machine: the compiled float32 encoder, and the 8-bit ONNX file of `convert int8`.

Weights are random, and the table of words has `WORDS` rows: of either, the time does not depend on more.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.config.model import Model
from bertlite_jax.host import cpu
from bertlite_jax.model.encoder import Encoder

WORDS = 1000
TURNS, LEAST_SECONDS = 30, 0.3
"""Times that each answer is timed: at least so often, and as long; the latter for all that are timed in turn alike."""
_COPIED = 2**26


class Timing(NamedTuple):
    """Of one answer, in seconds, over all turns."""

    median: float
    p10: float
    """What a tenth of the answers stay below: what the machine can do undisturbed."""


def in_turns(answers: Sequence[Callable[[], object]], turns: int = TURNS, least: float = LEAST_SECONDS) -> list[Timing]:
    """Times the answers one after the other, again and again, so that what disturbs one disturbs all.

    Args:
      answers: each gives one answer and returns when it is there.
      turns: at least so many.
      least: seconds that all turns take together at least, for each answer.
    """
    for answer in answers:
        answer()  # Warms up.
    seconds: list[list[float]] = [[] for _ in answers]
    begin = time.perf_counter()
    while len(seconds[0]) < turns or time.perf_counter() - begin < least * len(answers):
        for answer, mine in zip(answers, seconds, strict=True):
            before = time.perf_counter()
            answer()
            mine.append(time.perf_counter() - before)
    return [Timing(float(np.median(mine)), float(np.quantile(mine, 0.1))) for mine in seconds]


def float32_answer(model: Model, rows: int, length: int) -> Callable[[], object]:
    """The encoder, compiled for [rows, length] tokens."""
    encoder, params = _drawn(model)
    inputs = _inputs(rows, length)
    program = (
        jax.jit(lambda params, *inputs: encoder.apply({"params": params}, *inputs)).lower(params, *inputs).compile()
    )
    return lambda: jax.block_until_ready(program(params, *inputs))


def int8_answer(model: Model, rows: int, length: int) -> Callable[[], object]:
    """The 8-bit file in ONNX Runtime, with one scale for each token, as `bertlite convert int8` writes it.

    Raises:
      UserError: onnxruntime is missing.
    """
    from bertlite_jax.convert.onnx import graph, integer, session
    from bertlite_jax.convert.onnx.model import build_onnx
    from bertlite_jax.convert.weights import quantized
    from bertlite_jax.convert.weights.folder import Weights

    encoder, params = _drawn(model)
    container = quantized.quantize(Weights(jax.device_get(params), encoder.config))
    made = build_onnx(quantized.to_weights(container), integer.per_token(container), "states")
    opened = session.open_session(graph.to_bytes(made), cpu.cores())
    tokens = np.asarray(_inputs(rows, length)[0])
    batch = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": np.zeros_like(tokens)}
    return lambda: session.run_session(opened, batch)


def _drawn(model: Model) -> tuple[Encoder, Any]:
    """An encoder without heads, and random weights."""
    model = dataclasses.replace(
        model,
        vocab_size=min(model.vocab_size, WORDS),
        vocab_multiple=1,
        pooler=False,
        pair_classes=0,
        replaced_head=False,
        attention="auto",
    )
    encoder, ids = Encoder(model, "float32"), jnp.zeros((1, 8), jnp.int32)
    return encoder, jax.jit(encoder.init)(jax.random.key(0), ids, ids, ids, ids)["params"]


def _inputs(rows: int, length: int) -> tuple[jax.Array, ...]:
    """Tokens, segments, positions and token types, [rows, length]: full rows."""
    zeros = jnp.zeros((rows, length), jnp.int32)
    return zeros + 5, zeros + 1, zeros + jnp.arange(length, dtype=jnp.int32)[None], zeros


def memory_bandwidth() -> float:
    """Bytes a second of this device's memory: the best of five times that 256 MB are read and as many written."""
    copy = jax.jit(lambda array: array + 1)
    array = jnp.zeros(_COPIED, jnp.float32)
    copy(array).block_until_ready()
    seconds = []
    for _ in range(5):
        before = time.perf_counter()
        copy(array).block_until_ready()
        seconds.append(time.perf_counter() - before)
    return 2 * array.nbytes / min(seconds)
