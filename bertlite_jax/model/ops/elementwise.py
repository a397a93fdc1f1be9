"""The parts of a layer between its products: activations and LayerNorm.

Computed in float32 from what is stored. Only their input is kept for the backward pass, where they are computed again:
that is cheaper than writing and reading what autodiff would keep.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32, Shaped

from bertlite_jax.model.ops.arrays import AnyArray
from bertlite_jax.model.ops.stored_bits import load_bits, store_bits


@jax.named_scope("activation")
def activation(x: Float[Array, "*shape"], kind: str) -> Float[Array, "*shape"]:
    """The activation that `Model.activation` names, element-wise; the dtype of x stays.

    Source: Hendrycks and Gimpel (arXiv 1606.08415); tanh form: google-research/albert:modeling.py; erf form: Hugging
    Face BERT.
    """
    return _activation(kind, x)


def _activation_wide(kind: str, x: Float32[Array, "*shape"]) -> Float32[Array, "*shape"]:
    if kind == "gelu_erf":
        return 0.5 * x * _erfc(-x * math.sqrt(0.5))
    return jax.nn.relu(x) if kind == "relu" else jax.nn.gelu(x, approximate=True)


@jax.custom_jvp
def _erfc(x: Float32[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """1 - erf(x), differentiated by formula: what JAX 0.12 does instead cannot be used inside `jax.shard_map`."""
    return jax.lax.erfc(x)


@_erfc.defjvp
def _erfc_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (slope,) = primals, tangents
    return _erfc(x), -2 / math.sqrt(math.pi) * (slope * jnp.exp(-jnp.square(x)))


def activation_plain(kind: str, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`activation` as autodiff sees it, for those that write its gradient themselves."""
    return _activation_wide(kind, x.astype(jnp.float32)).astype(x.dtype)


def _activation_forward(kind: str, x: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Shaped[Array, "*shape"]]:
    return activation_plain(kind, x), store_bits(x)


def activation_backward(
    kind: str, saved: Shaped[Array, "*shape"], dy: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"]]:
    """The gradient of `activation` for the bits of its input and the gradient of its result."""
    x = load_bits(saved)
    _, pull = jax.vjp(functools.partial(_activation_wide, kind), x.astype(jnp.float32))
    return (pull(dy.astype(jnp.float32))[0].astype(x.dtype),)


_activation = jax.custom_vjp(activation_plain, nondiff_argnums=(0,))


_activation.defvjp(_activation_forward, activation_backward)


@jax.named_scope("norm")
def layer_norm(
    x: Float[Array, "*rows D"], params: Mapping[str, Float32[AnyArray, " D"]], epsilon: float
) -> Float[Array, "*rows D"]:
    """Normalises the last axis in float32.

    Args:
      x: any float dtype, which the result has too.
      params: `scale` and `bias`.
      epsilon: added to the variance.

    Source: Ba et al. (arXiv 1607.06450).
    """
    return _norm(epsilon, x, jnp.asarray(params["scale"]), jnp.asarray(params["bias"]))


def _norm_plain(
    epsilon: float, x: Float[Array, "*rows D"], scale: Float32[Array, " D"], bias: Float32[Array, " D"]
) -> Float[Array, "*rows D"]:
    return _norm_forward(epsilon, x, scale, bias)[0]


def _norm_forward(
    epsilon: float, x: Float[Array, "*rows D"], scale: Float32[Array, " D"], bias: Float32[Array, " D"]
) -> tuple[Float[Array, "*rows D"], tuple[Array, ...]]:
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(wide - mean), axis=-1, keepdims=True) + epsilon)
    scaled = (wide - mean) * inverse * jax.lax.broadcast_to_rank(scale, x.ndim)
    return (scaled + jax.lax.broadcast_to_rank(bias, x.ndim)).astype(x.dtype), (store_bits(x), mean, inverse, scale)


def _norm_backward(
    epsilon: float, saved: tuple[Array, ...], dy: Float[Array, "*rows D"]
) -> tuple[Float[Array, "*rows D"], Float32[Array, " D"], Float32[Array, " D"]]:
    del epsilon
    x, mean, inverse, scale = load_bits(saved[0]), *saved[1:]
    dy = dy.astype(jnp.float32)
    normal = (x.astype(jnp.float32) - mean) * inverse
    dnormal = dy * jax.lax.broadcast_to_rank(scale, x.ndim)
    along = jnp.mean(dnormal, axis=-1, keepdims=True) + normal * jnp.mean(dnormal * normal, axis=-1, keepdims=True)
    rows = tuple(range(x.ndim - 1))
    return ((dnormal - along) * inverse).astype(x.dtype), jnp.sum(dy * normal, rows), jnp.sum(dy, rows)


_norm = jax.custom_vjp(_norm_plain, nondiff_argnums=(0,))


_norm.defvjp(_norm_forward, _norm_backward)
