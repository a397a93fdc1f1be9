"""The matrix product that every layer uses.

Mixed precision is decided here and nowhere else: parameters come in as float32, the mode (of
`choose_precision.resolve`) says in what the product is computed and what is kept for the backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.typing import DTypeLike

from bertlite_jax.model.ops import precision
from bertlite_jax.model.ops.elementwise import activation, activation_backward, activation_plain
from bertlite_jax.model.ops.precision import Compute, activation_dtype
from bertlite_jax.model.ops.stored_bits import load_bits, store_bits

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
    """X [..., In] times kernel [In, Out] plus bias [Out], in `activation_dtype(compute)`."""
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
    """X [M, In] bfloat16 times kernel [In, Out] float32, rounded to bfloat16; float32."""
    return _mixed_forward(compute, x, kernel)[0]


def _mixed_forward(compute: Compute, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    small = kernel.astype(jnp.bfloat16)
    return _product(x, small, jnp.float32), _saved(compute, x, small)


def _saved(compute: Compute, x: Array, small: Array) -> tuple[Array, Array]:
    if compute == "cpu_bfloat16":
        # Transposed here, where x has just been computed, and as a pure copy: fused with anything else it takes six
        # times as long.
        x = with_layout_constraint(x.T, Layout((0, 1)))
    return store_bits(x), store_bits(small)


def _mixed_backward(compute: Compute, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, small = (load_bits(part) for part in saved)
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
    return _affine_plain("bfloat16", activation_plain(kind, x), kernel, bias)


def _activated_forward(kind: str, x: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return _activated_plain(kind, x, kernel, bias), (store_bits(x), store_bits(kernel.astype(jnp.bfloat16)))


def _activated_backward(kind: str, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array, Array]:
    active = activation_plain(kind, load_bits(saved[0]))
    dactive, dkernel, dbias = _affine_backward("bfloat16", (active, saved[1]), dy)
    return *activation_backward(kind, saved[0], dactive), dkernel, dbias


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
