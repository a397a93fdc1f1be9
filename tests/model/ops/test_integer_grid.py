"""Integers of weights: within half a step, safe on every CPU, the same in numpy and in XLA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertlite_jax.model.ops import integer_grid
from bertlite_jax.model.ops.integer_grid import quantize_weights


def test_a_worked_example_of_seven_bits():
    """Scale 12.7 / 127 = 0.1: 12.7 is 127 steps, -6.4 is -64, 0.04 rounds to 0 and 0.06 to 1."""
    integers, scale = quantize_weights(np.array([[12.7, -6.4, 0.04, 0.06]]), -1, 7)
    np.testing.assert_allclose(scale, [0.1], rtol=1e-3)
    assert integers.tolist() == [[127, -64, 0, 1]]


def test_two_large_neighbours_of_one_sign_share_the_steps():
    """(10.0 + 2.7) / 127 = 0.1, where 10.0 alone would have a scale of 10.0 / 127."""
    integers, scale = quantize_weights(np.array([[10.0, 2.7, -5.0, 6.0]]), -1, 7)
    np.testing.assert_allclose(scale, [0.1], rtol=1e-3)
    assert integers.tolist() == [[100, 27, -50, 60]]


def test_the_negative_end_reaches_one_step_further():
    """-12.8 alone sets the scale 12.8 / 128 = 0.1 where 12.8 / 127 would be coarser."""
    integers, scale = quantize_weights(np.array([[-12.8, 1.0]]), -1, 8)
    np.testing.assert_allclose(scale, [0.1], rtol=1e-3)
    assert integers.tolist() == [[-128, 10]]


@pytest.mark.parametrize("bits", [4, 7, 8])
def test_errors_are_within_half_a_step(bits):
    values = np.random.default_rng(1).standard_cauchy(size=(3, 41, 7)).astype(np.float32)
    integers, scale = quantize_weights(values, -2, bits)
    assert scale.shape == (3, 7)
    off = np.abs(integers.astype(np.float64) * scale[:, None, :] - values)
    # The division is rounded once to the f32 scale, hence the small margin.
    assert (off <= 0.5001 * scale[:, None, :]).all()


def vpmaddubsw(u8: np.ndarray, s8: np.ndarray) -> np.ndarray:
    """The instruction of AVX2: neighbours multiplied, added in pairs, saturated to 16 bits; [..., In] -> [..., In / 2].

    Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, PMADDUBSW.
    """
    products = u8.astype(np.int32) * s8.astype(np.int32)
    return np.clip(products[..., ::2] + products[..., 1::2], -(2**15), 2**15 - 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_no_activation_saturates_sixteen_bits_with_seven_bits_and_some_do_with_eight(sign):
    """All activations are 255, and all weights at the end of their range: 2 x 255 x 127 = 64,770 > 32,767."""
    weights = np.full((64, 5), sign * 0.3, np.float32)
    weights[::7] *= 0.9
    activations = np.full(64, 255, np.uint8)
    sums = {}
    for bits in (7, 8):
        integers, _ = quantize_weights(weights, 0, bits)
        exact = activations.astype(np.int64) @ integers.astype(np.int64)
        sums[bits] = vpmaddubsw(activations, integers.T).sum(-1), exact
    np.testing.assert_array_equal(*sums[7])
    assert (np.abs(sums[8][0]) < 0.6 * np.abs(sums[8][1])).all()


@pytest.mark.parametrize("seed", range(3))
def test_weights_of_any_distribution_cannot_saturate_with_seven_bits(seed):
    """Every pair meets its worst activations: 255 where its sign is that of the pair's sum, else 0."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_t(2, size=(96, 40)).astype(np.float32)
    integers, _ = quantize_weights(weights, 0, 7)
    for worst in (255 * (integers.T > 0), 255 * (integers.T < 0)):
        exact = worst * integers.T.astype(np.int64)
        np.testing.assert_array_equal(vpmaddubsw(worst, integers.T), exact[..., ::2] + exact[..., 1::2])


def test_zeros_and_denormal_numbers_come_back_finite():
    values = np.zeros((3, 4), np.float32)
    values[1] = 1e-42
    integers, scale = quantize_weights(values, -1, 7)
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
    assert not integers[[0, 2]].any()


def test_pairs_cost_less_than_a_range_of_seven_bits_would():
    """Rounded to [-64, 63] with a scale a channel, normal weights are off by a step of max / 63; here by less."""
    weights = np.random.default_rng(0).normal(size=(768, 200)).astype(np.float32)
    integers, scale = quantize_weights(weights, 0, 7)
    narrow = np.abs(weights).max(0) / 63
    error = np.sqrt(np.mean((integers * scale - weights) ** 2))
    assert error < 0.8 * np.sqrt(np.mean((np.rint(weights / narrow) * narrow - weights) ** 2))


def test_a_worked_example_of_four_bits():
    """Scale 0.7 / 7 = 0.1 (0.8 / 8 too): 7, -8, 3 steps; 0.04 rounds to 0."""
    integers, scale = quantize_weights(np.array([[0.7, -0.8, 0.26, 0.04]], np.float32), -1, 4)
    np.testing.assert_allclose(scale, [0.1], rtol=1e-3)
    assert integers.tolist() == [[7, -8, 3, 0]]


def test_of_four_bits_the_first_and_last_products_keep_seven():
    paths = ("layers/3/ffn/up", "pooler", "projection", "head/output", "mlm/dense")
    assert [integer_grid.bits_of(path, 4) for path in paths] == [4, 4, 7, 7, 7]
    assert [integer_grid.bits_of(path, 8) for path in paths] == [8] * 5


def test_halves_go_to_the_even_integer():
    """With a scale of 1: 127 fixes it, and 0.5, 1.5, -2.5 are 0, 2, -2."""
    integers, scale = quantize_weights(np.array([127, 0.5, 1.5, -2.5], np.float32), 0, 8)
    assert (float(scale), integers.tolist()) == (1.0, [127, 0, 2, -2])


@pytest.mark.parametrize("bits", [4, 7, 8])
@pytest.mark.parametrize(("axis", "shape"), [(-2, (3, 41, 70)), (0, (64, 300)), (-1, (500, 32))])
def test_xla_and_numpy_give_the_same_bits(axis, shape, bits):
    """A trained model's integers are those that a conversion finds later; magnitudes from 1e-12 to 1e12."""
    rng = np.random.default_rng(bits)
    values = (rng.standard_t(3, size=shape) * 10.0 ** rng.uniform(-12, 12, size=shape[-1])).astype(np.float32)
    # Halves of a step, where a rounding in another direction would show.
    values[0] = np.abs(values).max() * rng.integers(-15, 16, values[0].shape).astype(np.float32) / 254
    theirs = jax.jit(quantize_weights, static_argnums=(1, 2))(jnp.asarray(values), axis, bits)
    for found, expected in zip(theirs, quantize_weights(values, axis, bits), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_integers_times_scales_are_exact_in_float32():
    """A scale has 11 bits and an integer 8, and float32 has 24: what training multiplies with is what a file holds."""
    values = np.random.default_rng(0).normal(size=(256, 50)).astype(np.float32)
    integers, scale = quantize_weights(values, 0, 7)
    product = integers.astype(np.float32) * scale
    np.testing.assert_array_equal(product.astype(np.float64), integers.astype(np.float64) * scale.astype(np.float64))
