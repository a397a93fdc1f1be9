"""Which windows share a row: a pure function of their lengths, the seed and the pass over the corpus.

What is packed are windows or parts of windows (data/rows/source.py); only their slots count here.

The plan is made from the histogram of lengths, not from the windows, so it takes a second however many there are.
It says how many rows of which pattern there are ("one window of 300 slots, one of 140, one of 72"). A pass over the
corpus shuffles which of the windows of 300 slots takes which place, and in which order the rows come. So every pass
has the same number of rows, whatever the seed.

Source: histogram-packing, Krell et al. 2021 (arXiv 2107.02027), section 3; of its two orders the one that takes the
fullest row that fits (longest-pack-first), with a limit on the windows of a row.

Letters: N windows, P windows a row at most, R rows.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int, Int32, Int64, Integer


@dataclasses.dataclass(frozen=True)
class Packing:
    """How the windows of one corpus fill rows, pattern by pattern; P windows at most in a row."""

    pattern_ends: Int64[np.ndarray, " patterns"]
    """Rows numbered below this belong to this pattern or an earlier one."""
    patterns: Int32[np.ndarray, "patterns P"]
    """Slots of each window in such a row; 0 where there is none."""
    first_ranks: Int64[np.ndarray, "patterns P"]
    """Place in the order of windows (`order_windows`) of what the pattern's first row holds. The next row of the
    pattern holds the next windows."""

    @property
    def rows(self) -> int:
        """Rows that hold each window once."""
        return int(self.pattern_ends[-1])


Group = tuple[tuple[int, ...], int]
"""Slots of the windows of a row, and how many such rows there are."""


def pack_histogram(histogram: Integer[np.ndarray, " {length}+1"], length: int, windows_per_row: int) -> list[Group]:
    """Distributes windows, of which only the slots count, over rows.

    Groups of windows are taken from the longest to the shortest; each goes into the row that it fills best. With a
    limit on the windows of a row, that alone leaves many short ones for the end, where they would fill rows by
    themselves up to the limit and no further. So some of them are tied to longer ones first. Seven shares of them, from
    none to three quarters, are tried, and the one that needs the fewest rows is taken. Integers only, so the result is
    the same on every machine.

    Args:
      histogram: at index s, how many windows need s slots. None needs 0.
      length: slots in a row, L.
      windows_per_row: most windows in a row, P.
    """
    shares = range(7) if windows_per_row > 2 else range(1)
    plans = [_fill(_tie(histogram, length, share), length, windows_per_row) for share in shares]
    return min(plans, key=lambda plan: sum(count for _, count in plan))


def _tie(histogram: np.ndarray, length: int, eighths: int) -> list[list[Group]]:
    """Groups by their slots: single windows, and `eighths` / 8 of those up to length / 8 tied to one longer one each.

    The longer ones are of all sizes up to 7/8 length, in proportion to how many there are of each.
    """
    short, counts = length // 8, [int(count) for count in histogram]
    waiting = [[slots, counts[slots] * eighths // 8] for slots in range(1, short + 1) if counts[slots] * eighths >= 8]
    partners = range(length - short, short, -1)
    wanted, there, passed = sum(count for _, count in waiting), sum(counts[slots] for slots in partners), 0
    groups: list[list[Group]] = [[] for _ in range(length + 1)]
    for partner in partners:
        before = passed * wanted // max(there, 1)
        passed += counts[partner]
        quota = min(passed * wanted // max(there, 1) - before, counts[partner])
        share = -(-quota // 3)  # three sizes of short ones for each size of longer ones, in turn
        while quota and waiting:
            slots, left = waiting.pop(0)
            count = min(quota, left, share)
            groups[partner + slots].append(((partner, slots), count))
            counts[partner], counts[slots], quota = counts[partner] - count, counts[slots] - count, quota - count
            if left > count:
                waiting.append([slots, left - count])
    for slots in range(1, length + 1):
        if counts[slots]:
            groups[slots].append(((slots,), counts[slots]))
    return groups


def _fill(groups: list[list[Group]], length: int, windows_per_row: int) -> list[Group]:
    """Puts groups into rows, the longest first, each into the row with the least room that takes it."""
    full: list[Group] = []
    room: list[list[Group]] = [[] for _ in range(length + 1)]
    for slots in range(length, 0, -1):
        for group, waiting in groups[slots]:
            limit = windows_per_row - len(group)
            while waiting:
                left, index = next(
                    ((r, i) for r in range(slots, length) for i, row in enumerate(room[r]) if len(row[0]) <= limit),
                    (length, -1),
                )
                before, rows = room[left].pop(index) if index >= 0 else ((), waiting)
                # As many of this group as go into one row; the last row may get fewer.
                copies = min(left // slots, (windows_per_row - len(before)) // len(group), waiting)
                count = min(rows, waiting // copies)
                if index >= 0 and rows > count:
                    room[left].append((before, rows - count))
                waiting -= count * copies
                pattern, left = before + group * copies, left - slots * copies
                (full if left == 0 or len(pattern) == windows_per_row else room[left]).append((pattern, count))
    return full + [row for rows in room for row in rows]


def plan_rows(slots: Integer[np.ndarray, " N"], length: int, windows_per_row: int) -> Packing:
    """Decides how many rows of which pattern hold all windows.

    Args:
      slots: in 1..length: what each window needs, special tokens included.
      length: slots in a row, L.
      windows_per_row: P; with 1 each window has a row of its own.

    Examples:
      Windows that fill 70 rows: with a row for each there are 230 of them, packed 74.

      >>> import numpy as np
      >>> from bertlite_jax.data.rows.packing import plan_rows
      >>> slots = np.array([128] * 10 + [64] * 20 + [40] * 100 + [24] * 100)
      >>> plan_rows(slots, length=128, windows_per_row=1).rows, plan_rows(slots, length=128, windows_per_row=8).rows
      (230, 74)
    """
    histogram = np.bincount(slots, minlength=length + 1)
    groups = pack_histogram(histogram, length, windows_per_row)
    patterns = np.zeros((len(groups), windows_per_row), np.int32)
    first_ranks = np.zeros((len(groups), windows_per_row), np.int64)
    taken = np.cumsum(histogram) - histogram  # windows are ordered by slots; where those of each length begin
    for row, (pattern, count) in enumerate(groups):
        patterns[row, : len(pattern)] = pattern
        for column, need in enumerate(pattern):
            first_ranks[row, column] = taken[need]
            taken[need] += count
    ends = np.cumsum([count for _, count in groups], dtype=np.int64)
    return Packing(ends, patterns, first_ranks)


def generator(*numbers: int) -> np.random.Generator:
    """Random numbers that depend on these numbers alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([number % 2**64 for number in numbers])))


def index_type(count: int) -> type[np.signedinteger]:
    """What holds the numbers 0..count - 1. numpy wraps them around without a word where the type is too small."""
    return np.int32 if count <= 2**31 else np.int64


def order_windows(slots: Integer[np.ndarray, " N"], *key: int) -> Int[np.ndarray, " N"]:
    """Numbers of windows (`index_type`), by rising number of slots; those with the same number of slots are shuffled.

    Args:
      slots: what each window needs.
      *key: seed, corpus, pass: what the shuffle depends on.
    """
    shuffled = np.arange(len(slots), dtype=index_type(len(slots)))
    generator(*key, 1).shuffle(shuffled)
    # A stable sort of 16-bit numbers is a radix sort: linear in N.
    return shuffled[np.argsort(slots[shuffled].astype(np.uint16), kind="stable")]


def order_rows(rows: int, *key: int) -> Int[np.ndarray, " rows"]:
    """Numbers of rows (`index_type`) in a shuffled order that depends on `key` alone."""
    shuffled = np.arange(rows, dtype=index_type(rows))
    generator(*key, 2).shuffle(shuffled)
    return shuffled


def windows_of_rows(
    packing: Packing, order: Int[np.ndarray, " N"], rows: Integer[np.ndarray, " R"]
) -> Int64[np.ndarray, "R P"]:
    """Looks up which windows stand in these rows.

    Args:
      packing: from `plan_rows`.
      order: from `order_windows`.
      rows: in 0..packing.rows - 1.

    Returns:
      Numbers of windows; -1 where a row holds fewer than P.
    """
    pattern = np.searchsorted(packing.pattern_ends, rows, side="right")
    sizes = np.diff(packing.pattern_ends, prepend=0)
    within = rows - (packing.pattern_ends - sizes)[pattern]
    filled = packing.patterns[pattern] > 0
    ranks = np.where(filled, packing.first_ranks[pattern] + within[:, None], 0)
    return np.where(filled, order[ranks], -1).astype(np.int64)
