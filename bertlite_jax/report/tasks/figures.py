"""What answers of a task model show beyond its scores: confusions, calibration, the hardest examples.

Pure functions of arrays. Letters: M examples, C labels, U answers (one for an example, or for each tagged word).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

BINS = 10


class Shown(NamedTuple):
    """An example as text, with its answer and loss."""

    text: str
    gold: str
    answer: str
    probability: float | None
    """Of the answer; None if it has no probability, as a number."""
    loss: float
    """The hardest examples have the highest: nats, or for numbers the squared error; for answers to questions 1 - F1,
    plus a millionth of the probability, so that of wrong answers the most confident come first."""


@dataclasses.dataclass(frozen=True)
class Answers:
    """A model's answers to a split. What does not apply to its task is empty.

    Attributes:
      examples: [M].
      gold: [U] int, the right labels.
      answered: [U] int, the labels that were answered.
      confidence: [U] float, the probability of the answer.
      right: [U] bool, whether the answer is right.
      numbers: [M, 2] float, in the data and predicted.
      groups: tables by name: group -> figures.
      thresholds: rows, as `thresholds.table` gives them.
      counts: what happened to the examples: cut, empty.
    """

    examples: Sequence[Shown] = ()
    gold: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))
    answered: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))
    confidence: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    right: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, bool))
    numbers: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2)))
    groups: Mapping[str, Mapping[str, Mapping[str, float]]] = dataclasses.field(default_factory=dict)
    thresholds: Sequence[Mapping[str, Any]] = ()
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)


# --- Confusions ------------------------------------------------------------------------------------------------------


def confusion(gold: np.ndarray, answered: np.ndarray, labels: int) -> np.ndarray:
    """[C, C] int64: how often the label `gold` (row) was `answered` as another or the same (column)."""
    flat = np.bincount(np.asarray(gold) * labels + np.asarray(answered), minlength=labels * labels)
    return flat.reshape(labels, labels)


def by_label(matrix: np.ndarray) -> list[tuple[int, float | None, float | None, float]]:
    """For each label its count in the data, precision, recall and F1 = 2 TP / (in the data + answered).

    Precision is None for a label that is never answered, recall for one that is not in the data, and F1 is 0 for both.
    """
    hits, support, answers = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    rows = []
    for hit, gold, answered in zip(hits.tolist(), support.tolist(), answers.tolist(), strict=True):
        precision, recall = (hit / answered if answered else None), (hit / gold if gold else None)
        rows.append((gold, precision, recall, 2 * hit / (gold + answered) if gold + answered else 0.0))
    return rows


def most_confused(matrix: np.ndarray, most: int = 10) -> list[tuple[int, int, int]]:
    """(gold, answered, how often), the most frequent mistakes first, without those that never happened."""
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(int(place) // len(matrix), int(place) % len(matrix)) for place in order]
    return [(gold, answered, int(wrong[gold, answered])) for gold, answered in pairs if wrong[gold, answered]]


# --- Calibration -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Bin:
    """Answers whose probability is above `low` and at most `high` (in the first bin, from 0)."""

    low: float
    high: float
    count: int
    confidence: float
    """Their mean probability."""
    right: float
    """The share of them that is right."""


def calibration(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Bins of equal width, without the empty ones.

    Source: Guo et al. 2017 (arXiv 1706.04599), section 2.
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    filled = []
    for number in np.unique(place).tolist():
        here = place == number
        means = confidence[here].mean(), right[here].mean()
        filled.append(Bin(number / bins, (number + 1) / bins, int(here.sum()), *means))
    return filled


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance of probability and share of right answers, over answers: sum_b n_b / n |right_b - confidence_b|.

    Source: Naeini et al. 2015 (AAAI); Guo et al. 2017 (arXiv 1706.04599), equation 3.
    """
    total = sum(each.count for each in bins)
    return float(sum(each.count * abs(each.right - each.confidence) for each in bins) / total) if total else 0.0


# --- Hardest examples ------------------------------------------------------------------------------------------------


def hardest(examples: Sequence[Shown], most: int = 20) -> list[Shown]:
    """The examples with the highest loss; of equal ones the first."""
    return sorted(examples, key=lambda example: -example.loss)[:most]


def cross_entropy(shares: np.ndarray, label: int) -> float:
    """-log of the label's probability, in nats, at most 100."""
    return float(min(100.0, -np.log(max(float(shares[label]), 1e-300))))


def binary_cross_entropy(shares: np.ndarray, labels: Sequence[int]) -> float:
    """The mean over labels of -log of the right answer's probability, in nats."""
    wanted = np.array(labels, bool)
    of_wanted = np.clip(np.where(wanted, shares, 1 - np.asarray(shares, np.float64)), 1e-43, 1.0)
    return float(-np.log(of_wanted).mean())
