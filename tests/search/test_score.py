"""The W-coefficient: its values over Bort's space, and what changes it."""

import dataclasses
import math

import pytest
from search import planted

from bertlite_jax.config.search.checks import MOST_EXPONENT
from bertlite_jax.config.search.settings import Shape
from bertlite_jax.search.candidates import Cost
from bertlite_jax.search.score import spread, w_coefficient

MAXIMUM = Cost(100, 10.0, 1)
COST = Cost(20, 5.0, 1)


def base(shape: Shape) -> float:
    """The two savings alone: W at an error of 1."""
    return planted.w(planted.COSTS[shape], 1.0)


# Shape, savings, and the multiple of Bort's error above which Bort has the larger W; arithmetic with p in millions and
# i in GFLOP of the masked-LM model, V = 50,265, L = 512.
SAVINGS = [
    (Shape(2, 4, 512, 256, 512), 0.9083, 1.2613),
    (Shape(4, 8, 512, 768, 512), 0.8791, 1.2208),
    (Shape(6, 8, 512, 256, 512), 0.8733, 1.2128),
    (Shape(4, 8, 768, 1024, 768), 0.7954, 1.1046),
    (Shape(2, 16, 1024, 512, 1024), 0.7895, 1.0963),
    (planted.BORT, 0.7201, 1.0),
    (Shape(12, 12, 768, 3072, 768), 0.4619, 0.6414),
    (Shape(12, 16, 1024, 3072, 1024), 0.2862, 0.3975),
]


@pytest.mark.parametrize(("shape", "saved", "ratio"), SAVINGS)
def test_the_savings_of_shapes_of_the_space(shape, saved, ratio):
    assert base(shape) == pytest.approx(saved, abs=5e-5)
    assert base(shape) / base(planted.BORT) == pytest.approx(ratio, abs=2e-4)


def test_the_savings_by_hand_for_bort():
    """Parameters: 76,208,217 of 355.409 M; time: 27.917 of 335.007 GFLOP; 0.7856 x 0.9167."""
    assert round(planted.MAXIMUM.cost.parameters / 1e6, 3) == 355.409
    assert round(planted.MAXIMUM.cost.seconds * planted.MACHINE.flops_per_second / 1e9, 3) == 335.007
    by_hand = (1 - 76_208_217 / planted.MAXIMUM.cost.parameters) * (1 - 1 / 12)
    assert base(planted.BORT) == pytest.approx(by_hand)


def test_177_of_300_shapes_save_more_than_bort_and_its_twins_as_much():
    saved = {shape: base(shape) for shape in planted.COSTS}
    assert sum(value > saved[planted.BORT] for value in saved.values()) == 177
    assert saved[Shape(4, 4, 1024, 768, 1024)] == saved[planted.BORT] == saved[Shape(4, 16, 1024, 768, 1024)]
    assert max(saved.values()) == saved[Shape(2, 4, 512, 256, 512)]
    assert min(saved.values()) == saved[Shape(12, 16, 1024, 3072, 1024)]


def test_w_by_hand():
    """(1 - 0.2) (1 - 0.5) / 2."""
    assert w_coefficient(COST, 2.0, MAXIMUM) == pytest.approx(0.2)
    assert w_coefficient(COST, 2.0, MAXIMUM, (2.0, 1.0, 3.0)) == pytest.approx(0.64 * 0.5 / 8)


@pytest.mark.parametrize("worse", [Cost(21, 5.0, 1), Cost(20, 5.1, 1)])
def test_w_falls_with_parameters_and_with_time(worse):
    assert w_coefficient(worse, 2.0, MAXIMUM) < w_coefficient(COST, 2.0, MAXIMUM)


def test_w_falls_with_the_error():
    assert w_coefficient(COST, 2.1, MAXIMUM) < w_coefficient(COST, 2.0, MAXIMUM)


def test_the_maximum_point_has_a_w_of_0():
    assert w_coefficient(MAXIMUM, 0.1, MAXIMUM) == 0


@pytest.mark.parametrize("cost", [Cost(120, 12.0, 1), Cost(120, 5.0, 1), Cost(20, 12.0, 1)])
@pytest.mark.parametrize("exponents", [(1.0, 1.0, 1.0), (2.0, 2.0, 1.0), (0.5, 0.5, 1.0)])
def test_what_is_not_smaller_or_not_faster_saves_nothing(cost, exponents):
    """As another machine may time it. The product of two negative savings is no saving."""
    assert w_coefficient(cost, 0.1, MAXIMUM, exponents) == 0


def test_units_of_parameters_and_time_do_not_matter():
    cost, most = (Cost(1000 * each.parameters, each.seconds / 60, 1) for each in (COST, MAXIMUM))
    assert w_coefficient(cost, 2.0, most) == pytest.approx(w_coefficient(COST, 2.0, MAXIMUM))


def test_a_factor_on_all_errors_changes_no_order_and_a_summand_does():
    """Why cross-entropy and divergence, which differ by the teacher's entropy, choose differently."""
    other, errors = Cost(60, 7.0, 1), (2.0, 0.5)  # W 0.2 and 0.24.

    def prefers_other(scale: float, more: float) -> bool:
        scores = [
            w_coefficient(cost, scale * error + more, MAXIMUM)
            for cost, error in zip((COST, other), errors, strict=True)
        ]
        return scores[1] > scores[0]

    assert prefers_other(1, 0)
    assert prefers_other(100, 0)
    assert not prefers_other(1, 5)


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_a_trial_without_an_error_has_no_score(error):
    assert math.isnan(w_coefficient(COST, error, MAXIMUM))


def test_a_perfect_shape_has_a_finite_score():
    assert 0 < w_coefficient(COST, 0.0, MAXIMUM) < math.inf
    assert w_coefficient(COST, -1e-9, MAXIMUM) == w_coefficient(COST, 0.0, MAXIMUM)


@pytest.mark.parametrize("error", [0.0, 1e300])
def test_four_times_the_largest_exponent_gives_a_finite_score(error):
    assert 0 <= w_coefficient(COST, error, MAXIMUM, (1.0, 1.0, 4 * MOST_EXPONENT)) < math.inf


def test_seeds_give_a_mean_and_the_deviation_of_the_sample():
    """Errors 1 and 2 give W 0.4 and 0.2: mean 0.3, deviation 0.1 sqrt 2."""

    def score(cost: Cost, error: float) -> float:
        return w_coefficient(cost, error, MAXIMUM)

    assert spread(score, COST, [1.0, 2.0]) == pytest.approx((0.3, 0.1 * math.sqrt(2)))
    assert spread(score, COST, [2.0]) == pytest.approx((0.2, 0.0))
    assert math.isnan(spread(score, COST, [2.0, math.nan])[0])


def test_costs_are_compared_as_they_are():
    """A measured time in place of FLOPs changes W by that factor alone."""
    slower = dataclasses.replace(COST, seconds=7.5)
    assert w_coefficient(slower, 2.0, MAXIMUM) == pytest.approx(w_coefficient(COST, 2.0, MAXIMUM) / 2)
