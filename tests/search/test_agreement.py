"""Rank correlations, and what another setting would have chosen."""

import csv
import math
import os
import pathlib

import pytest
from search import planted

from bertlite_jax.search import agreement, candidates, strategies, trials
from bertlite_jax.search.candidates import Cost
from bertlite_jax.search.score import w_coefficient


def test_rank_correlations_by_hand():
    """Ranks 1 2 3 4 5 and 2 1 4 3 5: squares sum to 4, so rho = 1 - 24 / 120; 8 pairs agree, 2 do not: tau 0.6."""
    rho, tau = agreement.rank_correlation([1, 2, 3, 4, 5], [20, 10, 40, 30, 50])
    assert rho == pytest.approx(0.8)
    assert tau == pytest.approx(0.6)
    assert agreement.rank_correlation([1, 2, 3], [9, 4, 1]) == (pytest.approx(-1), pytest.approx(-1))


def test_failed_trials_are_left_out():
    first, second = [1, math.nan, 2, 3, 4], [1, 0, 2, math.inf, 3]
    assert agreement.rank_correlation(first, second) == (pytest.approx(1), pytest.approx(1))


@pytest.mark.parametrize(("first", "second"), [([], []), ([1], [2]), ([1, 2, 3], [5, 5, 5]), ([math.nan, 1], [1, 2])])
def test_there_is_no_correlation_of_one_thing_or_with_a_constant(first, second):
    assert all(map(math.isnan, agreement.rank_correlation(first, second)))


def test_published_parameter_counts_rank_500_small_berts_as_published():
    """Spearman's rho of parameters and GLUE in NAS-Bench-BERT: what a surrogate has to beat."""
    folder = os.environ.get("BERTLITE_NAS_BENCH_BERT", "")
    if not folder:
        pytest.skip("needs BERT_results_activation.csv of aaronserianni/training-free-nas; "
                    "set BERTLITE_NAS_BENCH_BERT to its folder")  # fmt: skip
    with (pathlib.Path(folder) / "BERT_results_activation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [[float(row[name]) for row in rows] for name in ("Number of Parameters", "GLUE Score")]
    assert agreement.rank_correlation(*columns)[0] == pytest.approx(0.652, abs=5e-4)


def shallow_is_worse(shape) -> float:
    """The error that favours Bort's depth under the published exponents."""
    return 1 + 0.2 * max(0, 4 - shape.num_layers) ** 2


ALL = strategies.tried_at_strides(planted.CANDIDATES, planted.evaluation(shallow_is_worse))


def w_with(exponents):
    return lambda cost, error: w_coefficient(cost, error, planted.MAXIMUM.cost, exponents)


def best(results) -> trials.Result:
    found = trials.winner(results)
    assert found is not None
    return found


def test_another_exponent_or_a_coarser_stride_may_choose_another_shape():
    """Four layers pay here. They would not if the error counted less, and a stride of 300 tries the smallest only."""
    original = best(ALL)
    assert planted.without_heads(original.candidate.shape) == (4, 512, 256)
    strided = {each.shape for each in candidates.every(planted.CANDIDATES, 300)}
    changes = agreement.sensitivity(
        original,
        {
            "as it was": ALL,
            "error less": agreement.rescored(ALL, w_with((1.0, 1.0, 0.01))),
            "error alone": agreement.rescored(ALL, w_with((0.0, 0.0, 1.0))),
            "stride 300": [each for each in ALL if each.candidate.shape in strided],
        },
    )
    assert changes["as it was"] == (original, True, 0.0)
    less = changes["error less"]
    assert less.best is not None
    assert planted.without_heads(less.best.candidate.shape) == (2, 512, 256)
    ratio = planted.w(original.candidate.cost, 1.0) / planted.w(less.best.candidate.cost, 1.0)
    assert less.regret == pytest.approx(1 - ratio * 1.8**0.01)
    assert changes["error alone"].same_shape  # Of those with no error to speak of, it is the smallest.
    assert changes["error alone"].regret == 0
    assert not changes["stride 300"].same_shape
    assert math.isnan(changes["stride 300"].regret)


def test_other_latencies_are_other_costs_of_the_same_trials():
    """Where deep models take no longer, only parameters speak against them."""
    costs = {shape: Cost(cost.parameters, 1e-3, cost.step_flops) for shape, cost in planted.COSTS.items()}
    again = agreement.rescored(ALL, planted.w, costs)
    assert [each.trial for each in again] == [each.trial for each in ALL]
    assert [each.error for each in again] == [each.error for each in ALL]
    assert {each.candidate.cost.seconds for each in again} == {1e-3}
    assert again[0].score == planted.w(costs[again[0].candidate.shape], again[0].error)


def test_a_setting_in_which_nothing_has_a_score_chooses_nothing():
    failed = [each for each in agreement.rescored(ALL, lambda cost, error: math.nan)]
    change = agreement.sensitivity(best(ALL), {"failed": failed})["failed"]
    assert change.best is None
    assert not change.same_shape
    assert math.isnan(change.regret)
