"""Which integers stand for weights in an 8-bit file, how large a step is, and where 0 lies among those of activations.

Training rounds with these functions and files are written with them: only this place says so, and a model is trained as
it is served. Weights may be numpy or JAX arrays, and the result is the same to the bit on every machine: comparisons,
sums and products of float32 are the same everywhere; a quotient, which accelerators approximate, is only a guess here
that comparisons put right.

Nothing here imports JAX: an export starts without it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int8

from bertlite_jax.config.int8 import Bits

TABLE_BITS: Bits = 8
"""Of tables that are looked up and never multiplied."""

SMALLEST_STEP = 1e-30
"""The least step of a row of activations, so that its reciprocal is finite for a row of zeros."""

_NARROW = ("layers", "pooler")
"""Parts whose kernels have 4 bits where 4 are asked for: nearly all of a model. The first product and the last ones,
which are small and lose most by it, keep 7."""


def bits_of(path: str, bits: Bits) -> Bits:
    """The bits of a kernel in a file of `bits`, by its place, such as `layers/3/ffn/up`, `pooler` or `head/output`."""
    return 7 if bits == 4 and path.split("/")[0] not in _NARROW else bits


def range_of(bits: Bits) -> tuple[int, int]:
    """The lowest and the highest integer."""
    return (-8, 7) if bits == 4 else (-128, 127)


# --- Weights ---------------------------------------------------------------------------------------------------------


def quantize_weights(
    values: Float[Any, "*shape"], axis: int, bits: Bits
) -> tuple[Int8[Any, "*shape"], Float32[Any, "*channels"]]:
    """Symmetric rounding with one scale for each slice along `axis`.

    The scale is the smallest that clips nothing: max(max / 127, -min / 128), with 7 and 8 instead for 4 bits; for 7
    bits also large enough that two neighbours of one sign have at most 128 steps together. So the error of a value is
    at most half a scale. The scale is rounded up to an exact f16 number, so that files can store it in two bytes,
    unless it is so small or large that f16 has no such number.

    Args:
      values: finite; numpy or JAX.
      axis: the axis that shares a scale; a product sums over it. An odd last value is its own neighbour.
      bits: as of `Bits`.

    Returns:
      Integers, and scales with `axis` removed. A slice of zeros, or of denormal numbers, has scale 1.

    Examples:
      With 8 bits a step is 1. With 7 it is larger, so that two neighbours have at most 128 steps together.

      >>> import numpy as np
      >>> from bertlite_jax.model.ops.integer_grid import quantize_weights
      >>> weights = np.array([127.0, 125.0, -3.0, 0.25], np.float32)
      >>> for bits in (8, 7):
      ...     integers, scale = quantize_weights(weights, 0, bits)
      ...     print(integers.tolist(), round(float(scale), 2))
      [127, 125, -3, 0] 1.0
      [64, 63, -2, 0] 1.98
    """
    xp = values.__array_namespace__()
    values = values.astype(np.float32)
    lowest, highest = range_of(bits)
    scale = xp.maximum(
        xp.max(values, axis, keepdims=True) * np.float32(1 / highest),
        xp.min(values, axis, keepdims=True) * np.float32(1 / lowest),
    )
    if bits == 7:
        # Rounding can add half a step to each of the two.
        pairs = xp.max(_pairs(xp, values, axis), axis, keepdims=True)
        scale = xp.maximum(scale, pairs * np.float32(1 / highest))
    scale = xp.where(scale >= float(np.finfo(np.float32).tiny), _up_to_half(xp, scale), np.float32(1))
    integers = xp.clip(_nearest(xp, values, scale), lowest, highest).astype(np.int8)
    return integers, xp.squeeze(scale, axis)


def _pairs(xp: Any, values: Any, axis: int) -> Any:
    """For neighbours 2k and 2k + 1 of one sign the sum of their magnitudes, else the larger magnitude."""
    before = (slice(None),) * (axis % values.ndim)
    even, odd = values[(*before, slice(0, None, 2))], values[(*before, slice(1, None, 2))]
    if odd.shape[axis] < even.shape[axis]:
        odd = xp.concatenate([odd, xp.zeros_like(even[(*before, slice(0, 1))])], axis)
    return xp.maximum(xp.maximum(even, 0) + xp.maximum(odd, 0), xp.maximum(-even, 0) + xp.maximum(-odd, 0))


def _up_to_half(xp: Any, scale: Any) -> Any:
    """The next number of f16's precision above each f32 scale, wherever f16 has its full precision.

    By the bits of f32, of which f16 lacks the last 13: XLA may leave out a conversion to f16 and back.
    """
    half = np.finfo(np.float16)
    up = (scale.view(np.uint32) + np.uint32((1 << 13) - 1)) & np.uint32(0xFFFFFFFF - ((1 << 13) - 1))
    fits = (scale >= float(half.tiny)) & (scale < float(half.max))
    return xp.where(fits, up.view(np.float32), scale)


def _nearest(xp: Any, values: Any, scale: Any) -> Any:
    """Values / scale as whole numbers, halves to the even one; a scale of f16's precision makes the bounds exact."""
    whole = xp.rint(values / scale)
    upper, lower = (whole + np.float32(0.5)) * scale, (whole - np.float32(0.5)) * scale
    odd = whole != 2 * xp.floor(whole * np.float32(0.5))
    above, below = (values > upper) | ((values == upper) & odd), (values < lower) | ((values == lower) & odd)
    return whole + above.astype(np.float32) - below.astype(np.float32)


# --- Activations -----------------------------------------------------------------------------------------------------

MIDDLE = 128
"""The unsigned number that stands for 0 in rows of activations that are about as often negative as positive."""


def zero_after(activation: str) -> int:
    """The unsigned number z that stands for 0 in what an activation has made; u8 holds [-z, 255 - z] steps around it.

    GELU is never below -0.17, so its rows get few steps below zero and nearly twice as many above; ReLU gets none
    below. A constant costs nothing; a zero point for each row would need a correction by the weights' column sums.

    Args:
      activation: `Model.activation`.
    """
    return 0 if activation == "relu" else 32
