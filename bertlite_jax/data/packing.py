"""Which windows share a row: a pure function of their lengths, the seed and the pass over the corpus.

The plan is made from the histogram of lengths, not from the windows, so it costs milliseconds however many there are.
It says how many rows of which pattern there are ("one window of 300 slots, one of 140, one of 72"). A pass over the
corpus shuffles which of the windows of 300 slots takes which place, and in which order the rows come. So every pass
has the same number of rows, whatever the seed.

Source: shortest-pack-first histogram-packing, Krell et al. 2021 (arXiv 2107.02027), section 3.1, with a limit on the
windows of a row.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Packing:
    """How the windows of one corpus fill rows. K patterns; P windows at most in a row."""

    pattern_ends: np.ndarray
    """[K] int64: rows numbered below this belong to this pattern or an earlier one."""
    patterns: np.ndarray
    """[K, P] int32: slots of each window in such a row; 0 where there is none."""
    first_ranks: np.ndarray
    """[K, P] int64: place in the order of windows (`order_windows`) of what the pattern's first row holds. The next
    row of the pattern holds the next windows."""

    @property
    def rows(self) -> int:
        """Rows that hold each window once."""
        return int(self.pattern_ends[-1])


def pack_histogram(histogram: np.ndarray, length: int, windows_per_row: int) -> list[tuple[tuple[int, ...], int]]:
    """Distributes windows, of which only the lengths count, over rows.

    Lengths are taken from the longest to the shortest; each goes into the row with the most room left. Integers only,
    so the result is the same on every machine.

    Args:
      histogram: [length + 1] integers; how many windows need so many slots. None needs 0.
      length: slots in a row.
      windows_per_row: at most so many windows in a row.

    Returns:
      [(slots of the windows of a row, number of such rows)].
    """
    full: list[tuple[tuple[int, ...], int]] = []
    room: list[list[tuple[tuple[int, ...], int]]] = [[] for _ in range(length + 1)]
    roomiest = 0
    for slots in range(length, 0, -1):
        waiting = int(histogram[slots])
        while waiting:
            while roomiest >= slots and not room[roomiest]:
                roomiest -= 1
            if roomiest < slots:
                pattern, count, left = (slots,), waiting, length - slots
            else:
                before, rows = room[roomiest].pop()
                pattern, count, left = (*before, slots), min(rows, waiting), roomiest - slots
                if rows > count:
                    room[roomiest].append((before, rows - count))
            waiting -= count
            if len(pattern) == windows_per_row or left == 0:
                full.append((pattern, count))
            else:
                room[left].append((pattern, count))
                roomiest = max(roomiest, left)
    return full + [entry for entries in room for entry in entries]


def plan_rows(slots: np.ndarray, length: int, windows_per_row: int) -> Packing:
    """Decides how many rows of which pattern hold all windows.

    Args:
      slots: [N] integers in 1..length: what each window needs, specials included.
      length: slots in a row, L.
      windows_per_row: P; with 1 each window has a row of its own.
    """
    histogram = np.bincount(slots, minlength=length + 1)
    found = pack_histogram(histogram, length, windows_per_row)
    patterns = np.zeros((len(found), windows_per_row), np.int32)
    first_ranks = np.zeros((len(found), windows_per_row), np.int64)
    taken = np.cumsum(histogram) - histogram  # windows are ordered by slots; where those of each length begin
    for row, (pattern, count) in enumerate(found):
        patterns[row, : len(pattern)] = pattern
        for column, need in enumerate(pattern):
            first_ranks[row, column] = taken[need]
            taken[need] += count
    ends = np.cumsum([count for _, count in found], dtype=np.int64)
    return Packing(ends, patterns, first_ranks)


def generator(*numbers: int) -> np.random.Generator:
    """Random numbers that depend on these numbers alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([number % 2**64 for number in numbers])))


def order_windows(slots: np.ndarray, *key: int) -> np.ndarray:
    """Windows by rising number of slots; those with the same number shuffled.

    Args:
      slots: [N] integers.
      key: seed, corpus, pass: what the shuffle depends on.

    Returns:
      [N] int32, numbers of windows.
    """
    shuffled = np.arange(len(slots), dtype=np.int32)
    generator(*key, 1).shuffle(shuffled)
    # A stable sort of 16-bit numbers is a radix sort: linear in N.
    return shuffled[np.argsort(slots[shuffled].astype(np.uint16), kind="stable")]


def order_rows(rows: int, *key: int) -> np.ndarray:
    """[rows] int32: the rows in a shuffled order that depends on `key` alone."""
    shuffled = np.arange(rows, dtype=np.int32)
    generator(*key, 2).shuffle(shuffled)
    return shuffled


def windows_of_rows(packing: Packing, order: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Looks up which windows stand in these rows.

    Args:
      packing: from `plan_rows`.
      order: [N] from `order_windows`.
      rows: [R] integers in 0..packing.rows - 1.

    Returns:
      [R, P] int64, numbers of windows; -1 where a row holds fewer than P.
    """
    pattern = np.searchsorted(packing.pattern_ends, rows, side="right")
    sizes = np.diff(packing.pattern_ends, prepend=0)
    within = rows - (packing.pattern_ends - sizes)[pattern]
    held = packing.patterns[pattern] > 0
    ranks = np.where(held, packing.first_ranks[pattern] + within[:, None], 0)
    return np.where(held, order[ranks], -1).astype(np.int64)
