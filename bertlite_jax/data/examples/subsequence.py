"""How much two sequences have in common, by their longest common subsequence: of words, or of anything else."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def longest_common(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """The length of the longest sequence that is left of both when elements are left out of each.

    The usual table, of which a row is computed at once: with a new element of `first`, each place of the row before may
    become one longer where the elements are equal, and no place is less than the one before it.

    Source: Wagner and Fischer 1974 (the string-to-string correction problem), section 4.
    """
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(element, len(numbers)) for element in second], np.int64)
    row = np.zeros(len(second) + 1, np.int64)
    for element in first:
        longer = row[:-1] + (codes == numbers.get(element, -1))
        row[1:] = np.maximum.accumulate(np.maximum(row[1:], longer))
    return int(row[-1])


def distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """The share of the longer sequence that the two do not have in common: 0 for equal ones, 1 for strangers."""
    longer = max(len(first), len(second))
    return 1 - longest_common(first, second) / longer if longer else 0.0
