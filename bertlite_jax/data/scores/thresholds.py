"""Precision, recall and coverage if answers below a probability are withheld."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def table(
    probabilities: np.ndarray, labels: np.ndarray, thresholds: Sequence[float] = THRESHOLDS, positive: int | None = None
) -> list[dict[str, float | None]]:
    """One row for each threshold t.

    With `positive`, t decides between that label and the others: texts whose probability of it is at least t are
    answered with it. `precision` is the share of those that have it, `recall` the share of all that have it that are
    answered, `coverage` the share of texts that are answered.

    Without, the likeliest label is the answer if its probability is at least t, else there is none. `precision` is
    the share of answers that are right, `recall` the share of all texts that are answered rightly, `coverage` that of
    texts that are answered; `f1_macro` is the mean over labels of F1, an answer withheld counting as none.

    Args:
      probabilities: [M, C].
      labels: [M] int.
      thresholds: t, in [0, 1].
      positive: an index into C.

    Returns:
      Rows of `threshold`, `precision` (None if nothing is answered), `recall`, `coverage`, `answered` and, without
      `positive`, `f1_macro`.

    Raises:
      ValueError: the shapes do not fit, or there is no example.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ValueError(f"probabilities {probabilities.shape} and labels {labels.shape} are not [M, C] and [M]")
    if positive is None:
        answers, sure = probabilities.argmax(-1), probabilities.max(-1)
        wanted = len(labels)
    else:
        answers, sure = np.full(len(labels), positive), probabilities[:, positive]
        wanted = int((labels == positive).sum())
    right = answers == labels
    rows = []
    for threshold in thresholds:
        answered = sure >= threshold
        row: dict[str, float | None] = {
            "threshold": float(threshold),
            "precision": float(right[answered].mean()) if answered.any() else None,
            "recall": float(right[answered].sum() / wanted) if wanted else None,
            "coverage": float(answered.mean()),
            "answered": int(answered.sum()),
        }
        if positive is None:
            row["f1_macro"] = _f1_macro(np.where(answered, answers, -1), labels, probabilities.shape[1])
        rows.append(row)
    return rows


def _f1_macro(answers: np.ndarray, labels: np.ndarray, count: int) -> float:
    """Mean over the labels that occur in the data or the answers of 2 TP / (answered + in the data)."""
    scores = []
    for label in range(count):
        gold, answered = labels == label, answers == label
        if gold.any() or answered.any():
            scores.append(2 * float((gold & answered).sum()) / float(gold.sum() + answered.sum()))
    return float(np.mean(scores))
