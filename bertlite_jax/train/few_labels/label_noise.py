"""Losses for labels that may be wrong, each a number for each example.

With p = softmax(z), y the given label, C labels, N examples (any axes). All reduce to cross-entropy, -log p_y, at some
setting.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bertlite_jax.config.few_labels import Learn


def each(learn: Learn, logits: Float[Array, "*N C"], labels: Int[Array, "*N"]) -> Float[Array, "*N"]:
    """The loss that `learn.loss` names, of every example; of `peer` its first term (the function `peer` is the second).

    Args:
      learn: which loss, and its numbers.
      logits: float32.
      labels: in [0, C).
    """
    log_p = jax.nn.log_softmax(logits)
    right = _at(log_p, labels)
    if learn.loss == "gce":
        return generalised_cross_entropy(right, learn.gce_q)
    if learn.loss == "sce":
        return symmetric_cross_entropy(right, learn.sce_alpha, learn.sce_beta, learn.sce_log_zero)
    if learn.loss == "bootstrap_soft":
        return bootstrap_soft(log_p, right, learn.bootstrap_beta)
    if learn.loss == "bootstrap_hard":
        return bootstrap_hard(log_p, right, learn.bootstrap_beta)
    if learn.loss == "focal":
        return focal(right, learn.focal_gamma)
    return -right


def generalised_cross_entropy(right: Float[Array, "*N"], q: float) -> Float[Array, "*N"]:
    """(1 - p_y^q) / q: cross-entropy as q goes to 0, the mean absolute error (which forgives wrong labels) at q = 1.

    Args:
      right: log p_y.
      q: in (0, 1].

    Source: Zhang and Sabuncu 2018 (arXiv 1805.07836), equation 6.
    """
    return -jnp.expm1(q * right) / q


def symmetric_cross_entropy(
    right: Float[Array, "*N"], alpha: float, beta: float, log_zero: float
) -> Float[Array, "*N"]:
    """Alpha (-log p_y) + beta (-A)(1 - p_y): cross-entropy, and the same with label and prediction exchanged.

    The exchanged one is -sum_k p_k log(y_k), where the logarithm of the labels' zeros is set to A < 0.

    Source: Wang et al. 2019 (arXiv 1908.06112), equations 6 to 8.
    """
    return -alpha * right + beta * log_zero * jnp.expm1(right)


def bootstrap_soft(log_p: Float[Array, "*N C"], right: Float[Array, "*N"], beta: float) -> Float[Array, "*N"]:
    """-sum_k (beta y_k + (1 - beta) p_k) log p_k: the target is part label, part the model's own belief.

    The gradient runs through both p, so the second part is (1 - beta) times the entropy of the prediction.

    Args:
      log_p: of all labels.
      right: log p_y.
      beta: share of the label.

    Source: Reed et al. 2015 (arXiv 1412.6596), equation 5.
    """
    return -beta * right - (1 - beta) * jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def bootstrap_hard(log_p: Float[Array, "*N C"], right: Float[Array, "*N"], beta: float) -> Float[Array, "*N"]:
    """-beta log p_y - (1 - beta) log max_k p_k: the belief is the label that the model finds likeliest.

    Source: Reed et al. 2015 (arXiv 1412.6596), equation 6.
    """
    return -beta * right - (1 - beta) * jnp.max(log_p, axis=-1)


def focal(right: Float[Array, "*N"], gamma: float) -> Float[Array, "*N"]:
    """-(1 - p_y)^gamma log p_y: what is easy counts less. Cross-entropy at gamma = 0.

    Without the class weight of the paper. It helps where labels are rare; where they are wrong, what is hard is often
    what is wrong.

    Source: Lin et al. 2017 (arXiv 1708.02002), equation 4.
    """
    # At p_y = 1 the power's own gradient is infinite for gamma < 1, although the product's is 0.
    doubt = jnp.maximum(-jnp.expm1(right), jnp.finfo(jnp.float32).tiny)
    return -(doubt**gamma) * right


def peer(logits: Float[Array, "*N C"], others: Int[Array, "*N"]) -> Float[Array, "*N"]:
    """What the peer loss takes away, unweighted: cross-entropy of each text with the label of another one.

    The whole is mean(-log p_y) - alpha mean(this): agreeing with labels that go with other texts, as blind agreement
    does, earns nothing.

    Args:
      logits: of the peers' texts.
      others: labels of examples drawn apart from the texts (`mixing.partners`).

    Source: Liu and Guo 2020 (arXiv 1910.03231), equation 4; alpha from section 4.3.
    """
    return -_at(jax.nn.log_softmax(logits), others)


def _at(log_p: Float[Array, "*N C"], labels: Int[Array, "*N"]) -> Float[Array, "*N"]:
    """Log p_y, by a comparison in place of a gather, because its gradient is element-wise."""
    classes = jnp.arange(log_p.shape[-1]).reshape((1,) * labels.ndim + (-1,))
    return jnp.sum(jnp.where(labels[..., None] == classes, log_p, 0.0), axis=-1)
