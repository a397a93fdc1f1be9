"""The batch of pretraining as one table: every array, its axes, its dtype, what it holds.

Rows are made in `data/rows/`, masked and learnt from in `train/pretraining/`, and imitated where a step is compiled or
measured without a corpus; all of them take names and shapes from here.

Letters: B rows, L tokens in a row, P windows that a row has room for, K predictions in a row.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One array of the batch."""

    axes: str
    """Letters, one an axis, as in jaxtyping: `B L`."""
    meaning: str
    dtype: str = "int32"


BATCH: dict[str, Entry] = {
    "rows": Entry("B", "Number of the row in the global batch of its step, or in the evaluation set."),
    "tokens": Entry("B L", "Ids; the pad id where no window lies."),
    "segments": Entry("B L", "Which window of its row a token belongs to, 1 to P; 0: padding."),
    "positions": Entry("B L", "Place of a token in its window, from 0."),
    "token_types": Entry("B L", "0 in [CLS] A [SEP], 1 in B [SEP]."),
    "word_starts": Entry("B L", "1 where a word begins; 0 elsewhere and on special tokens."),
    "cls": Entry("B P", "Place in the row of each window's [CLS]; 0 where there is no window."),
    "pair_labels": Entry("B P", "What B is to A, an index into `PAIR_LABELS` of the pair task."),
    "pair_weights": Entry("B P", "1 where the window is cut into a pair, else 0."),
}
"""By name."""


def batch_shapes(rows: int, length: int, windows: int) -> dict[str, tuple[int, ...]]:
    """The shape of every array, for B, L and P."""
    sizes = {"B": rows, "L": length, "P": windows}
    return {name: tuple(sizes[axis] for axis in entry.axes.split()) for name, entry in BATCH.items()}


def prediction_slots(rate: float, length: int, windows: int) -> int:
    """K: slots for the predictions of a row of L tokens, ceil(rate x L) + P, since each of P windows rounds up.

    Args:
      rate: share of each window's real tokens that is predicted.
      length: L.
      windows: P.
    """
    return -int(-rate * length // 1) + windows
