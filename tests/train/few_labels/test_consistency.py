"""Agreement with changed text, and with earlier epochs, against the papers' formulas in numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertlite_jax.train.few_labels import consistency

RNG = np.random.default_rng(0)


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z.astype(np.float64) - z.max())
    return powers / powers.sum()


def kl(q: np.ndarray, p: np.ndarray) -> float:
    return float(sum(a * math.log(a / b) for a, b in zip(q, p, strict=True)))


def test_divergence_is_kl_of_the_sharpened_original_where_it_is_sure():
    original, changed = (2 * RNG.normal(size=(12, 3)).astype(np.float32) for _ in range(2))
    found = jax.jit(lambda a, b: consistency.divergence(a, b, 0.4, 0.7))(original, changed)
    wanted = [
        kl(softmax(a / 0.4), softmax(b)) * (softmax(a).max() >= 0.7) for a, b in zip(original, changed, strict=True)
    ]
    assert 0 < sum(value == 0 for value in wanted) < 12
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_only_the_changed_text_learns_from_the_divergence():
    z = RNG.normal(size=(2, 3)).astype(np.float32)
    slopes = jax.jit(jax.grad(lambda a, b: consistency.divergence(a, b, 1.0, 0.0).sum(), argnums=(0, 1)))(z, 2 * z)
    assert not slopes[0].any()
    # With temperature 1 the slope of KL(q || softmax(z)) by z is softmax(z) - q.
    np.testing.assert_allclose(slopes[1], [softmax(2 * row) - softmax(row) for row in z], atol=1e-6)


def test_what_is_learnt_already_waits_for_the_schedule():
    """Two labels: the bound is 1/2 at the start, 1 at the end, and in the middle of a linear rise 3/4."""
    right = jnp.log(jnp.array([0.4, 0.6, 0.74, 0.76, 0.99]))
    for progress, wanted in ((0.0, [1, 0, 0, 0, 0]), (0.5, [1, 1, 1, 0, 0]), (1.0, [1, 1, 1, 1, 1])):
        assert consistency.released(right, 2, jnp.float32(progress), "linear").tolist() == wanted
    for schedule, way in (("log", 1 - math.exp(-2.5)), ("exp", math.exp(-2.5))):
        bound = way * 0.5 + 0.5
        near = jnp.log(jnp.array([bound - 1e-3, bound + 1e-3]))
        assert consistency.released(near, 2, jnp.float32(0.5), schedule).tolist() == [1, 0]
    assert consistency.released(right, 2, jnp.float32(0.0), "none").all()


def test_the_weight_rises_as_the_paper_says():
    """exp(-5 (1 - t)^2) is exp(-5) at first and exp(-5/4) half-way up the ramp."""
    assert consistency.ramp(0.0, 0.4) == pytest.approx(math.exp(-5))
    assert consistency.ramp(0.2, 0.4) == pytest.approx(math.exp(-1.25))
    assert consistency.ramp(0.4, 0.4) == consistency.ramp(0.9, 0.4) == consistency.ramp(0.0, 0.0) == 1


def test_the_average_of_equal_predictions_is_that_prediction_from_the_first_epoch_on():
    """The correction undoes the start at zero exactly; and later epochs weigh more, by 1 / decay each."""
    z = RNG.dirichlet(np.ones(3), 4).astype(np.float32)
    ensemble = np.zeros_like(z)
    for epochs in range(1, 4):
        ensemble = consistency.accumulate(ensemble, z, 0.6)
        np.testing.assert_allclose(consistency.targets(ensemble, 0.6, epochs), z, rtol=1e-5)
    a, b = z, RNG.dirichlet(np.ones(3), 4).astype(np.float32)
    two = consistency.accumulate(consistency.accumulate(np.zeros_like(z), a, 0.6), b, 0.6)
    np.testing.assert_allclose(consistency.targets(two, 0.6, 2), (0.6 * a + b) / 1.6, rtol=1e-5)


def test_squared_difference_is_of_probabilities():
    z, target = RNG.normal(size=(5, 3)).astype(np.float32), RNG.dirichlet(np.ones(3), 5).astype(np.float32)
    wanted = [np.mean((softmax(a) - b) ** 2) for a, b in zip(z, target, strict=True)]
    np.testing.assert_allclose(jax.jit(consistency.squared)(z, target), wanted, rtol=1e-5)
