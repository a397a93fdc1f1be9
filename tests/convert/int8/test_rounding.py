"""Rounding to a text: smaller errors of products, the same range."""

import numpy as np
from integer_examples import ALBERT, TWO_LABELS, batch_of, weights_of

from bertlite_jax.convert.int8 import rounding
from bertlite_jax.convert.weights import quantized
from bertlite_jax.model.ops.integer_grid import quantize_weights


def test_products_with_correlated_inputs_change_less():
    """A text's activations are close to a few directions, along which errors can cancel."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 8)) @ rng.normal(size=(8, 64)) + 0.1 * rng.normal(size=(400, 64))
    kernel = rng.normal(size=(64, 20)).astype(np.float32)
    integers, scale = quantize_weights(kernel, 0, 7)
    fitted = rounding.fit_kernel(kernel, scale, x.T @ x, bits=7)
    error = [np.square(x @ (kernel - chosen * scale)).mean() for chosen in (integers, fitted)]
    assert error[1] < 0.3 * error[0]


def test_independent_inputs_are_rounded_as_ever():
    kernel = np.random.default_rng(0).normal(size=(32, 5)).astype(np.float32)
    integers, scale = quantize_weights(kernel, 0, 8)
    np.testing.assert_array_equal(rounding.fit_kernel(kernel, scale, np.eye(32), bits=8), integers)


def test_pairs_still_cannot_saturate():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 64)) @ rng.normal(size=(64, 64))
    kernel = rng.standard_t(2, size=(64, 50)).astype(np.float32)
    _, scale = quantize_weights(kernel, 0, 7)
    fitted = rounding.fit_kernel(kernel, scale, x.T @ x, bits=7).astype(int)
    even, odd = fitted[::2], fitted[1::2]
    assert np.abs(np.where(even * odd > 0, even + odd, 0)).max() <= 128


def test_only_integers_of_kernels_change():
    weights = weights_of(ALBERT, TWO_LABELS)
    container = quantized.quantize(weights)
    fitted = rounding.fit(weights, container, [batch_of(ALBERT, (30, 20))])
    changed = {path for path, value in fitted.integers.items() if (value != container.integers[path]).any()}
    assert changed
    assert all(path.endswith("kernel") for path in changed)
    assert "layers/0/ffn/up/kernel" in changed
    assert fitted.scales is container.scales
