"""Products that training rounds: the integers of a file forward, the gradients of the rounded numbers backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertlite_jax.model import int8_encoder
from bertlite_jax.model.ops import integer_grid, integer_products, products

RNG = np.random.default_rng(0)
X = RNG.normal(size=(9, 48)).astype(np.float32)
KERNEL = RNG.standard_t(3, size=(48, 20)).astype(np.float32)
BIAS = RNG.normal(size=20).astype(np.float32)
DY = RNG.normal(size=(9, 20)).astype(np.float32)


def rounded(bits, zero: int) -> tuple[np.ndarray, np.ndarray]:
    """X and the kernel as their steps times the size of a step."""
    weights, scale = integer_grid.quantize_weights(KERNEL, 0, bits)
    integers, step = jax.device_get(integer_products.quantize_rows(jnp.asarray(X), zero))
    return (integers.astype(np.float32) + (128 - zero)) * step, weights * scale


def test_a_row_by_hand():
    """12.7 / 127 is a step of 0.1 (12.8 / 128 too): 127, -128, 3 and 0 steps."""
    integers, step = integer_products.quantize_rows(jnp.array([[12.7, -12.8, 0.26, 0.0]]), 128.0)
    np.testing.assert_allclose(step, [[0.1]], rtol=1e-6)
    assert integers.tolist() == [[127, -128, 3, 0]]


def test_a_zero_point_of_32_gives_223_steps_above_zero():
    """What GELU gives: at most 0.17 below zero. 22.3 / 223 is 0.1, and u8 32 stands for 0, int8 -96."""
    integers, step = integer_products.quantize_rows(jnp.array([[22.3, -0.17, 0.0]]), 32.0)
    np.testing.assert_allclose(step, [[0.1]], rtol=1e-6)
    assert integers.tolist() == [[127, -98, -96]]


def test_rows_of_a_relu_have_all_255_steps_above_zero():
    integers, step = integer_products.quantize_rows(jnp.array([[25.5, 0.0, 10.0]]), 0.0)
    np.testing.assert_allclose(step, [[0.1]], rtol=1e-6)
    assert integers.tolist() == [[127, -128, -28]]


def test_activations_are_divided_by_their_step():
    """As a runtime divides them, in IEEE float32: a product with the reciprocal moves one value in 500,000."""
    x = np.random.default_rng(0).normal(size=(4000, 512)).astype(np.float32)
    integers, step = jax.device_get(jax.jit(integer_products.quantize_rows, static_argnums=1)(jnp.asarray(x), 128))
    np.testing.assert_array_equal(integers, np.clip(np.rint(x / step) + 128, 0, 255) - 128)
    assert (np.rint(x / step) != np.rint(x * (np.float32(1) / step))).any()


@pytest.mark.parametrize("bits", [4, 7, 8])
@pytest.mark.parametrize("zero", [128, 32, 0])
def test_gradients_are_those_of_the_rounded_numbers_as_if_they_were_not_rounded(bits, zero):
    """Straight through: d(x W)/dW is x and d(x W)/dx is W, both rounded; nothing flows through the steps' sizes."""
    x, kernel = rounded(bits, zero)
    y, pull = jax.vjp(lambda *args: integer_products.dense(bits, zero, *args), *map(jnp.asarray, (X, KERNEL, BIAS)))
    np.testing.assert_allclose(y, x @ kernel + BIAS, rtol=1e-5, atol=1e-5)
    for found, expected in zip(pull(jnp.asarray(DY)), (DY @ kernel.T, x.T @ DY, DY.sum(0)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_accumulators_are_sums_of_products_of_steps():
    """With steps from 0 to 255 that stand for -32 to 223: exactly the sum over (u - 32) times w."""
    weights, _ = integer_grid.quantize_weights(KERNEL, 0, 7)
    integers, _ = integer_products.quantize_rows(jnp.asarray(X), 32)
    sums = integer_products.column_sums(jnp.asarray(weights), 32)
    steps = np.asarray(integers).astype(np.int64) + 128 - 32
    np.testing.assert_array_equal(
        integer_products.accumulated(integers, weights, sums), steps @ weights.astype(np.int64)
    )


def test_a_trained_product_is_the_product_of_a_file():
    """`model/int8_encoder.py` computes what the file computes, from integers and scales that numpy made."""
    weights, scale = integer_grid.quantize_weights(KERNEL, 0, 7)
    sums = np.zeros(20, np.int32)
    site = {"kernel": weights, "kernel_scale": scale, "bias": BIAS, "zero": np.float32(128), "sums": sums}
    served = jax.jit(int8_encoder.product)(X, site)
    trained = jax.jit(lambda x, p: products.dense(x, p, "integers_7"))(X, {"kernel": KERNEL, "bias": BIAS})
    np.testing.assert_array_equal(trained, served)


def test_queries_keys_and_values_in_one_product_are_three_products():
    """Scales belong to outputs, so that kernels side by side have those of each alone."""
    factors = {"query": 1, "key": 3, "value": 9}
    parts = {name: {"kernel": KERNEL * factor, "bias": BIAS} for name, factor in factors.items()}
    joined = jax.jit(lambda x, p: products.qkv(x, p, "integers_7"))(X, parts)
    for found, part in zip(np.split(joined, 3, axis=-1), parts.values(), strict=True):
        np.testing.assert_array_equal(found, jax.jit(lambda x, p: products.dense(x, p, "integers_7"))(X, part))


@pytest.mark.parametrize("bits", [7, 8])
def test_rows_of_a_table_are_rounded_and_their_gradient_is_not(bits):
    integers, scale = integer_grid.quantize_weights(X, -1, bits)
    rows, pull = jax.vjp(lambda rows: integer_products.rounded_rows(bits, rows), jnp.asarray(X))
    np.testing.assert_array_equal(rows, integers * scale[:, None])
    np.testing.assert_array_equal(pull(jnp.asarray(X))[0], X)
