"""The loss of a span head over one device's rows, as (sum, number that are right); the step divides by the weights.

Every window with a target counts alike: 1/2 (start + end), each the cross-entropy of the right token among the tokens
of its window, and for conditioned heads + 1/2 the binary cross-entropy of whether the window has no answer. Padding is
never a candidate; in google-research/bert, whose rows hold one window each, it is one, at logits that mean nothing.

Letters: B rows, L tokens, P windows a row.
Source: google-research/bert, run_squad.py; google-research/albert, squad_utils.py (`v2_model_fn_builder`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from bertlite_jax.config.model import Head, Model
from bertlite_jax.train.step import Batch, Loss, row_keys
from bertlite_jax.train.tasks.task_loss import Apply

# Logit of other windows' tokens: as good as impossible, and finite.
_NEVER = -1e30


def make_loss(apply: Apply, head: Head, model: Model) -> Loss:
    """The mean loss of the windows with a target in the global batch; reports `correct`, see `sum_of`."""
    drops = head.dropout > 0 or model.hidden_dropout > 0 or model.attention_dropout > 0

    def loss(
        params: Any, rows: Batch, weights: dict[str, Array], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        keys = row_keys(key, rows["rows"]) if drops else None
        inputs = (rows[name] for name in ("tokens", "segments", "positions", "token_types", "cls"))
        starts = rows["labels"][..., 0] if head.conditioned else None
        logits = apply({"params": params}, *inputs, keys, starts)
        total, correct = sum_of(head, logits, rows)
        return total / jnp.maximum(weights["weight"], 1.0), {"correct": correct}

    return loss


def sum_of(head: Head, logits: Any, rows: Batch) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The weighted sum of the losses of the windows, and how many have the right start and end (given the start).

    Args:
      head: of the model.
      logits: [B, L, 2]; of a conditioned head (start [B, L], end [B, L], null [B, P]), the end given the start.
      rows: `segments` [B, L], `cls` and `weights` [B, P]; `labels` [B, P, 2], the right start and end counted from
        the window's [CLS], 0 and 0 where it has no answer.
    """
    start, end, null = logits if head.conditioned else (logits[..., 0], logits[..., 1], None)
    labels, weights, segments = rows["labels"], rows["weights"], rows["segments"]
    each, right = jnp.zeros_like(weights), jnp.ones_like(weights)
    for number, of_token in enumerate((start, end)):
        losses, best = _of_windows(of_token, segments, rows["cls"] + labels[..., number])
        each, right = each + 0.5 * losses, right * best
    if head.conditioned:
        none = (labels[..., 0] == 0).astype(jnp.float32)
        each = each + 0.5 * optax.sigmoid_binary_cross_entropy(null, none)
    # What has no weight may be infinite, and 0 times that is no number.
    return jnp.sum(jnp.where(weights > 0, each * weights, 0.0)), jnp.sum(right * weights)


def _of_windows(
    logits: Float[Array, "B L"], segments: Int[Array, "B L"], places: Int[Array, "B P"]
) -> tuple[Float[Array, "B P"], Float[Array, "B P"]]:
    """Cross-entropy of the right places in the row, and 1 where theirs is strictly the largest logit of the window."""
    windows = by_window(logits, segments, places.shape[1])
    is_label = places[..., None] == jnp.arange(logits.shape[1])[None, None]
    chosen = jnp.sum(jnp.where(is_label, windows, 0.0), axis=-1)
    reached = jnp.sum(windows >= chosen[..., None], axis=-1)
    return jax.nn.logsumexp(windows, axis=-1) - chosen, (reached == 1).astype(jnp.float32)


def by_window(logits: Float[Array, "B L"], segments: Int[Array, "B L"], windows: int) -> Float[Array, "B {windows} L"]:
    """For each window, the logits of its own tokens, and very negative ones for others."""
    own = segments[:, None, :] == jnp.arange(1, windows + 1)[None, :, None]
    return jnp.where(own, logits.astype(jnp.float32)[:, None, :], _NEVER)
