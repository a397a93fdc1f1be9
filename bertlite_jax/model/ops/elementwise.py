"""The parts of a layer between its products: activations and LayerNorm.

Computed in float32 from what is stored. Only their input is kept for the backward pass, where they are computed again:
that is cheaper than writing and reading what autodiff would keep.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from bertlite_jax.model.ops.stored_bits import load_bits, store_bits

Array = jax.Array


@jax.named_scope("activation")
def activation(x: Array, kind: str) -> Array:
    """The activation named in `Model.activation`, element-wise, same dtype as x.

    Source: Hendrycks and Gimpel (arXiv 1606.08415); tanh form: google-research/albert:modeling.py; erf form: Hugging
    Face BERT.
    """
    return _activation(kind, x)


def _activation_wide(kind: str, x: Array) -> Array:
    return jax.nn.relu(x) if kind == "relu" else jax.nn.gelu(x, approximate=kind == "gelu_tanh")


def activation_plain(kind: str, x: Array) -> Array:
    return _activation_wide(kind, x.astype(jnp.float32)).astype(x.dtype)


def _activation_forward(kind: str, x: Array) -> tuple[Array, Array]:
    return activation_plain(kind, x), store_bits(x)


def activation_backward(kind: str, saved: Array, dy: Array) -> tuple[Array]:
    x = load_bits(saved)
    _, pull = jax.vjp(functools.partial(_activation_wide, kind), x.astype(jnp.float32))
    return (pull(dy.astype(jnp.float32))[0].astype(x.dtype),)


_activation = jax.custom_vjp(activation_plain, nondiff_argnums=(0,))


_activation.defvjp(_activation_forward, activation_backward)


@jax.named_scope("norm")
def layer_norm(x: Array, params: Mapping[str, Array], epsilon: float) -> Array:
    """Normalises the last axis in float32.

    Args:
      x: [..., D], any float dtype.
      params: {scale [D], bias [D]}.
      epsilon: added to the variance.

    Returns:
      [..., D], dtype of x.

    Source: Ba et al. (arXiv 1607.06450).
    """
    return _norm(epsilon, x, params["scale"], params["bias"])


def _norm_plain(epsilon: float, x: Array, scale: Array, bias: Array) -> Array:
    return _norm_forward(epsilon, x, scale, bias)[0]


def _norm_forward(epsilon: float, x: Array, scale: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(wide - mean), axis=-1, keepdims=True) + epsilon)
    return ((wide - mean) * inverse * scale + bias).astype(x.dtype), (store_bits(x), mean, inverse, scale)


def _norm_backward(epsilon: float, saved: tuple[Array, ...], dy: Array) -> tuple[Array, Array, Array]:
    del epsilon
    x, mean, inverse, scale = load_bits(saved[0]), *saved[1:]
    dy = dy.astype(jnp.float32)
    normal = (x.astype(jnp.float32) - mean) * inverse
    dnormal = dy * scale
    along = jnp.mean(dnormal, axis=-1, keepdims=True) + normal * jnp.mean(dnormal * normal, axis=-1, keepdims=True)
    rows = tuple(range(x.ndim - 1))
    return ((dnormal - along) * inverse).astype(x.dtype), jnp.sum(dy * normal, rows), jnp.sum(dy, rows)


_norm = jax.custom_vjp(_norm_plain, nondiff_argnums=(0,))


_norm.defvjp(_norm_forward, _norm_backward)
