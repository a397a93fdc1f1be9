"""LAMB and AdamW as the ALBERT and BERT releases compute them.

With gradient g (clipped to a global norm), parameter p and learning rate a, element by element:

    m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2
    u = m / (sqrt(v) + eps) + wd p
    p = p - a r u                r = |p| / |u| under LAMB (1 where either norm is 0), 1 under AdamW

The papers correct m and v for their zero start, the releases do not; `bias_correction` adds it. LAMB's first version
also limits |p|, which the release does not. Biases and LayerNorm parameters get neither weight decay nor a trust
ratio: their norms start at or near 0, and the ratio would freeze them.

`optax.lamb` differs in three ways: it corrects the bias, its mask exempts from decay but not from the trust ratio, and
it takes one norm over all layers of a stacked parameter.

Source: You et al. 2020 (arXiv 1904.00962); google-research/albert:lamb_optimizer.py and optimization.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from bertlite_jax.config.pretrain import Optim
from bertlite_jax.train.schedules import schedule

STACKED = "layers"
"""Parameters under this key have the layers on axis 0."""

DECAYED = ("kernel", "embedding")
EXEMPT = ("scale", "bias")


class AdamState(NamedTuple):
    """What Adam remembers."""

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride] tuples have a method of this name
    """Updates so far."""
    mu: optax.Updates
    """First moments, as the parameters."""
    nu: optax.Updates
    """Second moments, as the parameters."""


def make_optimizer(optim: Optim, steps: int, batch_rows: int, params: Any) -> optax.GradientTransformation:
    """Clipping, Adam, decoupled weight decay, trust ratio (LAMB), learning rate, in this order.

    The norms are sums over whole parameters. Under jit they are right however the parameters are sharded; inside a
    `shard_map` that splits parameters they would not be.

    Args:
      optim: the settings.
      steps: updates in the run, T of the schedule.
      batch_rows: rows in the global batch.
      params: parameters or their shapes; only names and structure are used.

    Raises:
      ValueError: a parameter has a name for which no rule says whether it is decayed.
    """
    mask = decay_mask(params)
    adam = scale_by_adam_corrected if optim.bias_correction else scale_by_adam_as_released
    parts = [clip_by_global_norm(optim.clip_norm)] if optim.clip_norm > 0 else []
    parts += [adam(optim.beta1, optim.beta2, optim.epsilon), optax.add_decayed_weights(optim.weight_decay, mask)]
    parts += [scale_by_trust_ratio(mask)] if optim.name == "lamb" else []
    parts += [optax.scale_by_learning_rate(schedule(optim, steps, batch_rows))]
    return optax.chain(*parts)


def decay_mask(params: Any) -> Any:
    """A tree of bools in the shape of `params`: True for kernels and embeddings, False for biases and LayerNorm.

    The release matches `LayerNorm`, `layer_norm` and `bias` in variable names; here the last name decides, and the bias
    over the vocabulary is a bias too.

    Raises:
      ValueError: for a last name that is neither.
    """

    def decays(path: tuple[Any, ...], _: Any) -> bool:
        name = _names(path)[-1]
        if name not in DECAYED + EXEMPT:
            raise ValueError(
                f"no decay rule for parameter {'/'.join(_names(path))}: its name should be one of {DECAYED + EXEMPT}"
            )
        return name in DECAYED

    return jax.tree_util.tree_map_with_path(decays, params)


def _names(path: tuple[Any, ...]) -> list[str]:
    return [str(getattr(key, "key", getattr(key, "name", key))) for key in path]


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


def scale_by_trust_ratio(mask: Any) -> optax.GradientTransformation:
    """Multiplies every update by |p| / |u|, one ratio for each layer of a stacked parameter.

    Args:
      mask: tree of bools; updates where it is False pass unchanged.
    """

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None) -> tuple[optax.Updates, Any]:
        if params is None:
            raise ValueError("the trust ratio needs the parameters: update(updates, state, params)")

        def scale(path: tuple[Any, ...], adapt: bool, u: Array, p: Array) -> Array:
            return u * trust_ratio(p, u, stacked=STACKED in _names(path)) if adapt else u

        return jax.tree_util.tree_map_with_path(scale, mask, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def trust_ratio(param: Float[Array, "*S"], update: Float[Array, "*S"], stacked: bool) -> Float[Array, " ..."]:
    """|param| / |update|, 1 where either is 0.

    Args:
      param: one parameter, or those of all layers stacked on axis 0.
      update: what would be added to it.
      stacked: whether each index of axis 0 is a layer with a ratio of its own.

    Returns:
      A shape that broadcasts to the parameter's: all axes 1, but for axis 0 where stacked.
    """
    axes = tuple(range(int(stacked), param.ndim))
    param_norm = jnp.sqrt(jnp.sum(jnp.square(param), axis=axes, keepdims=True))
    update_norm = jnp.sqrt(jnp.sum(jnp.square(update), axis=axes, keepdims=True))
    usable = (param_norm > 0) & (update_norm > 0)
    return jnp.where(usable, param_norm / jnp.where(usable, update_norm, 1.0), 1.0)
