"""Integer products a token at a time, by hand and against the float model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
import tiny

from bertlite_jax.model import heads, int8_encoder

MODEL = tiny.model(vocab_size=40, num_layers=4, max_positions=12, share_groups=2)


@pytest.mark.parametrize("zero", [128, 32, 0])
def test_a_product_of_whole_numbers_is_exact(zero):
    """A row whose step is 1 and weights that are integers times powers of two lose nothing."""
    rng = np.random.default_rng(0)
    x = rng.integers(-zero, 256 - zero, (5, 24)).astype(np.float32)
    x[:, 0], x[:, 1] = 255 - zero, -zero
    kernel = rng.integers(-64, 65, (24, 7)).astype(np.int8)
    bias = rng.normal(size=7).astype(np.float32)
    sums = ((128 - zero) * kernel.astype(np.int64).sum(0)).astype(np.int32)
    site = {"kernel": kernel, "kernel_scale": np.full(7, 0.25, np.float32), "bias": bias, "sums": sums}
    found = jax.jit(int8_encoder.product)(x, {**site, "zero": np.float32(zero)})
    np.testing.assert_allclose(found, x @ kernel.astype(np.float32) * 0.25 + bias, rtol=1e-6)


@pytest.mark.parametrize("norm", thorough.but(["post"], ["post", "pre"]))
def test_with_float_parameters_it_is_the_float_model(norm):
    config = dataclasses.replace(MODEL, norm=norm)
    model = heads.PretrainingModel(config, "float32")
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(5, 40, (2, 9)))
    segments = jnp.asarray((np.arange(9) < np.array([[9], [6]])).astype(np.int32))
    positions = jnp.tile(jnp.arange(9), (2, 1))
    args = (tokens, segments, positions, jnp.zeros_like(tokens))
    cls = jnp.zeros((2, 1), jnp.int32)
    params = jax.jit(model.init)(jax.random.key(0), *args, cls, positions)["params"]
    params = jax.tree.map(lambda x: x + 0.05 * rng.normal(size=x.shape).astype(np.float32), params)
    logits, _ = jax.jit(model.apply)({"params": params}, *args, cls, positions)
    layers = {}
    for number in range(2):
        layers[str(number)] = jax.tree.map(lambda x, number=number: x[number], params["layers"])
    found = int8_encoder.answer({**params, "layers": layers}, config, None, tokens, segments, args[3])
    real = np.asarray(segments) > 0
    np.testing.assert_allclose(np.asarray(found["logits"])[real], np.asarray(logits)[real], atol=2e-5)
