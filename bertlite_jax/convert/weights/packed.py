"""Integers of 4 bits, two to a byte.

The first of two neighbours has the low four bits, the second the high ones; what is stored is the integer plus 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_BYTES = np.arange(256, dtype=np.int16)
TWO_OF_A_BYTE = np.stack([(_BYTES & 15) - 8, (_BYTES >> 4) - 8], axis=-1).astype(np.int8)
"""The two integers of each byte: [256, 2]."""


def pack(integers: np.ndarray) -> np.ndarray:
    """Int8 of any shape, from -8 to 7 and an even number of them, in their order: uint8 [size / 2]."""
    low, high = (integers.reshape(-1, 2) + 8).astype(np.uint8).T
    return low | (high << 4)


def holds(packed: np.ndarray, shape: Sequence[int]) -> bool:
    """Whether an array is what integers of this shape would be packed to."""
    return packed.dtype == np.uint8 and 2 * packed.size == np.prod(shape)


def unpack(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `pack`: int8 in the shape."""
    return TWO_OF_A_BYTE[packed].reshape(shape)
