"""Where to cut: precision, recall and coverage, counted by hand."""

import numpy as np
import pytest

from bertlite_jax.data.scores import thresholds

SHARES = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.45, 0.55]])
LABELS = np.array([0, 1, 1, 0, 1])


def test_the_likeliest_label_is_the_answer_where_it_is_sure_enough():
    """Sure of 0.9, 0.6, 0.7, 0.8, 0.55; answers 0 0 1 1 1, right: yes no yes no yes."""
    every, some, none = thresholds.table(SHARES, LABELS, (0.0, 0.65, 0.95))
    assert (every["precision"], every["recall"], every["coverage"], every["answered"]) == (0.6, 0.6, 1.0, 5)
    # Left: 0.9 (right), 0.7 (right), 0.8 (wrong).
    assert (some["precision"], some["recall"], some["coverage"]) == pytest.approx((2 / 3, 2 / 5, 3 / 5))
    # F1 of label 0: 1 right, 1 said, 2 there: 2/3; of label 1: 1 right, 2 said, 3 there: 2/5.
    assert some["f1_macro"] == pytest.approx((2 / 3 + 2 / 5) / 2)
    assert none["precision"] is None
    assert none["recall"] == none["coverage"] == 0


def test_one_label_against_the_others():
    """Label 1 from 0.5 on: examples 2, 3 and 4, of which 2 and 4 have it, of three that have it."""
    (row,) = thresholds.table(SHARES, LABELS, (0.5,), positive=1)
    assert (row["precision"], row["recall"], row["coverage"]) == pytest.approx((2 / 3, 2 / 3, 3 / 5))


def test_against_scikit_learn():
    from sklearn.metrics import f1_score, precision_recall_curve

    rng = np.random.default_rng(0)
    shares, labels = rng.dirichlet(np.ones(3), 200), rng.integers(0, 3, 200)
    precision, recall, cuts = precision_recall_curve(labels == 1, shares[:, 1])
    rows = thresholds.table(shares, labels, cuts.tolist(), positive=1)
    np.testing.assert_allclose(np.array([row["precision"] for row in rows], float), precision[:-1])
    np.testing.assert_allclose(np.array([row["recall"] for row in rows], float), recall[:-1])
    (row,) = thresholds.table(shares, labels, (0.5,))
    answers = np.where(shares.max(-1) >= 0.5, shares.argmax(-1), 3)
    wanted = f1_score(labels, answers, labels=[0, 1, 2], average="macro")
    assert row["f1_macro"] == pytest.approx(wanted)


def test_a_threshold_above_all_probabilities_answers_nothing():
    (row,) = thresholds.table(SHARES, LABELS, (0.95,))
    nothing = {"recall": 0.0, "coverage": 0.0, "answered": 0, "f1_macro": 0.0}
    assert row == {"threshold": 0.95, "precision": None, **nothing}


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"not .M, C. and .M."):
        thresholds.table(SHARES, LABELS[:3])
