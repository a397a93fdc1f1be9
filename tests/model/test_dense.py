"""Products and element-wise parts are what they are named after, in every precision, forwards and backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertlite_jax.model import dense, precision

X = jax.random.normal(jax.random.key(0), (4, 16, 128))
KERNEL = jax.random.normal(jax.random.key(1), (128, 192)) / 11.3
BIAS = jax.random.normal(jax.random.key(2), (192,))
MODES = [
    "float32",
    "bfloat16",
    pytest.param("amx", marks=pytest.mark.skipif("amx_bf16" not in precision.cpu_flags(), reason="a CPU without AMX")),
]
# bfloat16 keeps 8 bits: an operand is off by at most 2^-9 of itself; sums of 128 products by far less than this.
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05, "amx": 0.05}


def value_and_gradients(function, *arguments):
    """Of a weighted sum, so that wrong places show."""
    weight = jax.random.normal(jax.random.key(9), jax.eval_shape(function, *arguments).shape)
    total = lambda *a: jnp.sum(function(*a).astype(jnp.float32) * weight)  # noqa: E731
    return jax.jit(jax.value_and_grad(total, tuple(range(len(arguments)))))(*arguments)


@pytest.mark.parametrize("compute", MODES)
def test_dense_is_product_and_bias_with_their_gradients(compute):
    def ours(x, kernel, bias):
        return dense.dense(x, {"kernel": kernel, "bias": bias}, compute)

    assert ours(X, KERNEL, BIAS).dtype == dense.activation_dtype(compute)
    found = value_and_gradients(ours, X, KERNEL, BIAS)
    wanted = value_and_gradients(lambda x, kernel, bias: x @ kernel + bias, X, KERNEL, BIAS)
    scale = [np.abs(np.asarray(leaf)).max() for leaf in jax.tree.leaves(wanted)]
    for a, b, size in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), scale):
        np.testing.assert_allclose(a / size, b / size, atol=TOLERANCE[compute])


@pytest.mark.parametrize("compute", MODES)
def test_parameters_have_float32_gradients(compute):
    def loss(kernel):
        return jnp.sum(dense.matmul(X, kernel, compute).astype(jnp.float32))

    assert jax.grad(loss)(KERNEL).dtype == jnp.float32


@pytest.mark.parametrize("compute", MODES)
def test_qkv_is_three_dense_layers(compute):
    keys = jax.random.split(jax.random.key(4), 3)
    params = {
        name: {"kernel": jax.random.normal(key, (128, 128)) / 11.3, "bias": jnp.full((128,), float(number))}
        for number, (name, key) in enumerate(zip(("query", "key", "value"), keys))
    }
    for found, name in zip(dense.qkv(X, params, compute), ("query", "key", "value")):
        np.testing.assert_allclose(
            found.astype(jnp.float32),
            dense.dense(X, params[name], compute).astype(jnp.float32),
            atol=TOLERANCE[compute],
        )


@pytest.mark.parametrize(("kind", "at_one"), [("gelu_tanh", 0.841192), ("gelu_erf", 0.841345), ("relu", 1.0)])
def test_activations_have_the_published_values(kind: str, at_one: float):
    """Hendrycks and Gimpel's two forms differ in the fourth digit at 1."""
    found = dense.activation(jnp.array([-1.0, 0.0, 1.0]), kind)
    below = 0.0 if kind == "relu" else at_one - 1
    np.testing.assert_allclose(found, [below, 0.0, at_one], atol=1e-6)


@pytest.mark.parametrize("kind", ["gelu_tanh", "gelu_erf", "relu"])
def test_the_activations_gradient_is_a_difference_quotient(kind: str):
    x = np.linspace(-4.03, 4.0, 57).astype(np.float64)
    step = 1e-2
    up, down = (np.asarray(dense.activation(jnp.asarray(x + s), kind), np.float64) for s in (step, -step))
    found = jax.vmap(jax.grad(lambda v: dense.activation(v, kind)))(jnp.asarray(x))
    np.testing.assert_allclose(found, (up - down) / (2 * step), atol=2e-3)


def test_layer_norm_and_its_gradient_equal_the_plain_formula():
    """By autodiff of the definition, on rows far from mean 0 and deviation 1."""

    def plain(x, scale, bias):
        mean = x.mean(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-12) * scale + bias

    def ours(x, scale, bias):
        return dense.layer_norm(x, {"scale": scale, "bias": bias}, 1e-12)

    arguments = (3 * X + 2, 1 + 0.1 * X[0, 0], 0.1 * X[0, 1])
    found, wanted = value_and_gradients(ours, *arguments), value_and_gradients(plain, *arguments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3, rtol=1e-4), found, wanted)


def test_a_constant_row_normalises_to_its_bias_in_bfloat16_too():
    """The variance is 0 and epsilon 1e-12: nothing may overflow."""
    row = jnp.full((1, 64), 3.0, jnp.bfloat16)
    found = dense.layer_norm(row, {"scale": jnp.ones(64), "bias": jnp.full(64, 0.5)}, 1e-12)
    np.testing.assert_allclose(found.astype(jnp.float32), 0.5)


def test_small_products_stay_out_of_amx():
    """XLA refuses some of them at run time."""
    assert not dense.fits_amx(8, 768, 768)
    assert not dense.fits_amx(1024, 768, 2)
    assert dense.fits_amx(1024, 768, 768)


@pytest.mark.skipif("amx_bf16" not in precision.cpu_flags(), reason="a CPU without AMX")
def test_amx_products_reach_the_tiles():
    """All three products of a layer are fused for AMX, and none is widened to a float32 product."""

    def loss(x, kernel):
        return jnp.sum(dense.dense(x, {"kernel": kernel, "bias": jnp.zeros(1024)}, "amx").astype(jnp.float32) ** 2)

    x, kernel = jnp.ones((512, 768)), jnp.ones((768, 1024))
    hlo = jax.jit(jax.grad(loss, (0, 1))).lower(x, kernel).compile().as_text()
    products = [line for line in hlo.splitlines() if " dot(" in line]
    assert len(products) == 3
    assert not any("f32[512,768]{1,0} %" in line and "f32[768,1024]" in line for line in products)
    assert hlo.count("__ynn_fusion") >= 3


def test_auto_is_float32_without_amx_and_bfloat16_off_the_cpu(monkeypatch):
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx2"}))
    assert precision.resolve("auto", "cpu") == "float32"
    assert precision.resolve("bfloat16", "cpu") == "float32"
    assert precision.resolve("auto", "tpu") == precision.resolve("auto", "gpu") == "bfloat16"
    assert precision.resolve("float32", "tpu") == "float32"


def test_a_failed_trial_falls_back_to_float32(monkeypatch):
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx2", "amx_bf16"}))
    monkeypatch.setattr(precision, "trial", lambda: "Unsupported element type for DotThunk")
    assert precision.resolve("auto", "cpu") == "float32"
