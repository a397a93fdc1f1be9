"""A predictor of latency finds the law behind measurements that follow one."""

import dataclasses
import random

import numpy as np
import pytest

from bertlite_jax.config import presets
from bertlite_jax.config.search.settings import Space, model_of
from bertlite_jax.search import latency_fit, space

MODELS = [model_of(presets.BORT, shape) for shape in space.points(Space())]
CHOSEN, LENGTHS = random.Random(0).sample(MODELS, 30), [32, 128, 512] * 10
"""Measured ones, in which all widths and depths occur."""
LAW = np.array([2e-4, 1e-4, 3e-12, 2e-12, 4e-12, 1e-8])
"""Seconds for each feature."""


def seconds(model, length: int) -> float:
    """The law written out."""
    N, D, F, H, L = model.num_layers, model.hidden_size, model.ffn_size, model.num_heads, length
    return 2e-4 + N * (1e-4 + L * (3e-12 * D * D + 2e-12 * D * F + 4e-12 * L * D + 1e-8 * H))


def test_thirty_exact_measurements_give_the_law_for_all_shapes_and_lengths():
    found = latency_fit.fit(CHOSEN, LENGTHS, [seconds(*each) for each in zip(CHOSEN, LENGTHS, strict=True)])
    np.testing.assert_allclose(found, LAW, rtol=1e-6)
    for model in MODELS[3::40]:
        assert latency_fit.predict(found, model, 256) == pytest.approx(seconds(model, 256))


def test_predictions_are_better_than_noisy_measurements():
    """Noise within 10 % either way has a root mean square of 0.2 / sqrt 12."""
    rng = np.random.default_rng(20)
    noisy = [seconds(*each) * rng.uniform(0.9, 1.1) for each in zip(CHOSEN, LENGTHS, strict=True)]
    found = latency_fit.fit(CHOSEN, LENGTHS, noisy)
    errors = [latency_fit.predict(found, model, 128) / seconds(model, 128) - 1 for model in MODELS]
    assert np.sqrt(np.mean(np.square(errors))) < 0.2 / np.sqrt(12)


def test_a_larger_shape_is_never_predicted_to_be_faster():
    """Whatever was measured, here times without any order: no coefficient is negative."""
    rng = np.random.default_rng(0)
    found = latency_fit.fit(CHOSEN, [128] * 30, rng.uniform(1e-3, 1e-1, 30).tolist())
    assert (found >= 0).all()
    small = MODELS[0]
    for change in ({"num_layers": 12}, {"ffn_size": 3072}, {"num_heads": 16}):
        larger = dataclasses.replace(small, **change)
        assert latency_fit.predict(found, larger, 128) >= latency_fit.predict(found, small, 128)


def test_fewer_measurements_than_coefficients_fit_nothing():
    with pytest.raises(ValueError, match="5 measurements for 6 coefficients"):
        latency_fit.fit(MODELS[:5], [128] * 5, [1.0] * 5)
