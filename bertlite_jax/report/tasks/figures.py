"""What answers of a task model amount to, beyond its scores: confusions, calibration, the hardest examples.

Pure functions of arrays. Letters: M examples, C labels, U units (examples, or words where they are tagged).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

BINS = 10


class Shown(NamedTuple):
    """An example for people."""

    text: str
    gold: str
    answer: str
    probability: float | None
    """Of the answer; None where there is none, as for numbers."""
    loss: float
    """What the hardest examples have most of: nats, or for numbers the squared error; for answers to questions 1 - F1,
    plus a millionth of the probability, so that of wrong answers the surest come first."""


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a model said to a split. What a task has none of is empty.

    Attributes:
      examples: [M].
      gold, said: [U] int, labels.
      sure, right: [U] float and bool: the probability of what was said, and whether it is right.
      numbers: [M, 2] float, wanted and predicted.
      groups: tables by name: group -> figures.
      thresholds: rows, as `data.thresholds.table` gives them.
      counts: what happened to the examples: cut, empty.
    """

    examples: Sequence[Shown] = ()
    gold: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))
    said: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))
    sure: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    right: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, bool))
    numbers: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2)))
    groups: Mapping[str, Mapping[str, Mapping[str, float]]] = dataclasses.field(default_factory=dict)
    thresholds: Sequence[Mapping[str, Any]] = ()
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)


# --- Confusions ------------------------------------------------------------------------------------------------------


def confusion(gold: np.ndarray, said: np.ndarray, labels: int) -> np.ndarray:
    """[C, C] int64: how often what is `gold` (row) was called `said` (column)."""
    flat = np.bincount(np.asarray(gold) * labels + np.asarray(said), minlength=labels * labels)
    return flat.reshape(labels, labels)


def by_label(matrix: np.ndarray) -> list[tuple[int, float | None, float | None, float]]:
    """For each label how often it is there, precision (None where it is never said), recall (None where it is never
    there) and F1 = 2 TP / (there + said), 0 where it is neither.
    """
    hits, there, said = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    rows = []
    for hit, wanted, given in zip(hits.tolist(), there.tolist(), said.tolist(), strict=True):
        precision, recall = (hit / given if given else None), (hit / wanted if wanted else None)
        rows.append((wanted, precision, recall, 2 * hit / (wanted + given) if wanted + given else 0.0))
    return rows


def most_confused(matrix: np.ndarray, most: int = 10) -> list[tuple[int, int, int]]:
    """(gold, said, how often), the most frequent mistakes first; those that never happened are left out."""
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    found = [(int(place) // len(matrix), int(place) % len(matrix)) for place in order]
    return [(gold, said, int(wrong[gold, said])) for gold, said in found if wrong[gold, said]]


# --- Calibration -----------------------------------------------------------------------------------------------------


class Bin(NamedTuple):
    """Answers whose probability is above `low` and at most `high` (in the first bin, from 0)."""

    low: float
    high: float
    count: int
    sure: float
    """Their mean probability."""
    right: float
    """The share of them that is right."""


def calibration(sure: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Bins of equal width that are not empty.

    Source: Guo et al. 2017 (arXiv 1706.04599), section 2.
    """
    sure, right = np.asarray(sure, np.float64), np.asarray(right, np.float64)
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for number in np.unique(place).tolist():
        here = place == number
        found.append(Bin(number / bins, (number + 1) / bins, int(here.sum()), sure[here].mean(), right[here].mean()))
    return found


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """The mean distance between probability and share that is right, over answers: sum_b n_b / n |right_b - sure_b|.

    Source: Naeini et al. 2015 (AAAI); Guo et al. 2017 (arXiv 1706.04599), equation 3.
    """
    total = sum(each.count for each in bins)
    return float(sum(each.count * abs(each.right - each.sure) for each in bins) / total) if total else 0.0


# --- Hardest examples ------------------------------------------------------------------------------------------------


def hardest(examples: Sequence[Shown], most: int = 20) -> list[Shown]:
    """Those with the highest loss; of equal ones the first."""
    return sorted(examples, key=lambda example: -example.loss)[:most]


def cross_entropy(shares: np.ndarray, label: int) -> float:
    """-log of the label's probability, in nats; at most 100, where the probability is no longer told from 0."""
    return float(min(100.0, -np.log(max(float(shares[label]), 1e-300))))


def binary_cross_entropy(shares: np.ndarray, labels: Sequence[int]) -> float:
    """The mean over labels, in nats."""
    wanted = np.array(labels, bool)
    kept = np.clip(np.where(wanted, shares, 1 - np.asarray(shares, np.float64)), 1e-43, 1.0)
    return float(-np.log(kept).mean())
