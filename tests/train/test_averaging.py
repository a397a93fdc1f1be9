"""Averages of the weights against their formulas."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bertlite_jax.config.finetune import TuneRun
from bertlite_jax.train import averaging


def path_of(run: TuneRun, steps: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Parameters and their average after each of `steps` updates, by gradient descent on |p|^2 / 2."""
    chain = optax.chain(optax.sgd(0.3), averaging.average(run, steps))
    params: Any = {"w": jnp.array([1.0, -2.0])}
    state = chain.init(params)
    seen, means = [], []
    for _ in range(steps):
        updates, state = jax.jit(chain.update)(params, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(np.asarray(params["w"]))
        means.append(np.asarray(averaging.averaged(state, params)["w"]))
    return seen, means


def test_the_tail_is_the_plain_mean_of_the_last_updates_and_the_weights_before():
    seen, means = path_of(TuneRun(average="tail", average_steps=3), 8)
    np.testing.assert_array_equal(means[:6], seen[:6])
    np.testing.assert_allclose(means[7], np.mean(seen[5:], axis=0), rtol=1e-6)


def test_a_quarter_of_the_updates_is_the_tail_unless_said_otherwise():
    seen, means = path_of(TuneRun(average="tail"), 8)
    np.testing.assert_allclose(means[7], (seen[6] + seen[7]) / 2, rtol=1e-6)


def test_the_moving_average_weighs_by_powers_of_its_decay():
    """After t updates, p_i has the weight d^(t - i) (1 - d) / (1 - d^t); the weights add up to 1."""
    seen, means = path_of(TuneRun(average="ema", average_decay=0.6), 5)
    powers = 0.6 ** np.arange(4, -1, -1)
    np.testing.assert_allclose(means[4], np.average(seen, axis=0, weights=powers), rtol=1e-5)
    np.testing.assert_array_equal(means[0], seen[0])


def test_without_an_average_the_weights_are_taken():
    params = {"w": jnp.ones(2)}
    assert averaging.averaged(optax.adam(1e-3).init(params), params) is params


@pytest.mark.parametrize("kind", ["ema", "tail"])
def test_averaging_changes_no_update(kind):
    """Gradient descent on |p|^2 / 2 at a rate of 0.3 leaves 0.7 p."""
    seen, _ = path_of(TuneRun(average=kind), 4)
    np.testing.assert_allclose(seen[3], 0.7**4 * np.array([1.0, -2.0]), rtol=1e-6)
