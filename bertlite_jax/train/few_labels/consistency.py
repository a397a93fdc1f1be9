"""What a model should say of text without labels: what it says of the same text changed, or said of it before.

Letters: N texts, C labels. T is a step's share of the run in [0, 1] where it is called `progress`.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# --- Consistency training (UDA) --------------------------------------------------------------------------------------


def divergence(original: Array, changed: Array, temperature: float, least: float) -> Array:
    """KL(q || p), with q the sharpened prediction for the original, which learns nothing from it, and p the changed
    text's.

    q = softmax(z / temperature); texts whose original has no label with a probability of `least` count 0.

    Args:
      original, changed: [N, C] logits.
      temperature: below 1 sharpens.
      least: in [0, 1).

    Returns:
      [N] nats.

    Source: Xie et al. 2020 (arXiv 1904.12848), section 2.2 and 2.3 (confidence masking, sharpening).
    """
    original = jax.lax.stop_gradient(original)
    log_q = jax.nn.log_softmax(original / temperature)
    each = jnp.sum(jnp.exp(log_q) * (log_q - jax.nn.log_softmax(changed)), axis=-1)
    return each * (jnp.max(jax.nn.softmax(original), axis=-1) >= least)


def guessed(logits: Array, changed: Array, temperature: float) -> Array:
    """Labels for texts that have none: what the model says of a text and of its augmentation, averaged and sharpened.

    Args:
      logits: [N, C]; an augmentation follows its original.
      changed: [N], 1 at augmentations.
      temperature: below 1 sharpens: q proportional to the average to the power of 1 / temperature.

    Returns:
      [N, C] probabilities, the same for both, without gradient.

    Source: Chen et al. 2020 (arXiv 2004.12239), equations 5 and 6, with one augmentation of the original's weight.
    """
    said = jax.nn.softmax(jax.lax.stop_gradient(logits))
    other = jnp.where(changed[:, None] > 0, jnp.roll(said, 1, axis=0), jnp.roll(said, -1, axis=0))
    return jax.nn.softmax(jnp.log((said + other) / 2) / temperature)


def released(right: Array, labels: int, progress: Array, schedule: str) -> Array:
    """Which labelled examples still teach: those whose label has at most the probability that the schedule allows.

    The threshold rises from 1 / C to 1 along the run, so that few examples are not learnt by heart while the
    unlabelled ones have hardly begun: a T, with a = T (linear), 1 - exp(-5 T) (log), exp(5 (T - 1)) (exp), is the way
    from the one to the other. `none` lets all teach.

    Args:
      right: [...] log p_y.
      labels: C.
      progress: [...] T.
      schedule: `none`, `linear`, `log`, `exp`.

    Returns:
      [...] 1 or 0, without gradient.

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


def squared(logits: Array, targets: Array) -> Array:
    """Mean over the labels of (softmax(z) - target)^2: [..., C], [..., C] -> [...].

    Source: Laine and Aila 2017 (arXiv 1610.02242), algorithm 2.
    """
    return jnp.mean(jnp.square(jax.nn.softmax(logits) - targets), axis=-1)


def accumulate(ensemble: np.ndarray, epoch: np.ndarray, decay: float) -> np.ndarray:
    """Decay Z + (1 - decay) z: the average of predictions after an epoch, [N, C].

    Source: Laine and Aila 2017 (arXiv 1610.02242), algorithm 2.
    """
    return (decay * ensemble + (1 - decay) * epoch).astype(np.float32)


def targets(ensemble: np.ndarray, decay: float, epochs: int) -> np.ndarray:
    """Z / (1 - decay^t) after t >= 1 epochs: corrects for the start at zero, as Adam does. [N, C]."""
    return ensemble / np.float32(1 - decay**epochs)


# --- Distillation ----------------------------------------------------------------------------------------------------


def distilled(logits: Array, teacher: Array, temperature: float) -> Array:
    """T^2 KL(softmax(t / T) || softmax(z / T)): [..., C], [..., C] -> [...].

    T^2 keeps the gradient's size, whatever the temperature.

    Source: Hinton et al. 2015 (arXiv 1503.02531), section 2.
    """
    log_t = jax.nn.log_softmax(jax.lax.stop_gradient(teacher) / temperature)
    log_p = jax.nn.log_softmax(logits / temperature)
    return temperature**2 * jnp.sum(jnp.exp(log_t) * (log_t - log_p), axis=-1)
