"""The importance of a task model's heads and neurons, measured on examples of its task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.examples import batches
from bertlite_jax.data.examples.features import Encoded
from bertlite_jax.model import gates
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train.compression import importance
from bertlite_jax.train.compression.importance import Importance
from bertlite_jax.train.tasks import span_loss, task_loss

_SLOTS = 2048
"""Tokens in a batch, about."""


def measured(weights: Weights, encoded: Encoded, examples: int, seed: int, pad_id: int) -> Importance:
    """Importance over examples that are drawn at random, each in a row of its own.

    Args:
      weights: of a task model whose head is not conditioned.
      encoded: its training split.
      examples: the most that are drawn.
      seed: of the draw.
      pad_id: of the tokenizer.
    """
    head, model = weights.head, weights.model
    assert head is not None
    task = TaskModel(model, head, choose_precision.resolve(model.compute, jax.default_backend()))
    sum_of = span_loss.sum_of if head.kind == "span" else task_loss.sum_of

    def slopes(params: Any, rows: Any) -> gates.Gates:
        def loss(opened: gates.Gates) -> jax.Array:
            return sum_of(head, gates.gated_logits(task, params, rows, opened), rows)[0]

        return importance.slopes(loss, gates.open_gates(model, len(rows["tokens"])))

    rows = _rows(encoded, examples, seed, head, pad_id)
    return importance.measure(jax.jit(slopes), jax.device_put(weights.params), rows)


def _rows(encoded: Encoded, examples: int, seed: int, head: Any, pad_id: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Batches of one shape, and the number of examples in each."""
    total = len(encoded.sizes)
    chosen = np.random.default_rng(seed).permutation(total)[:examples]
    length = batches.round_up(int(encoded.sizes[chosen].max()))
    windows = int(np.diff(encoded.firsts)[chosen].max())
    shape = batches.Shape(min(len(chosen), max(1, _SLOTS // length)), length, windows)
    for first in range(0, len(chosen), shape.rows):
        some = chosen[first : first + shape.rows]
        layout = batches.lay_out(encoded, [[int(example)] for example in some], shape, head, pad_id)
        yield layout.batch, len(some)
