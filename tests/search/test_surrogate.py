"""The formulas of the error of a short training."""

import dataclasses
import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from search import planted

from bertlite_jax.config.search.settings import Shape
from bertlite_jax.search import surrogate
from bertlite_jax.search.trials import Trial

TRIAL = Trial(planted.BORT, 1e-4, 8)


# --- Keys --------------------------------------------------------------------------------------------------------


def test_a_key_depends_on_everything_and_on_no_order():
    key = surrogate.memo_key(trial=TRIAL, data="abc", seeds=(0, 1))
    assert len(key) == 64
    assert key == surrogate.memo_key(seeds=(0, 1), data="abc", trial=TRIAL)
    others = [
        surrogate.memo_key(trial=dataclasses.replace(TRIAL, steps=9), data="abc", seeds=(0, 1)),
        surrogate.memo_key(trial=dataclasses.replace(TRIAL, shape=Shape()), data="abc", seeds=(0, 1)),
        surrogate.memo_key(trial=TRIAL, data="abd", seeds=(0, 1)),
        surrogate.memo_key(trial=TRIAL, data="abc", seeds=(1, 0)),
        surrogate.memo_key(trial=TRIAL, corpus="abc", seeds=(0, 1)),
    ]
    assert len({key, *others}) == 6


def test_a_key_is_the_same_in_another_process():
    """Python's own hash of a string is not. Here, SHA-256 of a text that is written out."""
    text = b'{"data": "abc", "trial": {"Trial": {"learning_rate": 0.5, "shape": null, "steps": 8}}}'
    assert surrogate.memo_key(trial=Trial(None, 0.5, 8), data="abc") == hashlib.sha256(text).hexdigest()  # pyright: ignore


def test_what_has_no_value_that_lasts_is_no_part_of_a_key():
    with pytest.raises(TypeError, match="function"):
        surrogate.memo_key(error=lambda: 0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        surrogate.memo_key(rate=math.nan)


# --- Extrapolation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b", "c"), [(2.0, 5.0, 0.5), (0.0, 9.0, 0.1), (1.5, 40.0, 1.2), (3.0, 1.0, 1e-9)])
def test_a_power_law_is_continued_exactly(a, b, c):
    def law(step: float) -> float:
        return a + b * step**-c

    found = surrogate.extrapolated([law(50), law(100), law(200)], 200, 2000)
    assert found == pytest.approx(law(2000), rel=1e-6)


def test_the_step_itself_is_not_changed():
    assert surrogate.extrapolated([5.0, 4.0, 3.5], 200, 200) == 3.5


def test_a_loss_that_falls_ever_faster_is_continued_along_a_line_over_log_n():
    """By 0.25, then by 1: two more doublings by 1 each, and never below 0."""
    assert surrogate.extrapolated([5.0, 4.7, 3.7], 200, 800) == pytest.approx(1.7)
    assert surrogate.extrapolated([5.0, 4.0, 3.0], 200, 800) == pytest.approx(1.0)
    assert surrogate.extrapolated([5.0, 4.7, 3.7], 200, 200 * 2**9) == 0


def test_a_loss_that_rises_at_the_end_stays():
    assert surrogate.extrapolated([5.0, 4.0, 4.1], 200, 2000) == 4.1
    assert surrogate.extrapolated([4.0, 4.0, 4.0], 200, 2000) == 4.0


def test_a_loss_that_rose_at_first_and_then_fell_is_continued_too():
    assert surrogate.extrapolated([4.0, 4.5, 4.0], 200, 400) == pytest.approx(3.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_run_that_diverged_has_no_extrapolation(bad):
    assert math.isnan(surrogate.extrapolated([5.0, 4.0, bad], 200, 2000))


def test_weights_are_clipped_to_a_box_and_to_nothing_else():
    params = {"kernel": jnp.array([[-2.0, 0.25]]), "bias": {"b": jnp.array([0.5, 9.0])}}
    found = surrogate.clipped(params, 0.5)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    np.testing.assert_array_equal(found["kernel"], [[-0.5, 0.25]])
    np.testing.assert_array_equal(found["bias"]["b"], [0.5, 0.5])
