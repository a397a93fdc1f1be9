"""Learning rates at the steps where the curves bend."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bertlite_jax.config.pretrain import Optim
from bertlite_jax.train import schedules

PAPER = Optim(schedule="reference", learning_rate=1.76e-3, warmup_steps=3125)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.0),
        (1, 5.632e-7),
        (1000, 5.632e-4),
        (3124, 1.759437e-3),
        (3125, 1.716e-3),
        (10_000, 1.6192e-3),
        (62_500, 8.8e-4),
        (124_999, 1.408e-8),
        (125_000, 0.0),
        (130_000, 0.0),
    ],
)
def test_reference_schedule_has_the_release_values(step, rate):
    """Init * s / W below W, init * (1 - min(s, T) / T) from there: the rate drops where the warm-up ends."""
    curve = schedules.schedule(PAPER, 125_000, 4096)
    assert float(curve(step)) == pytest.approx(rate, rel=3e-7)  # 1.759437e-3 is rounded to seven digits
    assert float(jax.jit(curve)(jnp.int32(step))) == pytest.approx(rate, rel=3e-7)


def test_linear_schedule_is_warmup_joined_to_a_line():
    optim = Optim(schedule="linear", learning_rate=2e-3, warmup_steps=10, end_fraction=0.1)
    expected = optax.join_schedules(
        [optax.linear_schedule(0.0, 2e-3, 10), optax.linear_schedule(2e-3, 2e-4, 90)], boundaries=[10]
    )
    steps = np.arange(0, 120)
    curve = schedules.schedule(optim, 100, 256)
    np.testing.assert_allclose(jax.vmap(curve)(steps), jax.vmap(expected)(steps), rtol=1e-5)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.0), (5, 0.5e-3), (10, 1e-3), (60, 1e-3), (80, 1e-3), (90, 0.6e-3), (100, 0.2e-3), (200, 0.2e-3)],
)
def test_wsd_warms_up_stays_and_decays(step, rate):
    """Decay over the last 20 of 100 steps, from 1e-3 to a fifth of it: half-way, at step 90, 0.6e-3."""
    optim = Optim(schedule="wsd", learning_rate=1e-3, warmup_steps=10, decay_steps=20, end_fraction=0.2)
    assert float(schedules.schedule(optim, 100, 256)(step)) == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.0), (5, 1e-3), (10, 2e-3), (40, 1.55e-3), (55, 1.1e-3), (70, 0.65e-3), (100, 0.2e-3), (200, 0.2e-3)],
)
def test_cosine_has_its_middle_half_way(step, rate):
    """From 2e-3 to a tenth over 90 steps: at a third of the way (1 + cos 60) / 2 = 3/4 of the fall is left."""
    optim = Optim(schedule="cosine", learning_rate=2e-3, warmup_steps=10, end_fraction=0.1)
    curve = schedules.schedule(optim, 100, 256)
    assert float(curve(step)) == pytest.approx(rate, rel=1e-6)
    assert float(jax.jit(curve)(jnp.int32(step))) == pytest.approx(rate, rel=1e-6)


def test_cosine_is_that_of_optax():
    optim = Optim(schedule="cosine", learning_rate=2e-3, warmup_steps=0, end_fraction=0.0)
    steps = np.arange(0, 101)
    with jax.numpy_dtype_promotion("standard"):
        wanted = jax.vmap(optax.cosine_decay_schedule(2e-3, 100))(steps)
    np.testing.assert_allclose(jax.vmap(schedules.schedule(optim, 100, 256))(steps), wanted, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("shape", ["reference", "linear", "cosine", "wsd"])
def test_without_warmup_the_first_step_has_the_peak(shape):
    optim = Optim(schedule=shape, learning_rate=1e-3, warmup_steps=0, decay_steps=10)
    assert float(schedules.schedule(optim, 50, 8)(0)) == pytest.approx(1e-3, rel=1e-6)


def test_batch_512_gets_the_root_of_an_eighth():
    """0.00176 / sqrt(8) = 6.2e-4: the rate for batch 512 where the paper's belongs to 4096."""
    optim = Optim(learning_rate=1.76e-3, reference_batch=4096, warmup_steps=0, schedule="linear")
    assert schedules.scaled_learning_rate(optim, 512) == pytest.approx(6.2225e-4, rel=1e-4)
    assert schedules.scaled_learning_rate(optim, 4096) == 1.76e-3
    assert float(schedules.schedule(optim, 10, 512)(0)) == pytest.approx(6.2225e-4, rel=1e-4)


def test_no_reference_batch_means_no_scaling():
    assert schedules.scaled_learning_rate(Optim(learning_rate=1e-3, reference_batch=0), 17) == 1e-3


@pytest.mark.parametrize(
    ("warmup_steps", "fraction", "steps", "expected"),
    [(0, 0.1, 235, 23), (50, 0.1, 235, 50), (0, 0.0, 235, 0), (50, 0.1, 20, 19), (0, 0.9, 1, 0)],
)
def test_a_warmup_by_share_is_rounded_down_and_leaves_an_update(warmup_steps, fraction, steps, expected):
    """23 is 0.1 x 235 rounded down; where all updates would warm up, the last one does not."""
    optim = Optim(warmup_steps=warmup_steps, weight_decay=0.5)
    assert schedules.with_warmup(optim, fraction, steps) == Optim(warmup_steps=expected, weight_decay=0.5)
