"""Whether each strategy finds the best shape if it is told the errors."""

import dataclasses
import itertools
import math

import pytest
from search import planted

from bertlite_jax.config.search.settings import Method, Shape, Space
from bertlite_jax.errors import UserError
from bertlite_jax.search import space, strategies, trials
from bertlite_jax.search.trials import Trial

SMALLEST = (2, 512, 256)
EQUAL = [dataclasses.replace(each, cost=dataclasses.replace(each.cost, step_flops=1)) for each in planted.CANDIDATES]
"""Of equal compute, as if all shapes trained alike: what is spent is a number of steps."""


def near(shape: Shape) -> list[Shape]:
    return space.neighbours(Space(), shape)


def law(depth: float, ffn: float, floor: float):
    """An error that falls as powers of N D and of F."""

    def error(shape: Shape) -> float:
        N, D, F = planted.without_heads(shape)
        return floor + depth * (N * D) ** -0.3 + ffn * F**-0.2

    return error


def valley(shape: Shape) -> float:
    """An error with its least value inside the space: too deep is as bad as too shallow."""
    N, D, F = planted.without_heads(shape)
    return 1 + 0.05 * (N - 6) ** 2 + 0.5 * abs(math.log2(D / 768)) + 0.3 * abs(math.log2(F / 1024))


PLANTED = {"steep": law(40.0, 1.0, 0.0), "both": law(20.0, 6.0, 0.5), "flat": law(4.0, 2.0, 2.0), "valley": valley}


def best_of(results) -> trials.Result:
    best = trials.winner(results)
    assert best is not None
    return best


def chosen(error) -> tuple[int, int, int]:
    found = strategies.tried_at_strides(planted.CANDIDATES, planted.evaluation(error))
    return planted.without_heads(best_of(found).candidate.shape)


# --- As published ------------------------------------------------------------------------------------------------


def test_without_differences_in_error_the_smallest_shape_wins():
    """As after a few steps, when all losses are near ln V: the published surrogate then only counts parameters."""
    assert chosen(lambda shape: 10.8) == SMALLEST


@pytest.mark.parametrize(("others", "winner"), [(1.27, (4, 1024, 768)), (1.25, SMALLEST)])
def test_bort_wins_where_every_other_error_is_a_quarter_larger(others, winner):
    """Its savings are 1 / 1.2613 of the smallest shape's."""
    bort = planted.without_heads(planted.BORT)
    assert chosen(lambda shape: 1.0 if planted.without_heads(shape) == bort else others) == winner


@pytest.mark.parametrize("name", PLANTED)
def test_the_stride_1_finds_what_brute_force_finds(name):
    scores = {each.shape: planted.w(each.cost, PLANTED[name](each.shape)) for each in planted.CANDIDATES}
    found = best_of(strategies.tried_at_strides(planted.CANDIDATES, planted.evaluation(PLANTED[name])))
    assert found.score == max(scores.values())
    assert scores[found.candidate.shape] == found.score


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("stride", [2, 3, 5, 10])
def test_a_coarse_stride_with_refinement_comes_within_a_hundredth(name, stride):
    evaluation = planted.evaluation(PLANTED[name])
    best = best_of(strategies.tried_at_strides(planted.CANDIDATES, evaluation)).score
    coarse = strategies.tried_at_strides(planted.CANDIDATES, evaluation, stride)
    results = strategies.refined(coarse, planted.CANDIDATES, near, evaluation)
    assert results[: len(coarse)] == coarse
    assert best_of(coarse).score <= best_of(results).score
    assert 0.99 * best <= best_of(results).score <= best


def test_refinement_ends_where_no_neighbour_is_better_and_tries_nothing_twice():
    asked: list[Trial] = []

    def error(trial: Trial) -> float:
        asked.append(trial)
        return valley(trial.shape)

    evaluation = planted.evaluation(valley)._replace(error=error)
    coarse = strategies.tried_at_strides(planted.CANDIDATES, evaluation, 60)
    results = strategies.refined(coarse, planted.CANDIDATES, near, evaluation)
    assert len(set(asked)) == len(asked) == len(results)
    best = best_of(results)
    assert all(planted.w(planted.COSTS[each], valley(each)) <= best.score for each in near(best.candidate.shape))


def test_refinement_stays_among_the_allowed():
    allowed = planted.CANDIDATES[:40]
    evaluation = planted.evaluation(PLANTED["steep"])
    results = strategies.refined(strategies.tried_at_strides(allowed, evaluation, 20), allowed, near, evaluation)
    assert {each.candidate.shape for each in results} <= {each.shape for each in allowed}


def test_every_learning_rate_is_tried_and_the_best_counts():
    """As in the paper, which optimises over Θ and the space together; the rates of a shape follow one another."""
    evaluation = planted.evaluation(valley, rates=(1e-4, 5e-4))
    better = evaluation._replace(error=lambda trial: valley(trial.shape) * (1 if trial.learning_rate > 2e-4 else 3))
    results = strategies.tried_at_strides(planted.CANDIDATES, better, 10)
    assert [each.trial.learning_rate for each in results] == [1e-4, 5e-4] * 30
    assert results[0].candidate == results[1].candidate
    assert best_of(results).trial.learning_rate == 5e-4


def test_a_search_in_which_all_trials_fail_has_no_winner():
    evaluation = planted.evaluation(lambda shape: math.nan)
    coarse = strategies.tried_at_strides(planted.CANDIDATES, evaluation, 100)
    assert strategies.refined(coarse, planted.CANDIDATES, near, evaluation) == coarse
    assert trials.winner(coarse) is None


# --- At equal compute --------------------------------------------------------------------------------------------


def budget_of(trials_: int) -> float:
    """Compute of so many trials of average cost."""
    mean = sum(each.cost.step_flops for each in planted.CANDIDATES) / len(planted.CANDIDATES)
    return trials_ * 8 * mean


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("wanted", [0, 1, 30, 150])
def test_no_strategy_spends_more_than_its_budget_and_most_of_it_is_used(seed, wanted):
    evaluation, budget = planted.evaluation(valley), budget_of(wanted)
    at_random = strategies.random_search(planted.CANDIDATES, evaluation, budget, seed)
    halved = strategies.successive_halving(planted.CANDIDATES, evaluation, budget, seed)
    for results in (at_random, halved):
        assert trials.spent(results) <= budget
        if wanted >= 30:
            assert trials.spent(results) > 0.8 * budget


def test_random_search_draws_without_replacement_by_its_seed():
    evaluation = planted.evaluation(valley)

    def drawn(seed: int) -> list[Shape]:
        found = strategies.random_search(planted.CANDIDATES, evaluation, budget_of(20), seed)
        return [each.candidate.shape for each in found]

    assert drawn(0) == drawn(0) != drawn(1)
    assert len(set(drawn(0))) == len(drawn(0))


def test_a_budget_for_all_makes_random_search_an_enumeration():
    evaluation = planted.evaluation(valley)
    everything = strategies.random_search(planted.CANDIDATES, evaluation, budget_of(300) + 1, 5)
    assert len(everything) == 300
    best = best_of(strategies.tried_at_strides(planted.CANDIDATES, evaluation))
    assert best_of(everything) == best


def test_halving_tries_half_as_many_with_twice_the_steps():
    """Of shapes of equal cost: 16, 8 and 4 with 2, 4 and 8 steps each take a third of the budget."""
    evaluation = planted.evaluation(valley, steps=8)
    results = strategies.successive_halving(EQUAL, evaluation, 3 * 32, 0)
    rounds = [[each for each in results if each.trial.steps == steps] for steps in (2, 4, 8)]
    assert [len(each) for each in rounds] == [16, 8, 4]
    assert [each.trial.steps for each in results] == [2] * 16 + [4] * 8 + [8] * 4
    for before, after in itertools.pairwise(rounds):
        best = {each.candidate.shape for each in trials.ranking(before)[: len(after)]}
        assert {each.candidate.shape for each in after} == best


def test_halving_finds_the_best_if_few_steps_rank_as_many_do():
    evaluation = planted.evaluation(valley)
    halved = strategies.successive_halving(planted.CANDIDATES, evaluation, budget_of(10_000), 0)
    assert best_of(halved).score == best_of(strategies.tried_at_strides(planted.CANDIDATES, evaluation)).score


def test_halving_goes_on_without_those_that_diverged():
    """Deep shapes do: 150 of 300 have more than six layers."""
    evaluation = planted.evaluation(lambda shape: math.nan if shape.num_layers > 6 else valley(shape))
    results = strategies.successive_halving(planted.CANDIDATES, evaluation, budget_of(10_000), 0)
    assert all(each.candidate.shape.num_layers <= 6 for each in results if each.trial.steps > 2)
    assert best_of(results).trial.steps == 8


def test_the_ranking_by_parameters_takes_the_largest():
    assert strategies.largest(planted.CANDIDATES).shape == Shape(12, 16, 1024, 3072, 1024)


# --- By the settings ---------------------------------------------------------------------------------------------


def test_methods_choose_among_what_is_fast_enough():
    """The limit is that of Bort; ranking takes the most parameters below it, and it is not the fastest."""
    limit = planted.COSTS[planted.BORT].seconds
    evaluation = planted.evaluation(PLANTED["steep"])
    for name in ("published", "random", "halving", "ranking"):
        method = Method(name, trials=40, most_seconds=limit)
        picked, results = strategies.searched(planted.CANDIDATES, near, evaluation, method)
        assert picked is not None
        assert all(each.candidate.cost.seconds <= limit for each in results)
        assert picked.cost.seconds <= limit
        assert (not results) == (name == "ranking")


def test_by_default_other_methods_spend_as_much_as_the_published_one():
    evaluation = planted.evaluation(valley)
    spent = {}
    for name in ("published", "random", "halving"):
        method = Method(name, stride=5, refine=False)
        spent[name] = trials.spent(strategies.searched(planted.CANDIDATES, near, evaluation, method)[1])
    assert 0.7 * spent["published"] < spent["random"] < 1.1 * spent["published"]
    assert 0.7 * spent["published"] < spent["halving"] < 1.1 * spent["published"]


def test_beside_the_published_search_others_may_spend_what_it_has_spent_with_its_refinement():
    method = Method("random", others=("ranking", "published"), stride=50)
    choices = strategies.compared(EQUAL, near, planted.evaluation(valley), method)
    assert list(choices) == ["random", "ranking", "published"]
    assert len(choices["random"][1]) == len(choices["published"][1]) > 6
    assert [len(choices["ranking"][1]), choices["ranking"][0]] == [1, strategies.largest(EQUAL)]
    few = strategies.compared(EQUAL, near, planted.evaluation(valley), dataclasses.replace(method, trials=5))
    assert len(few["random"][1]) == 5


def test_halving_that_cannot_pay_its_last_round_chooses_nothing():
    """Half of the compute of three trials with 8 steps pays three with 4, and then one of 8; that of one pays none."""
    for trials_, steps in ((3, {4, 8}), (1, {4})):
        method = Method("halving", trials=trials_, rounds=2)
        pick, results = strategies.searched(EQUAL, near, planted.evaluation(valley), method)
        assert {each.trial.steps for each in results} == steps
        assert (pick is not None) == (8 in steps)


def test_the_published_search_refines_only_if_it_is_asked_to():
    evaluation = planted.evaluation(valley)
    coarse = strategies.searched(planted.CANDIDATES, near, evaluation, Method(stride=50, refine=False))[1]
    refined = strategies.searched(planted.CANDIDATES, near, evaluation, Method(stride=50))[1]
    assert len(coarse) == 6
    assert len(refined) > 6


def test_a_latency_that_nothing_meets_is_refused_before_any_trial():
    def error(trial: Trial) -> float:
        raise AssertionError(trial)

    evaluation = planted.evaluation(valley)._replace(error=error)
    with pytest.raises(UserError, match="is met by no shape"):
        strategies.searched(planted.CANDIDATES, near, evaluation, Method(most_seconds=1e-6))


def test_a_budget_that_is_too_small_chooses_nothing():
    """The first shape of a random order costs more than the average one."""
    dear = [each for each in planted.CANDIDATES if each.shape.num_layers == 12]
    few = [planted.CANDIDATES[0], *dear[-3:]]
    found = [
        strategies.searched(few, near, planted.evaluation(valley), Method("random", trials=1, seed=n)) for n in range(8)
    ]
    assert (None, []) in found
