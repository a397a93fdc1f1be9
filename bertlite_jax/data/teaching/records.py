"""A record of a store: all that teachers say of one row, as the bytes of its arrays, one behind the other.

All rows of one length have the same arrays, so that a record needs no names: the store's index has them. Numbers are
little-endian.

Letters: B rows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  # With it, numpy knows bfloat16.
import numpy as np

KINDS = ("float32", "bfloat16", "uint16", "uint32")
"""Dtypes that a store may have."""


class Entry(NamedTuple):
    """One array of a row."""

    name: str
    kind: str
    """One of KINDS."""
    shape: tuple[int, ...]
    """Without the axis of the rows."""

    @property
    def size(self) -> int:
        """Bytes in a record."""
        return math.prod(self.shape) * np.dtype(self.kind).itemsize


Layout = tuple[Entry, ...]
"""The arrays of a record, in their order."""


def layout_of(arrays: Mapping[str, Any]) -> Layout:
    """The layout for arrays [B, ...], or for their shapes; by name, so that it does not depend on their order."""
    return tuple(Entry(name, str(array.dtype), tuple(array.shape[1:])) for name, array in sorted(arrays.items()))


def record_bytes(layout: Layout) -> int:
    """Of a record, before ArrayRecord compresses it."""
    return sum(entry.size for entry in layout)


def to_records(layout: Layout, arrays: Mapping[str, np.ndarray]) -> list[bytes]:
    """The records of B rows, whose arrays are [B, ...]."""
    columns = [np.ascontiguousarray(arrays[entry.name]) for entry in layout]
    flat = [column.reshape(len(column), -1).view(np.uint8) for column in columns]
    return [row.tobytes() for row in np.concatenate(flat, axis=1)]


def from_records(layout: Layout, records: Sequence[bytes], names: Collection[str]) -> dict[str, np.ndarray]:
    """Those arrays of B rows that are named, [B, ...] each.

    Raises:
      ValueError: a record has another size.
    """
    size = record_bytes(layout)
    if any(len(record) != size for record in records):
        raise ValueError(f"a record does not have {size} bytes")
    rows = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), size)
    arrays, at = {}, 0
    for entry in layout:
        if entry.name in names:
            column = np.ascontiguousarray(rows[:, at : at + entry.size])
            arrays[entry.name] = column.view(np.dtype(entry.kind)).reshape(len(records), *entry.shape)
        at += entry.size
    return arrays
