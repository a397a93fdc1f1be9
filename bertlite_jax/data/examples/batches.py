"""Which examples an update learns from, and which rows they lie in: pure functions of sizes, seed and step.

Every update sees the same number of examples (at times one fewer) in rows of the same shape, without padding to the
longest: the examples of an epoch are ordered by size and dealt out, so that every batch gets short and long ones
alike, and its tokens fit a number of rows that is known in advance. The order of examples of about one size is drawn
anew in every epoch.

Letters: M examples, S batches in an epoch, R rows, L tokens in a row, P windows in a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.data.examples.features import UNLABELLED, Encoded
from bertlite_jax.data.rows import packing

Batch = dict[str, np.ndarray]


class Shape(NamedTuple):
    """The shape of every batch."""

    rows: int
    """R, over all devices."""
    length: int
    """L."""
    windows: int
    """P."""


class Layout(NamedTuple):
    """A batch, and which windows are in it."""

    batch: Batch
    """rows [R]; tokens, segments, positions, token_types [R, L]; cls [R, P]; labels and weights [R, P], labels
    [R, P, C] where they are numbers, [R, P, 2] for spans (start, end), both [R, L] for tags; choices [R, P] for
    multiple choice: 1.. for the windows of one example, 0 for none. All int32, except labels that are numbers and
    weights."""
    windows: np.ndarray
    """[R, P] int64, numbers of windows in the split; -1 for none."""


# --- Batches of an epoch ---------------------------------------------------------------------------------------------


def batches_in_epoch(examples: int, batch_examples: int) -> int:
    """S: the batches in an epoch."""
    return -(-examples // batch_examples)


def deal(sizes: np.ndarray, batch_examples: int, seed: int, epoch: int) -> np.ndarray:
    """The batches of an epoch.

    Args:
      sizes: [M] tokens of each example.
      batch_examples: examples in a batch, at most.
      seed: of the order.
      epoch: from 0; each has an order of its own.

    Returns:
      [S, K] int64: numbers of examples; -1 where a batch has one fewer. Every example occurs once.
    """
    count = batches_in_epoch(len(sizes), batch_examples)
    shuffled = packing.generator(seed, epoch, 1).permutation(len(sizes))
    ordered = shuffled[np.argsort(sizes[shuffled], kind="stable")]
    strata = -(-len(sizes) // count)
    dealt = np.full(strata * count, -1, np.int64)
    dealt[: len(sizes)] = ordered
    draws = packing.generator(seed, epoch, 2).permuted(np.tile(np.arange(count), (strata, 1)), axis=1)
    return np.take_along_axis(dealt.reshape(strata, count), draws, axis=1).T


def fit(sizes: np.ndarray, length: int) -> list[list[int]]:
    """Puts items into rows, the longest first, each into the first row with room. Returns rows of item numbers."""
    rows: list[list[int]] = []
    room: list[int] = []
    for item in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[item])
        for row, left in enumerate(room):
            if size <= left:
                rows[row].append(item)
                room[row] -= size
                break
        else:
            rows.append([item])
            room.append(length - size)
    return rows


def rows_of(batch: np.ndarray, sizes: np.ndarray, length: int, pack: bool) -> list[list[int]]:
    """The rows of a batch of `deal`, as numbers of examples; without `pack`, one row for each example."""
    examples = batch[batch >= 0]
    if not pack:
        return [[example] for example in examples.tolist()]
    return [examples[row].tolist() for row in fit(sizes[examples], length)]


def plan(encoded: Encoded, batch_examples: int, pack: bool, row_length: int, epochs: int, seed: int) -> Shape:
    """The cheapest shape that all batches of all epochs fit into.

    The fullest batches decide the length of a row: if it did not suit them, every batch would get another row.

    Args:
      encoded: the training split.
      batch_examples: examples in a batch.
      pack: whether examples share rows.
      row_length: least tokens in a row; 0: chosen here. No row is shorter than the longest example.
      epochs: that the run begins.
      seed: of the order.

    Returns:
      The shape; `rows` is not yet a multiple of the devices.
    """
    sizes = encoded.sizes
    longest = round_up(int(sizes.max()))
    if row_length or not pack:
        length = max(longest, row_length)
    else:
        candidates = sorted({longest, *range(longest, max(longest, min(512, 4 * longest)) + 1, 16)})
        fullest = _fullest(sizes, batch_examples, epochs, seed)
        costs = [max(len(rows_of(b, sizes, each, True)) for b in fullest) * _cost(each) for each in candidates]
        length = candidates[int(np.argmin(costs))]
    windows, most_rows, most_windows = np.diff(encoded.firsts), 0, 0
    for epoch in range(epochs):
        for batch in deal(sizes, batch_examples, seed, epoch):
            rows = rows_of(batch, sizes, length, pack)
            most_rows = max(most_rows, len(rows))
            most_windows = max(most_windows, *(int(windows[row].sum()) for row in rows))
    return Shape(most_rows, length, most_windows)


def _fullest(sizes: np.ndarray, batch_examples: int, epochs: int, seed: int, most: int = 64) -> np.ndarray:
    """[<= most, K]: the batches of all epochs with most tokens, one epoch in memory at a time."""
    kept = np.zeros((0, 0), np.int64)
    for epoch in range(epochs):
        dealt = deal(sizes, batch_examples, seed, epoch)
        kept = np.concatenate([kept, dealt]) if kept.size else dealt
        totals = np.where(kept < 0, 0, sizes[kept]).sum(axis=1)
        kept = kept[np.argsort(-totals, kind="stable")[:most]]
    return kept


def _cost(length: int) -> int:
    """Relative cost of a row: at 512 tokens attention takes about as long as the rest of a small encoder's layer."""
    return length * (512 + length)


def round_up(length: int) -> int:
    """Rounds up to a multiple of 16."""
    return -(-length // 16) * 16


def batch_at(
    encoded: Encoded, dealt: np.ndarray, index: int, shape: Shape, head: Head, pack: bool, pad_id: int
) -> Layout:
    """Batch `index` of an epoch that `deal` gave."""
    return lay_out(encoded, rows_of(dealt[index], encoded.sizes, shape.length, pack), shape, head, pad_id)


# --- Evaluation --------------------------------------------------------------------------------------------------


def evaluation_batches(
    encoded: Encoded, length: int, pack: bool, multiple: int, head: Head, pad_id: int, slots: int = 8192
) -> Iterator[Layout]:
    """All examples once, in full rows; empty rows, which do not count, fill up the last batch.

    Args:
      encoded: a split.
      length: tokens in a row; more if an example needs them.
      pack: whether examples share rows.
      multiple: the number of rows in a batch is a multiple of this number of devices.
      head: of the model.
      pad_id: of the tokenizer.
      slots: tokens in a batch, about.
    """
    sizes, windows = encoded.sizes, np.diff(encoded.firsts)
    length = max(length, round_up(int(sizes.max())))
    packed = packing.plan_rows(sizes, length, 32 if pack else 1)
    placed = packing.windows_of_rows(packed, packing.order_windows(sizes, 0), np.arange(packed.rows))
    rows = [row[row >= 0].tolist() for row in placed]
    # Powers of two, so that other splits and chunks of a stream can use the same compiled program.
    count = min(_power(-(-len(rows) // multiple)), max(1, slots // length // multiple)) * multiple
    shape = Shape(count, length, _power(max(int(windows[row].sum()) for row in rows)))
    for first in range(0, len(rows), count):
        yield lay_out(encoded, rows[first : first + count], shape, head, pad_id)


def _power(number: int) -> int:
    return 1 << (number - 1).bit_length()


# --- Rows --------------------------------------------------------------------------------------------------------


def lay_out(encoded: Encoded, rows: Sequence[Sequence[int]], shape: Shape, head: Head, pad_id: int) -> Layout:
    """Writes examples into rows; the remaining rows of the shape stay empty."""
    batch = _empty(shape, encoded, head, pad_id)
    windows = np.full((shape.rows, shape.windows), -1, np.int64)
    for row, examples in enumerate(rows):
        start, column = 0, 0
        for example in examples:
            first, last = int(encoded.firsts[example]), int(encoded.firsts[example + 1])
            for window in range(first, last):
                at = slice(int(encoded.offsets[window]), int(encoded.offsets[window + 1]))
                stop = start + at.stop - at.start
                here = row, slice(start, stop)
                batch["tokens"][here] = encoded.tokens[at]
                batch["token_types"][here] = encoded.types[at]
                batch["segments"][here] = column + 1
                batch["positions"][here] = np.arange(stop - start)
                batch["cls"][row, column] = start
                windows[row, column] = window
                _write_label(batch, (row, column), here, encoded, example, window - first, at, head)
                start, column = stop, column + 1
    return Layout(batch, windows)


def _empty(shape: Shape, encoded: Encoded, head: Head, pad_id: int) -> Batch:
    wide, narrow = (shape.rows, shape.length), (shape.rows, shape.windows)
    batch: Batch = {name: np.zeros(wide, np.int32) for name in ("segments", "positions", "token_types")}
    batch |= {"tokens": np.full(wide, pad_id, np.int32), "rows": np.arange(shape.rows, dtype=np.int32)}
    batch["cls"] = np.zeros(narrow, np.int32)
    labelled = wide if head.kind == "tag" else narrow
    more = encoded.labels.shape[1:]
    batch["labels"] = np.zeros(labelled + more, encoded.labels.dtype)
    batch["weights"] = np.zeros(labelled, np.float32)
    if head.kind == "choose":
        batch["choices"] = np.zeros(narrow, np.int32)
    return batch


def _write_label(
    batch: Batch,
    place: tuple[int, int],
    here: tuple[int, slice],
    encoded: Encoded,
    example: int,
    choice: int,
    at: slice,
    head: Head,
) -> None:
    """Writes labels, and weights of 1 for what the loss counts: labelled examples (the right choice), first pieces."""
    if head.kind == "tag":
        known = encoded.labels[at] != UNLABELLED
        batch["labels"][here] = np.where(known, encoded.labels[at], 0)
        batch["weights"][here] = known
        return
    label = encoded.labels[example]
    if head.kind == "choose":
        batch["choices"][place] = example_number(batch["choices"][place[0]], place[1], choice)
        batch["labels"][place] = label == choice
        batch["weights"][place] = label == choice
        return
    known = not np.isnan(label).any() if label.dtype == np.float32 else bool(np.all(label != UNLABELLED))
    batch["weights"][place] = known
    if known:
        batch["labels"][place] = label


def example_number(choices: np.ndarray, column: int, choice: int) -> int:
    """Number, from 1, of the example in its row that a window belongs to: that of the window before it, or the next."""
    before = int(choices[column - 1]) if column else 0
    return before if choice else before + 1
