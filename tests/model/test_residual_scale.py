"""x + s f(x): what the factor does to layers, and that it is the same inside their kernels."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
import tiny

from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Pretrain, Run
from bertlite_jax.config.schedule import at_step
from bertlite_jax.model import domain_encoder, layers
from bertlite_jax.model.layers import Layers
from bertlite_jax.model.ops.elementwise import layer_norm
from bertlite_jax.model.residual_scale import folded, unfolded

DEEP = tiny.model(num_layers=6, residual_scale="depth", init_std=0.2)
SEGMENTS = jnp.asarray([[1] * 5 + [2] * 4 + [0] * 3, [1] * 12])
PARTS = ("attention", "ffn")
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 16)), jnp.float32)


def drawn(model: Model) -> Any:
    """Parameters of the layers, biases and norms away from 0 and 1."""
    attend = layers.attend_in(SEGMENTS, model, "float32")
    fresh = jax.eval_shape(lambda key: Layers(model, "float32").init(key, X, attend, None)["params"], jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: (0.2 * rng.normal(size=leaf.shape) + 0.1).astype(np.float32), fresh)


def states(model: Model, params: Any, compute: Any = "float32") -> Any:
    """Those after every layer, [N, B, L, D]."""
    attend = layers.attend_in(SEGMENTS, model, compute)
    _, every = Layers(model, compute).apply({"params": params}, X.astype(compute), attend, None, collect=True)
    return every


@pytest.mark.parametrize(("scale", "factor"), [("published", 1), ("depth", 1 / 6), (0.25, 0.25)])
@pytest.mark.parametrize("norm", thorough.but(["post"], ["post", "pre"]))
def test_each_branch_is_multiplied_by_the_factor(scale: Any, factor: float, norm: Any):
    """One layer by hand: x + s f(x) for attention and for the feed-forward part, normalised after or before."""
    model = dataclasses.replace(DEEP, residual_scale=scale, norm=norm)
    params = drawn(model)
    one = jax.tree.map(lambda leaf: leaf[0], params)
    attend = layers.attend_in(SEGMENTS, model, "float32")
    x = X
    for part in ("attention", "ffn"):
        inside = x if norm == "post" else layer_norm(x, one["norms"][part], model.norm_epsilon)
        if part == "attention":
            branch = layers.self_attention(one[part], inside, attend, None, "float32")
        else:
            branch = layers.feed_forward(one[part], inside, model, "float32")
        x = x + factor * branch
        x = layer_norm(x, one["norms"][part], model.norm_epsilon) if norm == "post" else x
    np.testing.assert_allclose(states(model, params)[0], x, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"share_groups": 2, "norm": "pre"},
        pytest.param({"share": "attention", "unroll": True}, marks=pytest.mark.thorough),
        {"share": "ffn", "remat": "dots"},
        pytest.param({"share": "none", "remat": "full", "unroll": True}, marks=pytest.mark.thorough),
    ],
    ids=lambda change: "-".join(map(str, change.values())) or "shared",
)
@pytest.mark.parametrize("compute", thorough.but(["float32"], ["float32", "bfloat16"]))
def test_the_folded_layers_compute_the_same_bits(change: dict, compute: str):
    """1/6 is no power of two, so that a product in another place would be rounded elsewhere."""
    model = dataclasses.replace(DEEP, **change)
    params = drawn(model)
    ours = jax.jit(lambda p: states(model, p, compute))(params)
    theirs = jax.jit(lambda p: states(model.exported, p, compute))(folded(params, 1 / 6))
    np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(ours, jax.jit(lambda p: states(model.exported, p, compute))(params))


@pytest.mark.parametrize(
    ("remat", "unroll"), thorough.but([("none", False)], [("none", False), ("dots", False), ("full", True)])
)
def test_the_gradient_is_that_of_the_folded_layers_times_the_factor(remat: Any, unroll: bool):
    """d/dW of f(s W) is s f'(s W), in the kernels and biases that are multiplied; elsewhere nothing differs."""
    model = dataclasses.replace(DEEP, remat=remat, unroll=unroll)
    params = drawn(model)

    def gradient(model: Model, params: Any) -> Any:
        return jax.jit(jax.grad(lambda p: jnp.sum(states(model, p)[-1] ** 3)))(params)

    wanted = folded(gradient(model.exported, folded(params, 1 / 6)), 1 / 6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), gradient(model, params), wanted)


def test_a_factor_of_one_is_no_product():
    """As in the models and programs of before."""
    params = drawn(DEEP)
    assert folded(params, 1.0) is params
    texts = [
        jax.jit(lambda p, m=model: states(m, p)).lower(params).as_text()
        for model in (DEEP.exported, dataclasses.replace(DEEP, residual_scale=1.0))
    ]
    assert texts[0] == texts[1]


def test_unfolding_gives_the_bits_back_for_a_power_of_two():
    params = drawn(DEEP)
    jax.tree.map(np.testing.assert_array_equal, folded(unfolded(params, 0.25), 0.25), params)
    jax.tree.map(np.testing.assert_array_equal, unfolded(folded(params, 0.125), 0.125), params)


@pytest.mark.parametrize("factor", [1 / 3, 1 / 6, 1 / 12, 1 / 24, 0.7, 3.3])
def test_unfolding_gives_neighbouring_numbers_for_any_other_factor(factor: float):
    """At most one unit in the last place away, and only in the two kernels and biases that are multiplied."""
    params = drawn(DEEP)
    back = folded(unfolded(params, factor), factor)
    for part, name in (("attention", "query"), ("ffn", "up")):
        jax.tree.map(np.testing.assert_array_equal, back[part][name], params[part][name])
    for part, name in (("attention", "output"), ("ffn", "down")):
        jax.tree.map(lambda a, b: np.testing.assert_array_max_ulp(a, b, 1), back[part][name], params[part][name])
        assert back[part][name]["kernel"].dtype == np.float32


def test_the_factor_follows_the_depth_at_hand():
    """3, 6, then 12 applications: a third, a sixth and a twelfth each; a private encoder of 2 layers has a half."""
    config = Pretrain(model=Model(residual_scale="depth"), run=Run(depths=((3, 100), (6, 300))))
    factors = [at_step(config, step).model.residual_factor for step in (1, 101, 301)]
    assert factors == [1 / 3, 1 / 6, 1 / 12]
    assert domain_encoder.narrowed(config.model, 2).residual_factor == 1 / 2
    fixed = dataclasses.replace(config, model=Model(residual_scale=0.1))
    assert [at_step(fixed, step).model.residual_factor for step in (1, 301)] == [0.1, 0.1]


@pytest.mark.parametrize("norm", thorough.but(["post"], ["post", "pre"]))
def test_twice_the_layers_with_half_the_factor_are_nearly_the_same_function(norm: Any):
    """N steps of size 1/N along one flow: a switch of `run.depths` from 3 to 6 keeps most of what was learnt.

    With the factor of the last depth in all stages, the switch would double the way from the embeddings.
    """
    three, six = (dataclasses.replace(DEEP, num_layers=depth, norm=norm) for depth in (3, 6))
    fresh = {part: {"scale": np.ones((1, 16), np.float32), "bias": np.zeros((1, 16), np.float32)} for part in PARTS}
    params = {**drawn(DEEP), "norms": fresh}
    after = states(six, params)[-1]
    before, of_last_depth = (
        states(model, params)[-1] for model in (three, dataclasses.replace(three, residual_scale=1 / 6))
    )
    changes = [float(jnp.linalg.norm(after - found)) for found in (before, of_last_depth)]
    assert changes[0] < 0.25 * changes[1]
