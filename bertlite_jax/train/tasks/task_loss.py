"""The loss of a task head over one device's rows, as (sum, weight), and its share of the global mean.

Letters: B rows, L tokens, P windows a row, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, Num

from bertlite_jax.config.model import Head, Model
from bertlite_jax.train import losses
from bertlite_jax.train.step import Batch, Loss, Prepare, row_keys

Apply = Callable[..., Any]
"""`model.apply` of a `TaskModel`."""


def make_prepare() -> Prepare:
    """Counts what the loss divides by; the rows need no preparation."""

    def prepare(key: Key[Array, ""], batch: Batch, updates: Int[Array, ""]) -> tuple[Batch, dict[str, Array]]:
        del key, updates
        return batch, {
            "weight": jnp.sum(batch["weights"]),
            "real_tokens": jnp.sum(batch["segments"] > 0).astype(jnp.float32),
        }

    return prepare


def make_loss(apply: Apply, head: Head, model: Model) -> Loss:
    """The mean loss of the examples (of the labelled words for tags) in the global batch."""
    drops = head.dropout > 0 or model.hidden_dropout > 0 or model.attention_dropout > 0

    def loss(
        params: Any, rows: Batch, weights: dict[str, Array], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        keys = row_keys(key, rows["rows"]) if drops else None
        total, correct = sum_of(head, logits_of(apply, params, rows, keys), rows)
        return total / jnp.maximum(weights["weight"], 1.0), {"correct": correct}

    return loss


def logits_of(apply: Apply, params: Any, rows: Batch, dropout_keys: Key[Array, " B"] | None = None) -> Any:
    """The outputs of a task model.

    Returns:
      [B, places, C] float32, one place for each window (P), or for each token (L) where it tags; the beams of a
      conditioned span head.
    """
    inputs = (rows[name] for name in ("tokens", "segments", "positions", "token_types", "cls"))
    return apply({"params": params}, *inputs, dropout_keys)


def sum_of(head: Head, logits: Float[Array, "B places C"], rows: Batch) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The weighted sum of the losses, and of what is right (0 for numbers).

    Cross-entropy in nats; for several labels the mean binary cross-entropy of an example's labels; for numbers the
    mean squared error of an example's numbers.

    Args:
      head: what the logits mean.
      logits: for each window, or for each token where the head tags.
      rows: `labels` and `weights` as of `data/examples/batches.Layout`.
    """
    labels, weights = rows["labels"], rows["weights"]
    if head.kind == "choose":
        return choose(logits[..., 0], rows["choices"], labels)
    if head.problem == "single_label":
        total, _, correct = losses.pair(logits, labels, weights)
        return total, correct
    if head.problem == "multi_label":
        each = jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels), axis=-1)
        right = jnp.all((logits > 0) == (labels > 0.5), axis=-1)
        return jnp.sum(each * weights), jnp.sum(right.astype(jnp.float32) * weights)
    each = jnp.mean(jnp.square(logits - labels), axis=-1)
    return jnp.sum(each * weights), jnp.float32(0) * jnp.sum(weights)


def choose(
    scores: Float[Array, "B P"], choices: Int[Array, "B P"], right: Num[Array, "B P"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross-entropy over the windows of each example, which share a row.

    Args:
      scores: of each window.
      choices: number of the example that a window belongs to, from 1; 0 for no window.
      right: 1 for the window of the right choice.

    Returns:
      Sum of -log softmax at the right windows, and how many of them score above all others of their example.
    """
    of_example = by_example(scores, choices)
    each = jax.nn.logsumexp(of_example, axis=-1) - scores
    reached = jnp.sum(of_example >= scores[:, :, None], axis=-1)
    right = right.astype(jnp.float32)
    return jnp.sum(each * right), jnp.sum((reached == 1).astype(jnp.float32) * right)


def by_example(scores: Float[Array, "B P"], choices: Int[Array, "B P"]) -> Float[Array, "B P P"]:
    """For each window, the scores of the windows of its example, and -inf for others.

    An empty window sees itself, so that its sum, which has weight 0, is finite.
    """
    same = (choices[:, :, None] == choices[:, None, :]) & (choices > 0)[:, None, :]
    same = same | jnp.eye(choices.shape[1], dtype=bool)[None]
    return jnp.where(same, scores[:, None, :], -jnp.inf)
