"""Ranges by hand: extremes, percentiles, and where clipping loses least."""

import numpy as np
import pytest
from integer_examples import ALBERT, TWO_LABELS, batch_of, weights_of

from bertlite_jax.convert.int8 import calibrate
from bertlite_jax.convert.weights import quantized


def test_a_percentile_leaves_out_half_at_each_end():
    """1,000 values in bins of 1: 98 % leaves out the lowest and the highest ten."""
    counts = np.ones(1000, np.int64)
    assert calibrate.percentile_range(counts, 0.0, 1000.0, 98.0) == pytest.approx((10.0, 990.0), abs=1.01)


def test_a_hundred_percent_is_everything():
    counts = np.r_[1, np.zeros(998, int), 1]
    assert calibrate.percentile_range(counts, -3.0, 7.0, 100.0) == pytest.approx((-3.0, 7.0))


def test_entropy_clips_one_outlier_and_no_uniform_distribution():
    rng = np.random.default_rng(0)
    values = np.r_[rng.normal(size=200_000), 100.0]
    counts = np.histogram(values, calibrate.BINS, (-5.0, 100.0))[0]
    low, high = calibrate.entropy_range(counts, -5.0, 100.0)
    assert high < 50
    assert low == -5.0
    even = np.histogram(rng.uniform(-1, 1, 400_000), calibrate.BINS, (-1.0, 1.0))[0]
    low, high = calibrate.entropy_range(even, -1.0, 1.0)
    assert high > 0.9
    assert low < -0.9


def test_an_unsigned_step_covers_the_range_and_zero_exactly():
    """[-1, 4] in 255 steps of 5 / 255: zero is step 51. A range above zero is widened down to it."""
    step, zero = quantized.static_step(-1.0, 4.0)
    assert (float(step), zero) == (pytest.approx(5 / 255), 51)
    assert quantized.static_step(2.0, 4.0)[1] == 0


def test_every_application_of_a_shared_layer_has_a_range_of_its_own():
    weights = weights_of(ALBERT, TWO_LABELS)
    found = calibrate.ranges(weights, [batch_of(ALBERT, (20, 7))], "minmax")
    assert len(found) == 75
    assert len({found[f"layers.{layer}.ffn.down"] for layer in range(12)}) == 12
    # Query, key and value read the same states.
    assert found["layers.3.attention.query"] == found["layers.3.attention.value"]


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_other_methods_stay_within_the_extremes(method):
    weights = weights_of(ALBERT, TWO_LABELS)
    batches = [batch_of(ALBERT, (40, 40), seed=seed) for seed in range(2)]
    extremes = calibrate.ranges(weights, batches, "minmax")
    for name, (low, high) in calibrate.ranges(weights, batches, method, 99.0).items():
        assert extremes[name][0] <= low < high <= extremes[name][1]
