"""Adam's direction, as optax has it and as the BERT release computes it, and what is done around it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from bertlite_jax.train.optimizers.names import is_stacked


class AdamState(NamedTuple):
    """What Adam remembers."""

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride] tuples have a method of this name
    """Updates so far."""
    mu: optax.Updates
    """First moments, as the parameters."""
    nu: optax.Updates
    """Second moments, as the parameters."""


def clip_by_global_norm(largest: float) -> optax.GradientTransformation:
    """Multiplies all gradients by min(1, largest / norm), norm being that of all of them together.

    One multiplication an element, which joins Adam's loop. `optax.clip_by_global_norm` divides and writes the clipped
    gradients out: with AdamW and ALBERT base on a CPU the whole update takes nearly twice as long.

    Source: Pascanu et al. 2013 (arXiv 1211.5063).
    """

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None) -> tuple[optax.Updates, Any]:
        del params
        factor = jnp.minimum(1.0, largest / optax.tree.norm(updates))
        return jax.tree.map(lambda g: g * factor, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def scale_by_adam_corrected(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam with bias correction; optax raises a float to the power of an integer there."""
    return promoting(optax.scale_by_adam(b1, b2, eps))


def promoting(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same transformation under JAX's standard promotion of dtypes, whatever is set outside."""

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None) -> tuple[optax.Updates, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return transformation.update(updates, state, params)

    return optax.GradientTransformation(transformation.init, update)


def scale_by_adam_as_released(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam without bias correction: u = m / (sqrt(v) + eps).

    Source: google-research/bert:optimization.py.
    """

    def init(params: optax.Params) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros([], jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params))

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None) -> tuple[optax.Updates, Any]:
        del params
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.nu, updates)
        scaled = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
        return scaled, AdamState(jnp.asarray(optax.safe_increment(state.count)), mu, nu)

    return optax.GradientTransformation(init, update)


# --- StableAdamW -----------------------------------------------------------------------------------------------------


def clip_updates(
    inner: optax.GradientTransformation, largest: float, b2: float, eps: float
) -> optax.GradientTransformation:
    """Divides the learning rate of each tensor by max(1, RMS / largest), and that of each layer of a stacked one.

    RMS is the root mean square of g / sqrt(v), about 1 while v knows the gradients' size and far above it where they
    have grown since: the second moment lags behind by 1 / (1 - b2) updates. Weight decay is part of the update, so it
    shrinks too, and so does LAMB's step, whose trust ratio would undo what comes before it.

    Args:
      inner: chain that begins with Adam and ends before the learning rate.
      largest: RMS up to which nothing changes; 1 in the paper.
      b2: decay of v; v counts as corrected for its start at 0, whether `inner` corrects it or not.
      eps: smallest sqrt(v) that counts.

    Source: Wortsman et al. 2023 (arXiv 2304.13013), algorithm 2 (StableAdamW); Shazeer and Stern 2018
    (arXiv 1804.04235), section 6, for the threshold.
    """

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None) -> tuple[optax.Updates, Any]:
        scaled, state = inner.update(updates, state, params)
        adam = state[0]
        correction = 1.0 - jnp.float32(b2) ** adam.count.astype(jnp.float32)

        def shrink(path: tuple[Any, ...], u: Array, g: Array, v: Array) -> Array:
            rms = gradient_rms(g, v / correction, eps, is_stacked(path))
            return u / jnp.maximum(1.0, rms / largest)

        return jax.tree_util.tree_map_with_path(shrink, scaled, updates, adam.nu), state

    return optax.GradientTransformation(inner.init, update)


def gradient_rms(
    gradient: Float[Array, "*S"], second_moment: Float[Array, "*S"], eps: float, stacked: bool
) -> Float[Array, " ..."]:
    """sqrt(mean(g^2 / max(v, eps^2))), of the whole tensor or of each index of axis 0.

    What never had a gradient does not count, so that rows that pad the vocabulary change nothing.

    Returns:
      A shape that broadcasts to the gradient's: all axes 1, but for axis 0 where stacked.
    """
    axes = tuple(range(int(stacked), gradient.ndim))
    count = jnp.sum(second_moment > 0, axis=axes, keepdims=True).astype(gradient.dtype)
    ratios = jnp.square(gradient) / jnp.maximum(second_moment, eps**2)
    return jnp.sqrt(jnp.sum(ratios, axis=axes, keepdims=True) / jnp.maximum(count, 1.0))
