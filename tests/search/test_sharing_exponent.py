"""The exponent of sharing is found again in losses that follow the law, noise included."""

import dataclasses
import itertools

import numpy as np
import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.search.sharing_exponent import Point, fit

FLOOR, SCALE, ALPHA = 2.5, 60.0, 0.35
"""Losses of 3.2 to 4.6, as small encoders have them after some hundred steps."""
NOISE = 0.01
"""Standard deviation over seeds, nats."""


def grid(exponents: dict[str, float], noise: float = 0.0, seed: int = 0) -> list[Point]:
    """Twelve layers of three widths in blocks of 12 / r, and the loss of each by the law."""
    draw, points = np.random.default_rng(seed), []
    for width, r, kind in itertools.product((48, 64, 96), (1, 2, 3, 4, 6, 12), exponents):
        if r == 1 and kind != next(iter(exponents)):
            continue
        once, shared = 2 * width * width, 12 // r * 12 * width * width
        law = FLOOR + SCALE * (once + r ** exponents[kind] * shared) ** -ALPHA
        points.append(Point(law + noise * draw.standard_normal(), once, shared, r, kind))
    return points


@pytest.mark.parametrize("exponent", [0.0, 0.46, 1.0])
def test_without_noise_the_law_is_found_exactly(exponent):
    points = grid({"": exponent})
    found = fit(points, draws=2)
    assert found.exponents[""] == pytest.approx(exponent, abs=1e-3)
    assert (found.floor, found.scale, found.alpha) == pytest.approx((FLOOR, SCALE, ALPHA), rel=1e-2)
    assert found.r_squared == pytest.approx(1)
    np.testing.assert_allclose(found.predicted(points), [point.loss for point in points], atol=1e-5)


def test_noise_is_in_the_interval():
    """And two kinds have an exponent each. Their intervals do not overlap, since the truths lie far apart."""
    truths = {"plain": 0.46, "with norms": 0.75}
    points = grid(truths, NOISE)
    assert len(points) == 33
    found = fit(points, draws=200)
    for kind, truth in truths.items():
        low, high = found.intervals[kind]
        assert low < truth < high
        assert low < found.exponents[kind] < high
        assert high - low < 0.4
    assert found.intervals["plain"][1] < found.intervals["with norms"][0]
    assert found.deviation == pytest.approx(NOISE, rel=0.3)


def test_most_intervals_hold_the_truth_and_more_noise_makes_them_wider():
    """Of twelve grids with 95 % each. Binomial: fewer than nine has a probability of 0.3 %."""
    found = [fit(grid({"": 0.46}, NOISE, seed), draws=40).intervals[""] for seed in range(12)]
    assert sum(low < 0.46 < high for low, high in found) >= 9
    noisy = fit(grid({"": 0.46}, 3 * NOISE), draws=40).intervals[""]
    assert np.ptp(noisy) > 2 * np.ptp(found[0])


def test_the_same_draws_give_the_same_interval():
    points = grid({"": 0.46}, NOISE)
    assert fit(points, draws=20) == fit(points, draws=20)
    assert fit(points, draws=20).intervals != fit(points, draws=20, seed=1).intervals


def test_what_cannot_be_told_is_refused():
    points = grid({"": 0.46})
    with pytest.raises(UserError, match=r"the runs have r = \[1\] alone; add runs that apply their blocks once"):
        fit([point for point in points if point.applications == 1])
    with pytest.raises(UserError, match=r"the runs of free have r = \[4\] alone"):
        fit([dataclasses.replace(point, kind="free") for point in points if point.applications == 4])
    with pytest.raises(UserError, match="15 runs are too few for 4 numbers; at least 16"):
        fit(points[:15])
    with pytest.raises(UserError, match="no r has runs of three sizes"):
        fit([point for point in points if point.once != points[0].once] * 2)
