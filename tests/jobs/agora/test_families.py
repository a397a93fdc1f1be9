"""Which sets go and come back, by hand-made scores, and how many models that makes, by trying all ways."""

import functools
import math

import pytest

from bertlite_jax.config.agora.sets import Set
from bertlite_jax.jobs.agora import families

A = Set(1e-4, 0.0, 0.1, 16, 0)
B = Set(1e-4, 0.0, 0.1, 16, 1)
C = Set(1e-4, 0.0, 0.1, 32, 0)
D = Set(5e-5, 0.0, 0.1, 32, 1)
E = Set(5e-5, 0.0, 0.1, 32, 0)


def test_the_worst_goes_with_its_nearest_relatives_in_the_lower_half():
    """A is the worst. B and C differ from it in one setting, E in two and D in three; the median is B's 0.6."""
    scores = {A: 0.5, B: 0.6, C: 0.9, D: 0.55, E: 0.7}
    gone = families.removed(scores, "family")
    assert gone == {A: "the worst", B: "has 4 of 5 settings in common with the worst"}


def test_the_whole_family_goes_whatever_its_scores():
    scores = {A: 0.5, B: 0.6, C: 0.9, D: 0.55, E: 0.7}
    assert list(families.removed(scores, "whole_family")) == [A, B, C]


def test_the_lower_half_goes_rounded_up():
    assert list(families.removed({A: 0.5, B: 0.6, C: 0.9, D: 0.55, E: 0.7}, "half")) == [A, D, B]
    assert list(families.removed({A: 0.5, B: 0.4}, "half")) == [B]


@pytest.mark.parametrize("prune", ["family", "whole_family", "half"])
def test_the_last_set_goes_too(prune):
    assert list(families.removed({A: 0.5}, prune)) == [A]


@pytest.mark.parametrize("prune", ["family", "whole_family", "half"])
def test_sets_that_have_diverged_are_the_worst(prune):
    assert next(iter(families.removed({A: 0.5, B: -math.inf, C: 0.4}, prune))) == B


def test_strangers_are_no_family():
    other = Set(1.0, 2.0, 0.3, 4, 5)
    assert list(families.removed({A: 0.1, other: 0.1}, "whole_family")) == [A]


def test_of_equal_scores_the_first_set_is_the_worst():
    assert next(iter(families.removed({B: 0.5, A: 0.5}, "family"))) == B


def test_the_best_of_those_that_have_gone_come_back_and_of_equal_ones_the_latest():
    gone = {A: 0.5, B: 0.7, C: 0.7, D: -math.inf, E: 0.6}
    assert families.replayed(gone, 3) == [C, B, E]
    assert families.replayed(gone, 9) == [C, B, E, A, D]
    assert families.replayed({}, 3) == []


@pytest.mark.parametrize(
    ("scores", "patience", "still"),
    [
        ([0.5], 1, False),
        ([0.5, 0.5], 1, True),
        ([0.5, 0.6], 1, False),
        ([0.5, 0.6, 0.6], 2, False),
        ([0.6, 0.5, 0.6], 2, True),
        ([0.6, 0.5, 0.55, 0.59], 2, True),
        ([], 1, False),
    ],
)
def test_the_best_score_stands_still(scores, patience, still):
    assert families.stands_still(scores, patience) == still


def by_trying_all(sets: int, replays: int, replay_sets: int, rounds: int) -> int:
    @functools.cache
    def after(left: int, replays: int, rounds: int) -> int:
        if not left or not rounds:
            return 0
        ways = [after(left - gone, replays, rounds - 1) for gone in range(1, left + 1)]
        if replays:
            ways += [
                after(left - gone + min(replay_sets, sets - left + gone), replays - 1, rounds - 1)
                for gone in range(1, left + 1)
            ]
        return left + max(ways)

    return after(sets, replays, rounds)


@pytest.mark.parametrize("sets", [1, 2, 3, 7])
@pytest.mark.parametrize("replays", [0, 1, 2])
@pytest.mark.parametrize("replay_sets", [1, 4])
@pytest.mark.parametrize("rounds", [1, 3, 40])
def test_the_most_models_are_those_of_the_worst_way(sets, replays, replay_sets, rounds):
    assert families.most_models(sets, replays, replay_sets, rounds) == by_trying_all(sets, replays, replay_sets, rounds)


def test_without_replay_and_limit_one_set_less_in_each_round():
    assert families.most_models(12, 0, 4) == 12 * 13 / 2
    assert families.most_models(480, 0, 4) == 480 * 481 / 2
