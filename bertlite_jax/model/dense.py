"""The matrix product that every layer uses, and the element-wise parts that go with it.

Mixed precision is decided here and nowhere else: parameters come in as float32, the mode (of
`choose_precision.resolve`) says in what the product is computed and what is kept for the backward pass.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.typing import DTypeLike

from bertlite_jax.model import precision
from bertlite_jax.model.precision import Compute, activation_dtype

Array = jax.Array
Joined = Array | tuple[Array, Array, Array]
"""Queries, keys and values: side by side in the last axis, or apart."""

MIN_SIZE = 64
"""`cpu_bfloat16` multiplies weights whose dimensions both have this size: XLA does not fuse all smaller products and
refuses some at run time, and they cost nothing anyway."""
MIN_ROWS = 16
"""And this many rows at once: one tile of AMX."""


def fits_cpu_bfloat16(rows: int, fan_in: int, fan_out: int) -> bool:
    """Whether `cpu_bfloat16` takes a product [rows, fan_in] x [fan_in, fan_out] and its gradients as bfloat16."""
    return rows >= MIN_ROWS and min(fan_in, fan_out) >= MIN_SIZE


@jax.named_scope("dense")
def matmul(x: Array, kernel: Array, compute: Compute) -> Array:
    """Product over the last axis of x, with all leading axes folded into one.

    Args:
      x: [..., In], any float dtype.
      kernel: [In, Out] float32.
      compute: float32: everything in float32. bfloat16, cpu_bfloat16: operands in bfloat16, sums and the gradient of
        the kernel in float32. Products that are too small for `cpu_bfloat16` stay float32.

    Returns:
      [..., Out] float32.
    """
    rows = x.reshape(-1, x.shape[-1])
    if _multiplies_bfloat16(rows, kernel, compute):
        y = _mixed(compute, rows.astype(jnp.bfloat16), kernel)
    else:
        y = rows.astype(jnp.float32) @ kernel
    return y.reshape(*x.shape[:-1], kernel.shape[1])


@jax.named_scope("dense")
def dense(x: Array, params: Mapping[str, Array], compute: Compute) -> Array:
    """x [..., In] times kernel [In, Out] plus bias [Out], in `activation_dtype(compute)`."""
    rows = x.reshape(-1, x.shape[-1])
    if _multiplies_bfloat16(rows, params["kernel"], compute):
        y = _affine(compute, rows.astype(jnp.bfloat16), params["kernel"], params["bias"])
    else:
        y = (rows.astype(jnp.float32) @ params["kernel"] + params["bias"]).astype(activation_dtype(compute))
    return y.reshape(*x.shape[:-1], -1)


@jax.named_scope("dense")
def activated(x: Array, kind: str, params: Mapping[str, Array], compute: Compute) -> Array:
    """`dense` of `activation(x, kind)`.

    On a TPU the activation is computed again in the backward pass, inside the products that need it, so that only x is
    kept. Elsewhere a product reads its operands from memory, and keeping both is faster.
    """
    if compute != "bfloat16" or precision.target_platform() != "tpu":
        return dense(activation(x, kind), params, compute)
    rows = x.astype(jnp.bfloat16).reshape(-1, x.shape[-1])
    return _activated(kind, rows, params["kernel"], params["bias"]).reshape(*x.shape[:-1], -1)


@jax.named_scope("dense")
def qkv(x: Array, params: Mapping[str, Mapping[str, Array]], compute: Compute) -> Joined:
    """Queries, keys and values in one product; the three kernels stay separate parameters.

    Args:
      x: [..., D].
      params: {query, key, value}, each {kernel [D, D], bias [D]}.

    Returns:
      [..., 3 D], side by side. Where XLA's partitioner splits the kernels along their outputs, three arrays [..., D] of
      as many products, since joined kernels would have to be dealt out anew.
    """
    parts = [params[name] for name in ("query", "key", "value")]
    if precision.partitioned():
        q, k, v = (dense(x, part, compute) for part in parts)
        return q, k, v
    joined = {name: jnp.concatenate([part[name] for part in parts], axis=-1) for name in ("kernel", "bias")}
    return dense(x, joined, compute)


# --- Products of bfloat16 ------------------------------------------------------------------------------------------
#
# On CPUs XLA hands a product to the library that knows AMX and AVX-512 only if it is bfloat16 x bfloat16 -> float32
# and the contracted axis of the first operand is minor in memory; it takes x @ kernel and dy @ kernel.T, but x.T @ dy
# only if x.T lies in memory as such. What XLA does not take it widens to float32 first, or refuses when it runs.


def _mixed_plain(compute: Compute, x: Array, kernel: Array) -> Array:
    """x [M, In] bfloat16 times kernel [In, Out] float32, rounded to bfloat16; float32."""
    return _mixed_forward(compute, x, kernel)[0]


def _mixed_forward(compute: Compute, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    small = kernel.astype(jnp.bfloat16)
    return _product(x, small, jnp.float32), _saved(compute, x, small)


def _saved(compute: Compute, x: Array, small: Array) -> tuple[Array, Array]:
    if compute == "cpu_bfloat16":
        # Transposed here, where x has just been computed, and as a pure copy: fused with anything else it takes six
        # times as long.
        x = with_layout_constraint(x.T, Layout((0, 1)))
    return keep(x), keep(small)


def _mixed_backward(compute: Compute, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, small = (kept(part) for part in saved)
    dy = dy.astype(jnp.bfloat16)
    dx = _product(dy, small, _sum_dtype(compute), axes=(1, 1)).astype(jnp.bfloat16)
    if compute == "bfloat16":
        return dx, _product(x, dy, jnp.float32, axes=(0, 0))
    # A caller may transpose the gradient (tied embeddings): XLA would move that into the product and swap its operands.
    return dx, jax.lax.optimization_barrier(_product(x, dy, jnp.float32))


_mixed = jax.custom_vjp(_mixed_plain, nondiff_argnums=(0,))
_mixed.defvjp(_mixed_forward, _mixed_backward)


def _affine_plain(compute: Compute, x: Array, kernel: Array, bias: Array) -> Array:
    """The same plus bias [Out]; bfloat16."""
    return _affine_forward(compute, x, kernel, bias)[0]


def _affine_forward(compute: Compute, x: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    small = kernel.astype(jnp.bfloat16)
    y = _product(x, small, _sum_dtype(compute)) + bias
    return y.astype(jnp.bfloat16), _saved(compute, x, small)


def _affine_backward(compute: Compute, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array, Array]:
    return *_mixed_backward(compute, saved, dy), jnp.sum(dy.astype(jnp.float32), axis=0)


_affine = jax.custom_vjp(_affine_plain, nondiff_argnums=(0,))
_affine.defvjp(_affine_forward, _affine_backward)


def _activated_plain(kind: str, x: Array, kernel: Array, bias: Array) -> Array:
    """`_affine` of the activation of x [M, In] bfloat16. Of both only x is kept; XLA makes the rest inside products."""
    return _affine_plain("bfloat16", _activation_plain(kind, x), kernel, bias)


def _activated_forward(kind: str, x: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return _activated_plain(kind, x, kernel, bias), (keep(x), keep(kernel.astype(jnp.bfloat16)))


def _activated_backward(kind: str, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array, Array]:
    active = _activation_plain(kind, kept(saved[0]))
    dactive, dkernel, dbias = _affine_backward("bfloat16", (active, saved[1]), dy)
    return *_activation_backward(kind, saved[0], dactive), dkernel, dbias


_activated = jax.custom_vjp(_activated_plain, nondiff_argnums=(0,))
_activated.defvjp(_activated_forward, _activated_backward)


def _product(left: Array, right: Array, out: DTypeLike, axes: tuple[int, int] = (1, 0)) -> Array:
    """Contracts one axis of each matrix; the result has dtype `out`."""
    return jax.lax.dot_general(left, right, (((axes[0],), (axes[1],)), ((), ())), preferred_element_type=out)


def _sum_dtype(compute: Compute) -> DTypeLike:
    """Result of a product that is stored as bfloat16: on CPUs float32 is fast; elsewhere bfloat16 saves a pass."""
    return jnp.float32 if compute == "cpu_bfloat16" else jnp.bfloat16


def _multiplies_bfloat16(rows: Array, kernel: Array, compute: Compute) -> bool:
    return compute == "bfloat16" or (compute == "cpu_bfloat16" and fits_cpu_bfloat16(rows.shape[0], *kernel.shape))


def keep(x: Array) -> Array:
    """x as it is kept for a later pass: bfloat16 as its bits, because XLA's CPU compiler widens what loops carry.

    On a TPU it would be a second copy beside the one that the next operation reads.
    """
    if x.dtype != jnp.bfloat16 or precision.target_platform() == "tpu":
        return x
    return jax.lax.bitcast_convert_type(x, jnp.int16)


def kept(x: Array) -> Array:
    """What `keep` was given."""
    return jax.lax.bitcast_convert_type(x, jnp.bfloat16) if x.dtype == jnp.int16 else x


def narrow(x: Array, kind: jnp.dtype) -> Array:
    """x float32 in `kind`, rounded to the nearest.

    On a CPU bfloat16 is rounded by integer arithmetic, ties away from zero. XLA's own conversion also takes care of
    NaNs with any payload, and holds up the loop that it is fused into; those that arithmetic makes stay NaNs here, too.
    Good for what one product reads next: loops that read the result several times would each compute x again.
    """
    if kind != jnp.bfloat16 or precision.target_platform() != "cpu":
        return x.astype(kind)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + jnp.uint32(0x8000)
    return jax.lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)


# --- Element-wise parts --------------------------------------------------------------------------------------------
#
# Computed in float32 from what is stored. Only their input is kept for the backward pass, where they are computed
# again: that is cheaper than writing and reading what autodiff would keep.


@jax.named_scope("activation")
def activation(x: Array, kind: str) -> Array:
    """The activation named in `Model.activation`, element-wise, same dtype as x.

    Source: Hendrycks and Gimpel (arXiv 1606.08415); tanh form: google-research/albert:modeling.py; erf form: Hugging
    Face BERT.
    """
    return _activation(kind, x)


def _activation_wide(kind: str, x: Array) -> Array:
    return jax.nn.relu(x) if kind == "relu" else jax.nn.gelu(x, approximate=kind == "gelu_tanh")


def _activation_plain(kind: str, x: Array) -> Array:
    return _activation_wide(kind, x.astype(jnp.float32)).astype(x.dtype)


def _activation_forward(kind: str, x: Array) -> tuple[Array, Array]:
    return _activation_plain(kind, x), keep(x)


def _activation_backward(kind: str, saved: Array, dy: Array) -> tuple[Array]:
    x = kept(saved)
    _, pull = jax.vjp(functools.partial(_activation_wide, kind), x.astype(jnp.float32))
    return (pull(dy.astype(jnp.float32))[0].astype(x.dtype),)


_activation = jax.custom_vjp(_activation_plain, nondiff_argnums=(0,))
_activation.defvjp(_activation_forward, _activation_backward)


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
    return ((wide - mean) * inverse * scale + bias).astype(x.dtype), (keep(x), mean, inverse, scale)


def _norm_backward(epsilon: float, saved: tuple[Array, ...], dy: Array) -> tuple[Array, Array, Array]:
    del epsilon
    x, mean, inverse, scale = kept(saved[0]), *saved[1:]
    dy = dy.astype(jnp.float32)
    normal = (x.astype(jnp.float32) - mean) * inverse
    dnormal = dy * scale
    along = jnp.mean(dnormal, axis=-1, keepdims=True) + normal * jnp.mean(dnormal * normal, axis=-1, keepdims=True)
    rows = tuple(range(x.ndim - 1))
    return ((dnormal - along) * inverse).astype(x.dtype), jnp.sum(dy * normal, rows), jnp.sum(dy, rows)


_norm = jax.custom_vjp(_norm_plain, nondiff_argnums=(0,))
_norm.defvjp(_norm_forward, _norm_backward)
