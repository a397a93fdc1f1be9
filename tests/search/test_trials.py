"""What was tried and which was best."""

import math

from search import planted

from bertlite_jax.search import trials
from bertlite_jax.search.trials import Evaluation, Trial

SMALL, MIDDLE = planted.CANDIDATES[0], planted.CANDIDATES[150]


def test_each_learning_rate_is_a_trial():
    asked = []

    def error(trial: Trial) -> float:
        asked.append(trial)
        return 2.0 if trial.learning_rate == 1e-4 else 1.0

    results = trials.tried(SMALL, Evaluation(error, planted.w, (1e-4, 5e-4), 8))
    assert asked == [Trial(SMALL.shape, 1e-4, 8), Trial(SMALL.shape, 5e-4, 8)]
    assert [each.error for each in results] == [2.0, 1.0]
    best = trials.winner(results)
    assert best is not None
    assert best.trial.learning_rate == 5e-4
    assert best.score == planted.w(SMALL.cost, 1.0)


def test_equal_scores_go_to_the_smallest_whatever_the_order():
    """Without parameters and time in the score, all of the space is equal."""
    equal = Evaluation(lambda trial: 1.0, lambda cost, error: 1 / error, (1e-4, 5e-4), 8)
    results = [result for each in reversed(planted.CANDIDATES[::50]) for result in trials.tried(each, equal)]
    best = trials.winner(results)
    assert best is not None
    assert best.candidate == SMALL
    assert best.trial.learning_rate == 1e-4


def test_trials_that_diverged_are_never_chosen():
    failed = planted.evaluation(lambda shape: math.nan if shape == SMALL.shape else 9.0)
    results = trials.tried(SMALL, failed) + trials.tried(MIDDLE, failed)
    assert math.isnan(results[0].score)
    best = trials.winner(results)
    assert best is not None
    assert best.candidate == MIDDLE
    assert trials.ranking(results) == [best]
    assert trials.winner(results[:1]) is None
    assert trials.winner([]) is None


def test_a_low_error_after_few_steps_does_not_win():
    """Of other batches, or before a schedule has ended, it says nothing beside the others."""
    evaluation = Evaluation(lambda trial: trial.steps, planted.w, (1e-4,), 8)
    results = trials.tried(SMALL, evaluation, steps=2) + trials.tried(MIDDLE, evaluation)
    best = trials.winner(results)
    assert best is not None
    assert best.candidate == MIDDLE


def test_compute_is_flops_times_steps_once_for_each_trial():
    evaluation = planted.evaluation(lambda shape: 1.0, rates=(1e-4, 5e-4), steps=8)
    results = trials.tried(SMALL, evaluation)
    assert trials.spent(results) == 2 * 8 * SMALL.cost.step_flops
    assert trials.spent(results + results) == trials.spent(results)
    assert trials.spent(results + trials.tried(SMALL, evaluation, steps=4)) == 2 * 12 * SMALL.cost.step_flops
