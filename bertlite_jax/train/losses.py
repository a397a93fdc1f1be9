"""Losses as (sum, weight, correct), never as means.

A step adds them up over micro-batches and devices and divides once, by the global weight: micro-batches hold different
numbers of predictions, and a mean of means would weigh their tokens differently.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Real

Scalar = Float[Array, ""]


def masked_lm(
    logits: Float[Array, "B K V"], labels: Int[Array, "B K"], weights: Real[Array, "B K"]
) -> tuple[Scalar, Scalar, Scalar]:
    """Cross-entropy of the hidden tokens, in nats.

    Args:
      logits: [B, K, V], any float dtype; V may include padding pieces, whose logits are very negative.
      labels: [B, K] int32 in [0, V).
      weights: [B, K]; 0 for unused slots.

    Returns:
      Three float32 scalars: sum of weighted losses, sum of weights, weighted number of predictions that are right.

    Examples:
      A model that finds all pieces equally likely has a loss of ln V nats.

      >>> import jax.numpy as jnp
      >>> from bertlite_jax.train.losses import masked_lm
      >>> logits, labels, weights = jnp.zeros((1, 2, 30_000)), jnp.array([[17, 0]]), jnp.array([[1, 0]])
      >>> loss, weight, right = masked_lm(logits, labels, weights)
      >>> round(float(loss / weight), 2), float(right)
      (10.31, 0.0)
    """
    return _cross_entropy(logits, labels, weights)


def pair(
    logits: Float[Array, "B P C"], labels: Int[Array, "B P"], weights: Real[Array, "B P"]
) -> tuple[Scalar, Scalar, Scalar]:
    """Cross-entropy of the relation between the two parts of a window, in nats.

    Args:
      logits: [B, P, C], any float dtype.
      labels: [B, P] int32 in [0, C).
      weights: [B, P]; 0 where there is no window or no pair.

    Returns:
      Three float32 scalars: sum of weighted losses, sum of weights, weighted number of predictions that are right.
    """
    return _cross_entropy(logits, labels, weights)


def distilled(logits: Float[Array, "*N C"], teacher: Float[Array, "*N C"], temperature: float) -> Float[Array, "*N"]:
    """T^2 KL(softmax(t / T) || softmax(z / T)).

    The gradient of a logit is T (softmax(z / T) - softmax(t / T)); T^2 keeps its size, whatever the temperature.

    Args:
      logits: z, any float dtype.
      teacher: t, which gets no gradient. Pieces that neither can predict have very negative, finite logits.
      temperature: T.

    Returns:
      Nats, float32, for each distribution.

    Source: Hinton et al. 2015 (arXiv 1503.02531), section 2.

    Examples:
      A student that does not know, and a teacher that is sure to 3/4: 3/4 ln 3/2 + 1/4 ln 1/2 nats.

      >>> import jax.numpy as jnp
      >>> from bertlite_jax.train.losses import distilled
      >>> teacher = jnp.log(jnp.array([0.75, 0.25]))
      >>> round(float(distilled(jnp.zeros(2), teacher, temperature=1.0)), 4)
      0.1308
      >>> float(distilled(teacher, teacher, temperature=2.0))
      0.0
    """
    log_t = jax.nn.log_softmax(jax.lax.stop_gradient(teacher).astype(jnp.float32) / temperature)
    return divergence(logits, log_t, temperature)


def divergence(logits: Float[Array, "*N C"], log_t: Float[Array, "*N C"], temperature: float) -> Float[Array, "*N"]:
    """`distilled`, where log softmax(t / T) is known.

    Args:
      logits: z, any float dtype.
      log_t: float32, without a gradient; very negative and finite where a piece cannot be predicted.
      temperature: T.
    """
    return temperature**2 * _divergence(logits.astype(jnp.float32) / temperature, jax.lax.stop_gradient(log_t))


@jax.custom_vjp
def _divergence(z: Float[Array, "*N C"], log_t: Float[Array, "*N C"]) -> Float[Array, "*N"]:
    """At T = 1. Its gradient is written out, since XLA makes three times as many passes over [*N, C] of its own."""
    return jnp.sum(jnp.exp(log_t) * (log_t - jax.nn.log_softmax(z)), axis=-1)


def _divergence_forward(
    z: Float[Array, "*N C"], log_t: Float[Array, "*N C"]
) -> tuple[Float[Array, "*N"], tuple[Array, Array, Array]]:
    return _divergence(z, log_t), (z, log_t, jax.nn.logsumexp(z, axis=-1, keepdims=True))


def _divergence_backward(
    residuals: tuple[Array, Array, Array], slope: Float[Array, "*N"]
) -> tuple[Float[Array, "*N C"], None]:
    z, log_t, total = residuals
    return slope[..., None] * (jnp.exp(z - total) - jnp.exp(log_t)), None


_divergence.defvjp(_divergence_forward, _divergence_backward)


def replaced(
    logits: Float[Array, "B L"], labels: Bool[Array, "B L"], weights: Real[Array, "B L"]
) -> tuple[Scalar, Scalar, Scalar]:
    """Binary cross-entropy of whether a token was replaced, in nats.

    Args:
      logits: [B, L], any float dtype; positive: replaced.
      labels: [B, L]; whether it was.
      weights: [B, L]; 0 for tokens that do not count.

    Returns:
      Three float32 scalars: sum of weighted losses, sum of weights, weighted number of predictions that are right.
    """
    logits, weights = logits.astype(jnp.float32), weights.astype(jnp.float32)
    losses = jax.nn.softplus(jnp.where(labels, -logits, logits))
    right = ((logits > 0) == labels).astype(jnp.float32)
    return jnp.sum(losses * weights), jnp.sum(weights), jnp.sum(right * weights)


def _cross_entropy(
    logits: Float[Array, "*axes C"], labels: Int[Array, "*axes"], weights: Real[Array, "*axes"]
) -> tuple[Scalar, Scalar, Scalar]:
    """All arithmetic in float32.

    All leading axes become one, as in the product that made the logits: on a TPU any other shape costs a copy.
    """
    logits = logits.reshape(-1, logits.shape[-1]).astype(jnp.float32)
    labels, weights = labels.reshape(-1), weights.reshape(-1).astype(jnp.float32)
    # A comparison instead of a gather: its gradient is element-wise, a gather's is a scatter into [..., C].
    is_label = labels[:, None] == jnp.arange(logits.shape[-1])[None]
    label_logits = jnp.sum(jnp.where(is_label, logits, 0.0), axis=-1)
    losses = jax.nn.logsumexp(logits, axis=-1) - label_logits
    # Right means strictly above all others. It equals argmax but for exact ties, which count as wrong, and costs a
    # running sum instead of a search.
    reached = jnp.sum(logits >= label_logits[..., None], axis=-1)
    right = (reached == 1).astype(jnp.float32)
    return jnp.sum(losses * weights), jnp.sum(weights), jnp.sum(right * weights)
