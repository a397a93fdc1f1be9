"""Products and element-wise parts: what they compute, in which precision, and how XLA compiles them."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from bertlite_jax.host import cpu
from bertlite_jax.model.ops import choose_precision, precision, products
from bertlite_jax.model.ops.elementwise import activation, layer_norm
from bertlite_jax.model.ops.stored_bits import load_bits, store_bits

MODES = ["float32", "bfloat16", "cpu_bfloat16"]
# A rounded operand is off by at most 2^-9 of its size; sums of random signs are off by less.
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2, "cpu_bfloat16": 1e-2}


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, shape), jnp.float32)


def off(value, wanted) -> float:
    """Distance relative to the size of what is wanted."""
    value, wanted = np.asarray(value, np.float64), np.asarray(wanted, np.float64)
    return float(np.linalg.norm(value - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("compute", MODES)
def test_a_product_and_its_gradients_are_those_of_matrices(compute):
    x, kernel, up = normal(2, 16, 64), normal(64, 128, seed=1, scale=0.1), normal(2, 16, 128, seed=2)
    y, pull = jax.vjp(lambda x, kernel: products.matmul(x, kernel, compute), x, kernel)
    dx, dkernel = pull(up)
    rows, ups = np.reshape(x, (32, 64)), np.reshape(up, (32, 128))
    assert y.shape == (2, 16, 128)
    assert y.dtype == jnp.float32
    assert off(y, rows.reshape(2, 16, 64) @ np.asarray(kernel)) < TOLERANCE[compute]
    assert off(dx, np.asarray(up) @ np.asarray(kernel).T) < TOLERANCE[compute]
    assert off(dkernel, rows.T @ ups) < TOLERANCE[compute]


@pytest.mark.parametrize("compute", MODES)
def test_gradients_of_parameters_are_float32_in_every_mode(compute):
    params = {"kernel": normal(64, 64, scale=0.1), "bias": normal(64)}
    x = normal(32, 64, seed=1).astype(precision.activation_dtype(compute))
    value = lambda p, x: jnp.sum(jnp.square(products.dense(x, p, compute).astype(jnp.float32)))  # noqa: E731
    dparams, dx = jax.grad(value, (0, 1))(params, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(dparams)} == {jnp.dtype(jnp.float32)}
    assert dx.dtype == x.dtype


@pytest.mark.parametrize("compute", ["bfloat16", "cpu_bfloat16"])
def test_a_bias_gradient_is_summed_in_float32(compute):
    """1,024 rows with gradient 1: bfloat16 sums would stand still at 256."""
    params = {"kernel": jnp.zeros((64, 64)), "bias": jnp.zeros(64)}
    total = lambda p: jnp.sum(products.dense(jnp.ones((1024, 64)), p, compute).astype(jnp.float32))  # noqa: E731
    np.testing.assert_array_equal(jax.grad(total)(params)["bias"], np.full(64, 1024.0))


@pytest.mark.parametrize("compute", MODES)
def test_a_tied_table_is_used_transposed(compute):
    """The product with an embedding table's transposition, whose gradient XLA would like to transpose inside."""
    x, table = normal(32, 64), normal(256, 64, seed=1, scale=0.1)
    gradient = jax.jit(jax.grad(lambda table: jnp.sum(jnp.sin(products.matmul(x, table.T, compute)))))(table)
    plain = jax.grad(lambda table: jnp.sum(jnp.sin(x @ table.T)))(table)
    assert off(gradient, plain) < TOLERANCE[compute]


def test_queries_keys_and_values_are_three_products_at_once():
    names = ("query", "key", "value")
    params = {n: {"kernel": normal(8, 8, seed=i), "bias": normal(8, seed=9 + i)} for i, n in enumerate(names)}
    x = normal(2, 5, 8, seed=20)
    for name, got in zip(names, np.split(products.qkv(x, params, "float32"), 3, axis=-1), strict=True):
        np.testing.assert_allclose(
            got, x @ params[name]["kernel"] + params[name]["bias"][None, None], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(("rows", "fan_in", "fan_out"), [(1, 64, 64), (32, 8, 64), (32, 64, 2), (15, 640, 640)])
def test_small_products_stay_float32(rows, fan_in, fan_out):
    """XLA refuses some of them as bfloat16; they are exact to float32 on every CPU."""
    assert not products.fits_cpu_bfloat16(rows, fan_in, fan_out)
    x, kernel = normal(rows, fan_in), normal(fan_in, fan_out, seed=1)
    assert (
        off(products.matmul(x, kernel, "cpu_bfloat16"), np.asarray(x, np.float64) @ np.asarray(kernel, np.float64))
        < 1e-6
    )


@pytest.mark.skipif(
    not set(choose_precision.FLAGS) & cpu.actual_flags(),
    reason="this CPU has neither AMX nor AVX-512 bfloat16, where XLA widens the operands instead",
)
def test_all_three_products_of_a_layer_reach_the_library():
    """In the compiled step every product of the layer is in a library fusion with bfloat16 operands."""
    params = {"kernel": normal(128, 256, scale=0.1), "bias": normal(256)}
    value = lambda p, x: jnp.sum(jnp.square(products.dense(x, p, "cpu_bfloat16").astype(jnp.float32)))  # noqa: E731
    compiled = jax.jit(jax.grad(value, (0, 1))).lower(params, normal(64, 128)).compile().as_text()
    assert compiled is not None
    computations = re.split(r"\n(?=%|ENTRY )", compiled)
    with_dot = [text for text in computations if " dot(" in text]
    assert sum(text.count(" dot(") for text in with_dot) == 3
    for text in with_dot:
        name = text.split(" ", 1)[0].lstrip("%")
        assert re.search(rf"calls=%{re.escape(name)}.*__ynn_fusion", compiled), text
        assert text.count("bf16[") >= 2, text


# --- Element-wise parts --------------------------------------------------------------------------------------------


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gelu_erf(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def test_both_gelus_at_one():
    """google-research/albert: 0.841192; Hugging Face BERT: 0.841345."""
    assert float(activation(jnp.float32(1), "gelu_tanh")) == pytest.approx(0.841192, abs=1e-6)
    assert float(activation(jnp.float32(1), "gelu_erf")) == pytest.approx(0.841345, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "function"), [("gelu_tanh", gelu_tanh), ("gelu_erf", gelu_erf), ("relu", lambda x: np.maximum(x, 0))]
)
def test_activations_and_their_slopes(kind, function):
    """Values against numpy in float64, slopes against central differences there."""
    x = np.linspace(-6, 6, 241) + 0.01
    value, slope = jax.vmap(jax.value_and_grad(functools.partial(activation, kind=kind)))(jnp.float32(x))
    np.testing.assert_allclose(value, function(x), atol=1e-6)
    np.testing.assert_allclose(slope, (function(x + 1e-5) - function(x - 1e-5)) / 2e-5, atol=5e-6)


@pytest.mark.parametrize("kind", ["gelu_tanh", "gelu_erf", "relu"])
def test_slopes_of_activations_on_several_devices(kind):
    """Inside `shard_map`, where the training step is, as outside."""
    P = jax.sharding.PartitionSpec
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    slopes = jax.grad(lambda x: jnp.sum(activation(x, kind)))
    x = normal(8, 16)
    split = jax.jit(jax.shard_map(slopes, mesh=mesh, in_specs=P("data"), out_specs=P("data")))
    np.testing.assert_allclose(split(x), slopes(x), atol=1e-6)


def test_layer_norm_and_its_gradients():
    """Against the same written out for autodiff, with a mean far from 0."""
    x, params = normal(3, 7, 16) + 5, {"scale": normal(16, seed=1), "bias": normal(16, seed=2)}
    weights = normal(3, 7, 16, seed=3)

    def plain(x, params):
        centred = x - x.mean(-1, keepdims=True)
        scale, bias = (params[name][None, None] for name in ("scale", "bias"))
        return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) * scale + bias

    ours = jax.value_and_grad(lambda x, p: jnp.sum(weights * layer_norm(x, p, 1e-3)), (0, 1))(x, params)
    theirs = jax.value_and_grad(lambda x, p: jnp.sum(weights * plain(x, p)), (0, 1))(x, params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), ours, theirs)


def test_layer_norm_of_bfloat16_has_float32_statistics():
    """The mean of 256 and 258 is 257, which bfloat16 cannot hold; the deviations are -1 and 1."""
    x = jnp.tile(jnp.asarray([256, 258], jnp.bfloat16), 32)[None]
    unit = {"scale": jnp.ones(64), "bias": jnp.zeros(64)}
    normal_values = np.asarray(layer_norm(x, unit, 1e-12), np.float32)
    np.testing.assert_array_equal(normal_values, np.tile([-1.0, 1.0], 32)[None])


def test_what_is_kept_for_the_backward_pass_comes_back_bit_by_bit():
    x = normal(100).astype(jnp.bfloat16)
    assert store_bits(x).dtype == jnp.int16
    np.testing.assert_array_equal(load_bits(store_bits(x)), x)
    assert store_bits(normal(3)).dtype == jnp.float32


@pytest.mark.parametrize("kind", ["gelu_tanh", "gelu_erf", "relu"])
def test_an_activation_that_is_computed_again_gives_the_gradients_of_one_that_is_kept(kind, monkeypatch):
    """As for a TPU, in bfloat16, which a CPU runs slowly but runs; of both only the activation's input is kept."""
    monkeypatch.setattr(precision, "target_platform", lambda: "tpu")
    x, params = normal(64, 96), {"kernel": normal(96, 32, seed=1, scale=0.1), "bias": normal(32, seed=2)}
    weight = normal(64, 32, seed=3)
    ways = {
        "kept": lambda x, params: products.dense(activation(x, kind), params, "bfloat16"),
        "again": lambda x, params: products.activated(x, kind, params, "bfloat16"),
    }

    def slopes(way):
        loss = lambda x, params: jnp.sum(weight * way(x.astype(jnp.bfloat16), params).astype(jnp.float32))  # noqa: E731
        return jax.tree.leaves(jax.jit(jax.value_and_grad(loss, (0, 1)))(x, params))

    for again, kept in zip(slopes(ways["again"]), slopes(ways["kept"]), strict=True):
        np.testing.assert_allclose(again, kept, rtol=2e-2, atol=2e-2)
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(jax.vjp(way, x, params)[1])) for name, way in ways.items()}
    assert sizes["kept"] - sizes["again"] >= x.size
