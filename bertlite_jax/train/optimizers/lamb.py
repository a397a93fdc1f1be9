"""LAMB's trust ratio, one for each layer of a stacked parameter.

`optax.lamb` differs in three ways: it corrects the bias, its mask exempts from decay but not from the trust ratio, and
it takes one norm over all layers of a stacked parameter.

Source: You et al. 2020 (arXiv 1904.00962); google-research/albert:lamb_optimizer.py.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bertlite_jax.train.optimizers.names import is_stacked


def scale_by_trust_ratio(mask: Any) -> optax.GradientTransformation:
    """Multiplies every update by |p| / |u|, one ratio for each layer of a stacked parameter.

    Args:
      mask: tree of bools; updates where it is False pass unchanged.
    """

    def update(updates: optax.Updates, state: Any, params: optax.Params | None = None) -> tuple[optax.Updates, Any]:
        if params is None:
            raise ValueError("the trust ratio needs the parameters: update(updates, state, params)")

        def scale(path: tuple[Any, ...], adapt: bool, u: Array, p: Array) -> Array:
            return u * trust_ratio(p, u, stacked=is_stacked(path)) if adapt else u

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
