"""Quant-Noise: which weights of a step are rounded, to what, and which gradients they all get."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
import tiny

from bertlite_jax.config.int8 import Quantise
from bertlite_jax.config.model import Model
from bertlite_jax.jobs.pretraining.step import init_params
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.ops import integer_grid, integer_products, precision, products
from bertlite_jax.model.residual_scale import folded
from bertlite_jax.model.weight_noise import drawn, noised, partly_rounded
from bertlite_jax.train.step import step_key

ALBERT = tiny.model(share="all", num_layers=4, init_std=0.3)
BERT = tiny.model(share="none", embed_size=16, init_std=0.3)
KEY = step_key(0, jnp.asarray(3))
RNG = np.random.default_rng(0)


@functools.cache
def params_of(model: Model) -> dict[str, Any]:
    return init_params(PretrainingModel(model), jax.random.key(0))


def kernels(layers: dict) -> dict[str, np.ndarray]:
    """By place, `attention/query/kernel` and so on; stacks of layers."""
    flat = jax.tree_util.tree_flatten_with_path(layers)[0]
    named = {"/".join(part.key for part in path): np.asarray(leaf) for path, leaf in flat}
    return {name: leaf for name, leaf in named.items() if name.endswith("/kernel")}


def on_grid(kernel: np.ndarray, bits) -> np.ndarray:
    integers, scales = integer_grid.quantize_weights(kernel, -2, bits)
    return integers * scales[..., None, :]


# --- What is rounded -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 7, 8])
def test_a_share_of_1_rounds_all_kernels_of_the_layers_and_nothing_else(bits):
    found = noised(params_of(BERT), BERT, Quantise(bits, 1.0), KEY)
    before, after = (kernels(params["layers"]) for params in (params_of(BERT), found))
    assert len(after) == 6
    for name, kernel in after.items():
        np.testing.assert_array_equal(kernel, on_grid(before[name], bits), err_msg=name)
    for part in found.keys() - {"layers"}:
        assert found[part] is params_of(BERT)[part]
    for part, leaf in (("norms", "scale"), ("norms", "bias")):
        np.testing.assert_array_equal(
            found["layers"][part]["ffn"][leaf], params_of(BERT)["layers"][part]["ffn"][leaf], err_msg=leaf
        )


def test_of_a_quarter_each_weight_is_as_it_was_or_on_the_grid():
    """Of some thousand weights, a share within four standard deviations; each layer has a draw of its own."""
    found = kernels(noised(params_of(BERT), BERT, Quantise(4, 0.25), KEY)["layers"])
    count, chosen = 0, 0
    for name, before in kernels(params_of(BERT)["layers"]).items():
        grid = on_grid(before, 4)
        is_rounded = found[name] == grid
        np.testing.assert_array_equal(found[name], np.where(is_rounded, grid, before), err_msg=name)
        first, second = is_rounded[:2]
        assert (first != second).any(), name
        count, chosen = count + before.size, chosen + int(is_rounded.sum())
    assert abs(chosen - count / 4) < 4 * np.sqrt(count * 0.25 * 0.75)


def test_the_draw_follows_from_seed_and_step():
    """A run that is resumed rounds the weights that it would have rounded; the next step rounds others."""
    again, after, other = (
        kernels(noised(params_of(ALBERT), ALBERT, Quantise(4, 0.5), step_key(seed, jnp.asarray(step)))["layers"])
        for seed, step in ((0, 3), (0, 4), (1, 3))
    )
    for name, kernel in kernels(noised(params_of(ALBERT), ALBERT, Quantise(4, 0.5), KEY)["layers"]).items():
        np.testing.assert_array_equal(kernel, again[name], err_msg=name)
        assert (kernel != after[name]).any()
        assert (kernel != other[name]).any()


@pytest.mark.parametrize("share", [1e-12, 0.1, 0.9, 1.0])
def test_shares_are_kept_to_the_ends(share):
    chosen = np.asarray(drawn(share, jnp.asarray([5, 7], jnp.uint32), (400, 250)))
    expected = 100_000 * share
    assert abs(chosen.sum() - expected) <= 4 * np.sqrt(expected * (1 - share)) + 1e-4


def test_the_grid_is_that_of_kernels_with_the_residual_factor():
    """A file has the factor in its kernels; what is multiplied with it afterwards is on that file's grid."""
    model = dataclasses.replace(ALBERT, num_layers=3, residual_scale="depth")
    assert model.residual_factor == pytest.approx(1 / 3)
    found = noised(params_of(ALBERT), model, Quantise(7, 1.0), KEY)["layers"]
    multiplied = kernels(dict(folded(found, model.residual_factor)))
    for name, kernel in kernels(dict(folded(params_of(ALBERT)["layers"], model.residual_factor))).items():
        np.testing.assert_allclose(multiplied[name], on_grid(kernel, 7), rtol=3e-7, err_msg=name)


# --- What is computed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [128, 32, 0])
def test_gradients_of_a_product_are_exact_but_for_the_rows(zero):
    """d(x W)/dW is x, rounded, for weights that are rounded and for those that are not; d(x W)/dx is W as it is."""
    x, dy = (RNG.normal(size=size).astype(np.float32) for size in ((9, 24), (9, 10)))
    kernel, bias = RNG.normal(size=(24, 10)).astype(np.float32), RNG.normal(size=10).astype(np.float32)
    seeds = jnp.asarray([1, 2], jnp.uint32)
    integers, step = jax.device_get(integer_products.quantize_rows(jnp.asarray(x), zero))
    rounded = (integers.astype(np.float32) + (128 - zero)) * step

    def product(x, kernel, bias):
        mixed = partly_rounded(4, 0.5, 1.0, kernel, seeds)
        return products.dense(x, {"kernel": mixed, "bias": bias}, "noisy_4", zero)

    y, pull = jax.vjp(product, *map(jnp.asarray, (x, kernel, bias)))
    mixed = np.where(drawn(0.5, seeds, kernel.shape), on_grid(kernel, 4), kernel)
    assert 0 < (mixed == kernel).sum() < kernel.size
    np.testing.assert_allclose(y, rounded @ mixed + bias, rtol=1e-5, atol=1e-5)
    for found, expected in zip(pull(jnp.asarray(dy)), (dy @ mixed.T, rounded.T @ dy, dy.sum(0)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", thorough.but([4], [4, 7, 8]))
@pytest.mark.parametrize("model", thorough.but([ALBERT], [ALBERT, BERT]))
def test_a_share_of_1_computes_what_full_rounding_computes(bits, model):
    """Head and tables are rounded as always; sums of floats in place of sums of integers leave the last bits."""
    rows = [jnp.asarray(tiny.ROWS[name]) for name in ("tokens", "segments", "positions", "token_types", "cls")]
    everywhere = jnp.broadcast_to(jnp.arange(12), rows[0].shape)

    def logits(params, compute):
        network = PretrainingModel(model, compute)
        return jax.jit(network.apply)({"params": params}, *rows, everywhere)[0]

    mode = precision.of_bits(bits)
    whole = np.asarray(logits(params_of(model), mode))
    noisy = np.asarray(logits(noised(params_of(model), model, Quantise(bits, 1.0), KEY), precision.noisy(mode)))
    assert np.median(np.abs(noisy - whole)) < 1e-5 * np.abs(whole).max()
    exact = np.asarray(logits(params_of(model), "float32"))
    assert np.median(np.abs(noisy - whole)) < 0.01 * np.median(np.abs(exact - whole))
