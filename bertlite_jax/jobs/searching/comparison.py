"""What is kept of the maximum point's predictions, and the error of a trial beside them.

Kept are the logarithms of all probabilities, or those of the likeliest pieces and, as one, of all others. Where rare
pieces are put together, divergence and cross-entropy are at most those of all pieces.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from bertlite_jax.train.distillation import losses

Seen = Mapping[str, Array]
"""Of a held-out batch: `log_probs` of all pieces, or the fields of `losses.Top`."""


def seen_of(logits: Float[Array, "*N V"], pieces: int) -> Seen:
    """What is kept of the maximum point's logits.

    Args:
      logits: any float dtype.
      pieces: likeliest ones, at most V; 0: all.
    """
    log_t = jax.nn.log_softmax(logits.astype(jnp.float32))
    return losses.top_of(log_t, pieces)._asdict() if pieces else {"log_probs": log_t}


def sums(logits: Float[Array, "*N V"], seen: Seen, weights: Real[Array, "*N"]) -> dict[str, Float[Array, ""]]:
    """`teacher_divergence` and `teacher_cross_entropy`, float32 sums over the predictions, in nats.

    The published error is the cross-entropy "with respect to the maximum point", -Σ_v softmax(t) log softmax(z). It is
    the divergence and the maximum point's own entropy, which a perfect student has too; and the ratio of two of them,
    which W is made of, is nearer to 1 than that of their divergences.

    Args:
      logits: z, of the student; any float dtype.
      seen: of t, the maximum point's logits for the same predictions.
      weights: 0 where nothing is predicted.
    """
    log_t = seen["log_probs"]
    if "tail" in seen:
        diverged, _ = losses.top_cross_entropy(logits, losses.Top(**seen), weights, 1.0)
        log_t = jnp.concatenate([log_t, seen["tail"][..., None]], axis=-1)
    else:
        diverged, _ = losses.soft_cross_entropy(logits, log_t, weights, 1.0)
    entropy = -jnp.sum(jnp.exp(log_t) * log_t, axis=-1)
    return {
        "teacher_divergence": diverged,
        "teacher_cross_entropy": diverged + jnp.sum(entropy * weights.astype(jnp.float32)),
    }
