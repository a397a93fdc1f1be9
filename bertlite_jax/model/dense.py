"""The matrix product that every layer uses, and the element-wise parts that go with it.

Mixed precision is decided here and nowhere else: parameters come in as float32, the mode (`precision.resolve`) says in
what the product is computed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from bertlite_jax.model.precision import Compute

Array = jax.Array

AMX_MIN_SIZE = 64
"""Both dimensions of a weight must have this size for AMX: XLA does not fuse all smaller products and refuses some
at run time, and they cost nothing anyway."""
AMX_MIN_ROWS = 16
"""So many rows must be multiplied at once for AMX: one tile."""


def matmul(x: Array, kernel: Array, compute: Compute) -> Array:
    """Product over the last axis of x, with all leading axes folded into one.

    Args:
      x: [..., In], any float dtype.
      kernel: [In, Out] float32.
      compute: float32: everything in float32. bfloat16: operands and result in bfloat16, float32 inside, gradient of
        the kernel in float32. amx: bfloat16 operands, float32 result; small products stay float32.

    Returns:
      [..., Out]; bfloat16 in mode bfloat16, else float32.
    """
    rows = x.reshape(-1, x.shape[-1])
    if compute == "float32" or (compute == "amx" and not fits_amx(rows.shape[0], *kernel.shape)):
        y = rows.astype(jnp.float32) @ kernel
    else:
        y = _mixed(compute, rows.astype(jnp.bfloat16), kernel)
    return y.reshape(*x.shape[:-1], kernel.shape[1])


def fits_amx(rows: int, fan_in: int, fan_out: int) -> bool:
    """Whether a product [rows, fan_in] x [fan_in, fan_out] and its gradients are large enough for AMX."""
    return rows >= AMX_MIN_ROWS and min(fan_in, fan_out) >= AMX_MIN_SIZE


def dense(x: Array, params: Mapping[str, Array], compute: Compute) -> Array:
    """x [..., In] times kernel [In, Out] plus bias [Out]."""
    y = matmul(x, params["kernel"], compute)
    return y + params["bias"].astype(y.dtype)


def qkv(x: Array, params: Mapping[str, Mapping[str, Array]], compute: Compute) -> tuple[Array, Array, Array]:
    """Queries, keys and values in one product; the three kernels stay separate parameters.

    Args:
      x: [..., D].
      params: {query, key, value}, each {kernel [D, D], bias [D]}.

    Returns:
      Three arrays [..., D].
    """
    parts = [params[name] for name in ("query", "key", "value")]
    joined = {name: jnp.concatenate([part[name] for part in parts], axis=-1) for name in ("kernel", "bias")}
    q, k, v = jnp.split(dense(x, joined, compute), 3, axis=-1)
    return q, k, v


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mixed(compute: Compute, x: Array, kernel: Array) -> Array:
    """x [M, In] bfloat16 times kernel [In, Out] float32 in bfloat16 with float32 sums."""
    return _mixed_forward(compute, x, kernel)[0]


def _mixed_forward(compute: Compute, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    small = kernel.astype(jnp.bfloat16)
    out = jnp.float32 if compute == "amx" else jnp.bfloat16
    y = jax.lax.dot_general(x, small, (((1,), (0,)), ((), ())), preferred_element_type=out)
    return y, (x, small)


def _mixed_backward(compute: Compute, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, small = saved
    dy = dy.astype(jnp.bfloat16)
    out = jnp.float32 if compute == "amx" else jnp.bfloat16
    dx = jax.lax.dot_general(dy, small, (((1,), (1,)), ((), ())), preferred_element_type=out)
    if compute == "amx":
        # XLA hands the product to the tile unit only if the contracted axis of the first operand is minor in memory,
        # and moves a plain transposition into the product; the constraint makes it a copy.
        xt = with_layout_constraint(x.T, Layout((0, 1)))
        # A caller may transpose the result (tied embeddings): XLA would move that into the product, swap the operands
        # and lose the layout. The barrier keeps it outside.
        dkernel = jax.lax.optimization_barrier(
            jax.lax.dot_general(xt, dy, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32)
        )
    else:
        dkernel = jax.lax.dot_general(x, dy, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    return dx.astype(jnp.bfloat16), dkernel


_mixed.defvjp(_mixed_forward, _mixed_backward)


def activation_dtype(compute: Compute) -> jnp.dtype:
    """What hidden states are stored in between layers."""
    return jnp.dtype(jnp.bfloat16 if compute == "bfloat16" else jnp.float32)


def activation(x: Array, kind: str) -> Array:
    """The activation named in `Model.activation`, element-wise, same dtype as x.

    Source: Hendrycks and Gimpel (arXiv 1606.08415); tanh form: google-research/albert modeling.py; erf form: Hugging
    Face BERT.
    """
    if kind == "relu":
        return jax.nn.relu(x)
    return jax.nn.gelu(x, approximate=kind == "gelu_tanh")


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
    wide = x.astype(jnp.float32)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + epsilon)
    return (centred * scale * params["scale"] + params["bias"]).astype(x.dtype)
