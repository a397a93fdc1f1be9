"""Products of 8-bit integers with one activation step a row: for answers, and for training that answers so.

In training the products are the integer ones too. Their gradients are those of the rounded numbers as if rounding were
the identity (straight through): nothing is ever clipped, since a step is the smallest that fits its row or channel.

Letters: M rows, In and Out the sides of a kernel, E embedding.
Sources: Bengio et al. 2013 (arXiv 1308.3432), section 4, the straight-through estimator; Jacob et al. 2018 (arXiv
1712.05877), section 3; the scheme of torchao's `Int8DynamicActivationInt8WeightConfig`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float32, Int8, Int32

from bertlite_jax.config.int8 import Bits
from bertlite_jax.model.ops.arrays import AnyArray
from bertlite_jax.model.ops.integer_grid import SMALLEST_STEP, quantize_weights


def quantize_rows(
    x: Float32[Array, "*rows In"], zero: Float32[AnyArray, ""] | float
) -> tuple[Int8[Array, "*rows In"], Float32[Array, "*rows 1"]]:
    """Each row as whole steps: unsigned 8-bit numbers less 128, and the size of a row's step.

    Args:
      x: float32.
      zero: the unsigned number that stands for 0. A row's step is the smallest for which all values lie between -zero
        and 255 - zero steps.
    """
    highest = jnp.max(x, axis=-1, keepdims=True) * (1 / (255 - zero))
    lowest = jnp.min(x, axis=-1, keepdims=True) * jnp.where(zero == 0, 0.0, -1 / jnp.maximum(zero, 1.0))
    step = jnp.maximum(jnp.maximum(highest, lowest), SMALLEST_STEP)
    # A step for each value, since XLA divides by one that a row shares as a product with its reciprocal, which rounds
    # one value in 500,000 to another integer than a runtime's division. No step is below zero.
    steps = jnp.maximum(step, jnp.minimum(x, 0.0))
    return (jnp.clip(jnp.round(x / steps) + zero, 0, 255) - 128).astype(jnp.int8), step


def scaled(
    x: Float32[Array, "*rows In"],
    kernel: Int8[AnyArray, "In Out"],
    scales: Float32[AnyArray, " Out"],
    zero: Float32[AnyArray, ""] | float,
    sums: Int32[AnyArray, " Out"],
) -> Float32[Array, "*rows Out"]:
    """The integer product of x, rounded, with a kernel, times the scales and then the rows' steps, as in files.

    Args:
      x: float32.
      kernel: integers.
      scales: of its columns.
      zero: as for `quantize_rows`.
      sums: of `column_sums`.
    """
    integers, step = quantize_rows(x, zero)
    total = accumulated(integers, kernel, sums).astype(jnp.float32)
    return total * jax.lax.broadcast_to_rank(scales, x.ndim) * step


def accumulated(
    integers: Int8[Array, "*rows In"], kernel: Int8[AnyArray, "In Out"], sums: Int32[AnyArray, " Out"]
) -> Int32[Array, "*rows Out"]:
    """The sums of products of steps, as a runtime's accumulators hold them: exact."""
    sides = (((integers.ndim - 1,), (0,)), ((), ()))
    total = jax.lax.dot_general(integers, kernel, sides, preferred_element_type=jnp.int32)
    return total + jax.lax.broadcast_to_rank(sums, integers.ndim)


def column_sums(kernel: Int8[Array, "In Out"], zero: int) -> Int32[Array, " Out"]:
    """What turns a product with unsigned steps less 128 into one with steps less `zero`."""
    return (128 - zero) * jnp.sum(kernel, 0, dtype=jnp.int32)


# --- In training -----------------------------------------------------------------------------------------------------


def _dense_plain(
    bits: Bits, zero: int, x: Float32[Array, "M In"], kernel: Float32[Array, "In Out"], bias: Float32[Array, " Out"]
) -> Float32[Array, "M Out"]:
    """X times the kernel plus the bias, both rounded as in a file: weights of `bits`, `zero` as for `quantize_rows`."""
    return _dense_forward(bits, zero, x, kernel, bias)[0]


def _dense_forward(
    bits: Bits, zero: int, x: Float32[Array, "M In"], kernel: Float32[Array, "In Out"], bias: Float32[Array, " Out"]
) -> tuple[Float32[Array, "M Out"], tuple[Array, Array, Array, Array]]:
    weights, scales = quantize_weights(kernel, 0, bits)
    integers, step = quantize_rows(x, zero)
    total = accumulated(integers, weights, column_sums(weights, zero))
    return total.astype(jnp.float32) * scales[None] * step + bias[None], (integers, step, weights, scales)


def _dense_backward(
    bits: Bits, zero: int, saved: tuple[Array, Array, Array, Array], dy: Float32[Array, "M Out"]
) -> tuple[Float32[Array, "M In"], Float32[Array, "In Out"], Float32[Array, " Out"]]:
    del bits
    integers, step, weights, scales = saved
    x = (integers.astype(jnp.float32) + (128 - zero)) * step
    return (dy * scales[None]) @ weights.astype(jnp.float32).T, x.T @ dy, jnp.sum(dy, axis=0)


dense = jax.custom_vjp(_dense_plain, nondiff_argnums=(0, 1))
dense.defvjp(_dense_forward, _dense_backward)


def dense_of_rounded_rows(
    zero: int, x: Float32[Array, "M In"], kernel: Float32[Array, "In Out"], bias: Float32[Array, " Out"]
) -> Float32[Array, "M Out"]:
    """X, rounded as in a file, times a kernel as it is, plus the bias: a product of floats, whatever the kernel.

    With a kernel on the grid it is `dense` but for the order of its sums, which are not exact in float32.
    """
    return _rounded_activations(zero, x) @ kernel + bias[None]


def _rounded_plain(zero: int, x: Float32[Array, "M In"]) -> Float32[Array, "M In"]:
    """The steps of `quantize_rows` times their size."""
    integers, step = quantize_rows(x, zero)
    return (integers.astype(jnp.float32) + (128 - zero)) * step


_rounded_activations = jax.custom_vjp(_rounded_plain, nondiff_argnums=(0,))
_rounded_activations.defvjp(lambda zero, x: (_rounded_plain(zero, x), None), lambda zero, _, slope: (slope,))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def rounded_rows(bits: Bits, rows: Float32[Array, "*places E"]) -> Float32[Array, "*places E"]:
    """Rows of a table as a file holds them: integers of `bits` with one scale a row."""
    integers, scales = quantize_weights(rows, -1, bits)
    return integers.astype(jnp.float32) * scales[..., None]


rounded_rows.defvjp(lambda bits, rows: (rounded_rows(bits, rows), None), lambda bits, _, slope: (slope,))
