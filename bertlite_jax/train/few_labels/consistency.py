"""Targets for text without labels: the model's predictions for a changed copy of the text, or its earlier ones.

Letters: N texts, C labels. T is a step's share of the run in [0, 1] where it is called `progress`.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

# --- Consistency training (UDA) --------------------------------------------------------------------------------------


def divergence(
    original: Float[Array, "N C"], changed: Float[Array, "N C"], temperature: float, least: float
) -> Float[Array, " N"]:
    """KL(q || p): q is the sharpened prediction for the original and has no gradient, p that for the changed text.

    q = softmax(z / temperature); texts whose original has no label with a probability of `least` count 0.

    Args:
      original: logits of the texts.
      changed: logits of their augmentations.
      temperature: below 1 sharpens.
      least: in [0, 1).

    Returns:
      Nats, for each text.

    Source: Xie et al. 2020 (arXiv 1904.12848), section 2.2 and 2.3 (confidence masking, sharpening).
    """
    original = jax.lax.stop_gradient(original)
    log_q = jax.nn.log_softmax(original / temperature)
    each = jnp.sum(jnp.exp(log_q) * (log_q - jax.nn.log_softmax(changed)), axis=-1)
    return each * is_sure(original, least).astype(each.dtype)


def is_sure(original: Float[Array, "N C"], least: float) -> Bool[Array, " N"]:
    """Which texts have a label with a probability of at least `least`, by their logits."""
    return jnp.max(jax.nn.softmax(original), axis=-1) >= least


def guess_labels(logits: Float[Array, "N C"], changed: Num[Array, " N"], temperature: float) -> Float[Array, "N C"]:
    """Labels for texts that have none: predictions for a text and for its augmentation, averaged and sharpened.

    Args:
      logits: an augmentation follows its original.
      changed: 1 at augmentations.
      temperature: below 1 sharpens: q proportional to the average to the power of 1 / temperature.

    Returns:
      Probabilities, the same for both, without gradient.

    Source: Chen et al. 2020 (arXiv 2004.12239), equations 5 and 6, with one augmentation of the original's weight.
    """
    own = jax.nn.softmax(jax.lax.stop_gradient(logits))
    other = jnp.where(changed[:, None] > 0, jnp.roll(own, 1, axis=0), jnp.roll(own, -1, axis=0))
    return jax.nn.softmax(jnp.log((own + other) / 2) / temperature)


def released(
    right: Float[Array, "*N"], labels: int, progress: Float[Array, "*#N"], schedule: str
) -> Float[Array, "*N"]:
    """Which labelled examples still teach: those whose label has at most the probability that the schedule allows.

    The threshold rises from 1 / C to 1 along the run, so that a few examples are not learnt by heart while the
    unlabelled ones have hardly begun. Its share of that way is T (`linear`), 1 - exp(-5 T) (`log`) or exp(5 (T - 1))
    (`exp`); with `none` all examples teach.

    Args:
      right: log p_y.
      labels: C.
      progress: T.
      schedule: `none`, `linear`, `log`, `exp`.

    Returns:
      1 or 0, without gradient.

    Source: Xie et al. 2020 (arXiv 1904.12848), section 2.3 (training signal annealing).
    """
    way = {
        "none": jnp.ones_like(progress),
        "linear": progress,
        "log": 1 - jnp.exp(-5 * progress),
        "exp": jnp.exp(5 * (progress - 1)),
    }[schedule]
    threshold = way * (1 - 1 / labels) + 1 / labels
    allowed = jnp.exp(jax.lax.stop_gradient(right)) <= threshold
    return allowed.astype(jnp.float32) if schedule != "none" else jnp.ones_like(right)


# --- Temporal ensembling ---------------------------------------------------------------------------------------------


def ramp(progress: float, length: float) -> float:
    """exp(-5 (1 - T / length)^2), 1 from `length` on: how much of its weight a consistency loss has.

    Source: Laine and Aila 2017 (arXiv 1610.02242), appendix A.
    """
    return math.exp(-5 * (1 - min(1.0, progress / length)) ** 2) if length > 0 else 1.0


def squared(logits: Float[Array, "*N C"], targets: Float[Array, "*N C"]) -> Float[Array, "*N"]:
    """Mean over the labels of (softmax(z) - target)^2.

    Source: Laine and Aila 2017 (arXiv 1610.02242), algorithm 2.
    """
    return jnp.mean(jnp.square(jax.nn.softmax(logits) - targets), axis=-1)


def accumulate(
    ensemble: Float[np.ndarray, "N C"], epoch: Float[np.ndarray, "N C"], decay: float
) -> Float[np.ndarray, "N C"]:
    """Decay Z + (1 - decay) z: the average of predictions after an epoch.

    Source: Laine and Aila 2017 (arXiv 1610.02242), algorithm 2.
    """
    return (decay * ensemble + (1 - decay) * epoch).astype(np.float32)


def targets(ensemble: Float[np.ndarray, "N C"], decay: float, epochs: int) -> Float[np.ndarray, "N C"]:
    """Z / (1 - decay^t) after t >= 1 epochs: corrects for the start at zero, as Adam does."""
    return ensemble / np.float32(1 - decay**epochs)
