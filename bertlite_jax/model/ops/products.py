"""The matrix product that every layer uses.

Mixed precision is decided here and nowhere else: parameters come in as float32, and the mode (from
`choose_precision.resolve`) says how the product is computed and what is stored for the backward pass.

Letters: M rows, In and Out the sides of a kernel, D hidden.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.layout import Layout, with_layout_constraint
from jax.typing import DTypeLike
from jaxtyping import BFloat16, Float, Float32, Shaped

from bertlite_jax.model.ops import integer_products, precision
from bertlite_jax.model.ops.arrays import AnyArray
from bertlite_jax.model.ops.elementwise import activation, activation_backward, activation_plain
from bertlite_jax.model.ops.integer_grid import MIDDLE, zero_after
from bertlite_jax.model.ops.precision import Compute, activation_dtype
from bertlite_jax.model.ops.stored_bits import load_bits, store_bits

Joined = Float[Array, "*rows qkv"] | tuple[Float[Array, "*rows D"], Float[Array, "*rows D"], Float[Array, "*rows D"]]
"""Queries, keys and values: side by side in the last axis, or apart."""

MIN_SIZE = 64
"""`cpu_bfloat16` multiplies weights whose dimensions both have at least this size: XLA does not fuse all smaller
products and refuses some at run time, and they cost nothing anyway."""
MIN_ROWS = 16
"""Rows that `cpu_bfloat16` needs at once: one tile of AMX."""


def fits_cpu_bfloat16(rows: int, fan_in: int, fan_out: int) -> bool:
    """Whether `cpu_bfloat16` takes a product [rows, fan_in] x [fan_in, fan_out] and its gradients as bfloat16."""
    return rows >= MIN_ROWS and min(fan_in, fan_out) >= MIN_SIZE


@jax.named_scope("dense")
def matmul(
    x: Float[Array, "*rows In"], kernel: Float32[AnyArray, "In Out"], compute: Compute
) -> Float32[Array, "*rows Out"]:
    """Product over the last axis of x, with all leading axes folded into one.

    Args:
      x: any float dtype.
      kernel: the parameter.
      compute: float32: everything in float32. bfloat16, cpu_bfloat16: operands in bfloat16, sums and the gradient of
        the kernel in float32. Products that are too small for `cpu_bfloat16` stay float32, and so do those in modes of
        integers: a kernel without a bias is multiplied with in both directions, and files keep it in float32.
    """
    rows, kernel = x.reshape(-1, x.shape[-1]), jnp.asarray(kernel)
    if _multiplies_bfloat16(rows, kernel, compute):
        y = _mixed(compute, rows.astype(jnp.bfloat16), kernel)
    else:
        y = rows.astype(jnp.float32) @ kernel
    return y.reshape(*x.shape[:-1], kernel.shape[1])


@jax.named_scope("dense")
def dense(
    x: Float[Array, "*rows In"], params: Mapping[str, Float32[AnyArray, "*shape"]], compute: Compute, zero: int = MIDDLE
) -> Float[Array, "*rows Out"]:
    """X times `kernel` [In, Out] plus `bias` [Out], in `activation_dtype(compute)`.

    `zero` stands for 0 among the unsigned steps of x, where integers are multiplied.
    """
    rows, kernel, bias = x.reshape(-1, x.shape[-1]), jnp.asarray(params["kernel"]), jnp.asarray(params["bias"])
    if precision.rounds_rows_alone(compute):
        y = integer_products.dense_of_rounded_rows(zero, rows.astype(jnp.float32), kernel, bias)
    elif bits := precision.weight_bits(compute):
        y = integer_products.dense(bits, zero, rows.astype(jnp.float32), kernel, bias)
    elif _multiplies_bfloat16(rows, kernel, compute):
        y = _affine(compute, rows.astype(jnp.bfloat16), kernel, bias)
    else:
        y = (rows.astype(jnp.float32) @ kernel + bias[None]).astype(activation_dtype(compute))
    return y.reshape(*x.shape[:-1], -1)


@jax.named_scope("dense")
def activated(
    x: Float[Array, "*rows In"], kind: str, params: Mapping[str, Float32[AnyArray, "*shape"]], compute: Compute
) -> Float[Array, "*rows Out"]:
    """`dense` of `activation(x, kind)`.

    On a TPU the activation is computed again in the backward pass, inside the products that need it, so that only x is
    stored. Elsewhere a product reads its operands from memory, and storing both is faster.
    """
    if compute != "bfloat16" or precision.target_platform() != "tpu":
        return dense(activation(x, kind), params, compute, zero_after(kind))
    rows = x.astype(jnp.bfloat16).reshape(-1, x.shape[-1])
    kernel, bias = jnp.asarray(params["kernel"]), jnp.asarray(params["bias"])
    return _activated(kind, rows, kernel, bias).reshape(*x.shape[:-1], -1)


@jax.named_scope("dense")
def qkv(
    x: Float[Array, "*rows D"], params: Mapping[str, Mapping[str, Float32[AnyArray, "*shape"]]], compute: Compute
) -> Joined:
    """Queries, keys and values in one product; the three kernels stay separate parameters.

    Args:
      x: hidden states.
      params: `query`, `key` and `value`, each with a `kernel` [D, D] and a `bias` [D].
      compute: mode of the product.

    Returns:
      The three side by side. Where XLA's partitioner splits the kernels along their outputs, three arrays of three
      products, since joined kernels would have to be distributed again.
    """
    parts = [params[name] for name in ("query", "key", "value")]
    if precision.partitioned():
        q, k, v = (dense(x, part, compute) for part in parts)
        return q, k, v
    joined = {name: jnp.concatenate([part[name] for part in parts], axis=-1) for name in ("kernel", "bias")}
    return dense(x, joined, compute)


def decode(
    x: Float[Array, "*rows E"], table: Float32[AnyArray, "V E"], bias: Float32[AnyArray, " V"], compute: Compute
) -> Float32[Array, "*rows V"]:
    """X times the transposed word table plus `bias`, float32; integers with a scale for each row of the table."""
    if precision.weight_bits(compute):
        return dense(x, {"kernel": jnp.asarray(table).T, "bias": bias}, compute)
    return matmul(x, jnp.asarray(table).T, compute) + jax.lax.broadcast_to_rank(jnp.asarray(bias), x.ndim)


# --- Products of bfloat16 ------------------------------------------------------------------------------------------
#
# On CPUs XLA hands a product to the library that knows AMX and AVX-512 only if it is bfloat16 x bfloat16 -> float32
# and the contracted axis of the first operand is minor in memory; it takes x @ kernel and dy @ kernel.T, but x.T @ dy
# only if x.T lies in memory as such. Other products XLA widens to float32 first, or refuses when they run.


def _mixed_plain(
    compute: Compute, x: BFloat16[Array, "M In"], kernel: Float32[Array, "In Out"]
) -> Float32[Array, "M Out"]:
    """X times the kernel, which is rounded to bfloat16."""
    return _mixed_forward(compute, x, kernel)[0]


def _mixed_forward(
    compute: Compute, x: BFloat16[Array, "M In"], kernel: Float32[Array, "In Out"]
) -> tuple[Float32[Array, "M Out"], tuple[Array, Array]]:
    small = kernel.astype(jnp.bfloat16)
    return _product(x, small, jnp.float32), _saved(compute, x, small)


def _saved(
    compute: Compute, x: BFloat16[Array, "M In"], small: BFloat16[Array, "In Out"]
) -> tuple[Shaped[Array, "_ _"], Shaped[Array, "In Out"]]:
    if compute == "cpu_bfloat16":
        # Transposed here, where x has just been computed, and as a pure copy: fused with anything else it takes six
        # times as long.
        x = with_layout_constraint(x.T, Layout((0, 1)))
    return store_bits(x), store_bits(small)


def _mixed_backward(
    compute: Compute, saved: tuple[Array, Array], dy: Float[Array, "M Out"]
) -> tuple[BFloat16[Array, "M In"], Float32[Array, "In Out"]]:
    x, small = (load_bits(part) for part in saved)
    dy = dy.astype(jnp.bfloat16)
    dx = _product(dy, small, _sum_dtype(compute), axes=(1, 1)).astype(jnp.bfloat16)
    if compute == "bfloat16":
        return dx, _product(x, dy, jnp.float32, axes=(0, 0))
    # A caller may transpose the gradient (tied embeddings): XLA would move that into the product and swap its operands.
    return dx, jax.lax.optimization_barrier(_product(x, dy, jnp.float32))


_mixed = jax.custom_vjp(_mixed_plain, nondiff_argnums=(0,))
_mixed.defvjp(_mixed_forward, _mixed_backward)


def _affine_plain(
    compute: Compute, x: BFloat16[Array, "M In"], kernel: Float32[Array, "In Out"], bias: Float32[Array, " Out"]
) -> BFloat16[Array, "M Out"]:
    """The same plus the bias."""
    return _affine_forward(compute, x, kernel, bias)[0]


def _affine_forward(
    compute: Compute, x: BFloat16[Array, "M In"], kernel: Float32[Array, "In Out"], bias: Float32[Array, " Out"]
) -> tuple[BFloat16[Array, "M Out"], tuple[Array, Array]]:
    small = kernel.astype(jnp.bfloat16)
    y = _product(x, small, _sum_dtype(compute)).astype(jnp.float32) + bias[None]
    return y.astype(jnp.bfloat16), _saved(compute, x, small)


def _affine_backward(
    compute: Compute, saved: tuple[Array, Array], dy: BFloat16[Array, "M Out"]
) -> tuple[BFloat16[Array, "M In"], Float32[Array, "In Out"], Float32[Array, " Out"]]:
    return *_mixed_backward(compute, saved, dy), jnp.sum(dy.astype(jnp.float32), axis=0)


_affine = jax.custom_vjp(_affine_plain, nondiff_argnums=(0,))
_affine.defvjp(_affine_forward, _affine_backward)


def _activated_plain(
    kind: str, x: BFloat16[Array, "M In"], kernel: Float32[Array, "In Out"], bias: Float32[Array, " Out"]
) -> BFloat16[Array, "M Out"]:
    """`_affine` of the activation of x. Of the two only x is stored; XLA makes the rest inside products."""
    return _affine_plain("bfloat16", activation_plain(kind, x), kernel, bias)


def _activated_forward(
    kind: str, x: BFloat16[Array, "M In"], kernel: Float32[Array, "In Out"], bias: Float32[Array, " Out"]
) -> tuple[BFloat16[Array, "M Out"], tuple[Array, Array]]:
    return _activated_plain(kind, x, kernel, bias), (store_bits(x), store_bits(kernel.astype(jnp.bfloat16)))


def _activated_backward(
    kind: str, saved: tuple[Array, Array], dy: BFloat16[Array, "M Out"]
) -> tuple[BFloat16[Array, "M In"], Float32[Array, "In Out"], Float32[Array, " Out"]]:
    active = activation_plain(kind, load_bits(saved[0]))
    dactive, dkernel, dbias = _affine_backward("bfloat16", (active, saved[1]), dy)
    return *activation_backward(kind, saved[0], dactive), dkernel, dbias


_activated = jax.custom_vjp(_activated_plain, nondiff_argnums=(0,))
_activated.defvjp(_activated_forward, _activated_backward)


def _product(
    left: Float[Array, "_ _"], right: Float[Array, "_ _"], out: DTypeLike, axes: tuple[int, int] = (1, 0)
) -> Float[Array, "_ _"]:
    """Contracts one axis of each matrix; the result has dtype `out`."""
    return jax.lax.dot_general(left, right, (((axes[0],), (axes[1],)), ((), ())), preferred_element_type=out)


def _sum_dtype(compute: Compute) -> DTypeLike:
    """Dtype of a product that will be stored as bfloat16: on CPUs float32 is fast; elsewhere bfloat16 saves a pass."""
    return jnp.float32 if compute == "cpu_bfloat16" else jnp.bfloat16


def _multiplies_bfloat16(rows: Float[Array, "M In"], kernel: Float32[Array, "In Out"], compute: Compute) -> bool:
    return compute == "bfloat16" or (compute == "cpu_bfloat16" and fits_cpu_bfloat16(rows.shape[0], *kernel.shape))
