"""Layers that share everything but what is a single layer's own: where it lies, where it starts, what it computes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
import tiny
from jax import Array

from bertlite_jax.config.model import Model
from bertlite_jax.model import layers
from bertlite_jax.model.layers import Layers
from bertlite_jax.model.ops import dropout

PLAIN = tiny.model(num_layers=6, init_std=0.2)
FREED: dict[str, dict[str, Any]] = {
    "norms": {"own_norms": True},
    "vector": {"depth_vector": True},
    "low rank": {"low_rank": 3},
    "first and last": {"own_first": 1, "own_last": 1, "share_groups": 2},
    "all": {"own_norms": True, "depth_vector": True, "low_rank": 2, "own_first": 1, "own_last": 2},
    "in groups": {"own_norms": True, "depth_vector": True, "low_rank": 2, "share_groups": 2},
    "scaled": {"low_rank": 2, "own_last": 1, "residual_scale": "depth"},
}
ALONE = ("norms", "vector", "low rank", "first and last")
"""Single parts, whose faults the cases with several of them notice too."""
SEGMENTS = jnp.asarray([[1] * 5 + [2] * 4 + [0] * 3, [1] * 12])
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 16)), jnp.float32)
WEIGHT = jnp.asarray(np.random.default_rng(1).normal(size=(2, 12, 16)), jnp.float32)


def init(model: Model) -> Any:
    attend = layers.attend_in(SEGMENTS, model, "float32")
    return jax.jit(lambda key: Layers(model, "float32").init(key, X, attend, None)["params"])(jax.random.key(0))


def drawn(model: Model) -> Any:
    """Every number away from its start."""
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32), init(model))


def apply(model: Model, params: Any, keys: Array | None = None, x: Array = X, **keywords: Any) -> Any:
    attend = layers.attend_in(SEGMENTS, model, "float32")
    return Layers(model, "float32").apply({"params": params}, x, attend, keys, **keywords)


def by_hand(model: Model, params: Any, keys: Array | None = None) -> list[Array]:
    """The states after each layer: one unshared layer after the other, whose weights are written out here."""
    first, last, depth = model.own_first, model.num_layers - model.own_last, model.num_layers
    size = (last - first) // model.share_groups
    places = [*range(first), *(first + i // size for i in range(last - first))]
    places += [first + model.share_groups + i for i in range(depth - last)]
    attend, x, states, factor = layers.attend_in(SEGMENTS, model, "float32"), X, [], model.residual_factor
    for layer, place in enumerate(places):
        own = {part: jax.tree.map(lambda leaf, i=place: leaf[i], params[part]) for part in ("attention", "ffn")}
        norm = layer if model.own_norms else place
        own["norms"] = jax.tree.map(lambda leaf, i=norm: leaf[i], params["norms"])
        if model.low_rank and first <= layer < last:
            pair = jax.tree.map(lambda leaf, i=layer - first: leaf[i], params["low_rank"])
            own["ffn"]["up"]["kernel"] += pair["up_in"]["kernel"] @ pair["up_out"]["addition"]
            own["ffn"]["down"]["kernel"] += pair["down_in"]["kernel"] @ pair["down_out"]["addition"]
        for part, name in (("attention", "output"), ("ffn", "down")):
            own[part][name] = jax.tree.map(lambda leaf: factor * leaf, own[part][name])
        if model.depth_vector:
            x = x + params["depth"]["bias"][layer][None, None]
        x = layers.block(own, x, attend, dropout.keys_at(keys, 1 + layer), model, "float32")
        states.append(x)
    return states


def gradient_of(function: Any, params: Any) -> Any:
    return jax.jit(jax.grad(lambda p: jnp.sum((function(p) + 1.0) ** 2 * WEIGHT)))(params)


@pytest.mark.thorough
@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case in ALONE)) for case in FREED])
def test_each_layer_applies_its_own_parts_and_the_shared_ones(case: str):
    """States and gradients, with dropout; and the gradient reaches every layer of every part."""
    model = dataclasses.replace(PLAIN, **FREED[case], hidden_dropout=0.2)
    params, keys = drawn(model), jax.random.split(jax.random.key(2), 2)
    _, states = jax.jit(lambda p: apply(model, p, keys, collect=True))(params)
    np.testing.assert_allclose(states, np.stack(jax.jit(lambda p: by_hand(model, p, keys))(params)), atol=2e-5)
    found = gradient_of(lambda p: apply(model, p, keys)[0], params)
    wanted = gradient_of(lambda p: by_hand(model, p, keys)[-1], params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3, rtol=1e-3), found, wanted)
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        if path[-2].key != "key":  # A bias on every key of a query changes no softmax.
            assert np.abs(leaf).reshape(len(leaf), -1).max(1).min() > 1e-5, path


@pytest.mark.parametrize("case", thorough.but(["vector", "low rank"], ["norms", "vector", "low rank", "in groups"]))
def test_at_the_start_it_is_the_model_that_shares_everything(case: str):
    """To the bit, from the same key: the shared parts are drawn as without the options."""
    change = FREED[case]
    plain = dataclasses.replace(PLAIN, share_groups=change.get("share_groups", 1))
    model = dataclasses.replace(PLAIN, **change)
    ours, theirs = init(model), init(plain)
    for part in ("attention", "ffn"):
        jax.tree.map(np.testing.assert_array_equal, ours[part], theirs[part])
    found, wanted = (jax.jit(lambda p, m=m: apply(m, p)[0])(p) for m, p in ((model, ours), (plain, theirs)))
    np.testing.assert_array_equal(found, wanted)


def test_at_the_start_only_the_addition_of_a_pair_has_a_gradient():
    """A times zero: the left matrix begins to move in the second step."""
    model = dataclasses.replace(PLAIN, low_rank=3)
    found = gradient_of(lambda p: apply(model, p)[0], init(model))["low_rank"]
    for name in ("up", "down"):
        assert not np.any(found[f"{name}_in"]["kernel"])
        assert np.abs(found[f"{name}_out"]["addition"]).max() > 1e-3


def test_the_parameters_lie_in_stacks_by_part():
    """Three layers share, between one and two that do not."""
    params = init(dataclasses.replace(PLAIN, **FREED["all"]))
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes["attention"]["query"] == {"kernel": (4, 16, 16), "bias": (4, 16)}
    assert shapes["ffn"]["up"] == {"kernel": (4, 16, 32), "bias": (4, 32)}
    assert shapes["norms"]["ffn"] == {"scale": (6, 16), "bias": (6, 16)}
    assert shapes["depth"] == {"bias": (6, 16)}
    assert shapes["low_rank"] == {
        "up_in": {"kernel": (3, 16, 2)},
        "up_out": {"addition": (3, 2, 32)},
        "down_in": {"kernel": (3, 32, 2)},
        "down_out": {"addition": (3, 2, 16)},
    }


@pytest.mark.thorough
@pytest.mark.parametrize("change", [{"unroll": True}, {"remat": "dots"}, {"remat": "full"}], ids=str)
def test_unrolling_and_recomputation_change_nothing(change: dict):
    model = dataclasses.replace(PLAIN, **FREED["all"])
    params = drawn(model)
    wanted = gradient_of(lambda p: apply(model, p)[0], params)
    found = gradient_of(lambda p: apply(dataclasses.replace(model, **change), p)[0], params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3, rtol=1e-3), found, wanted)


@pytest.mark.thorough
def test_some_layers_and_then_the_others_are_all():
    model = dataclasses.replace(PLAIN, **FREED["all"])
    params = drawn(model)
    first, _ = apply(model, params, span=(0, 2))
    then, _ = apply(model, params, x=first, span=(2, 6))
    np.testing.assert_allclose(then, apply(model, params)[0], atol=1e-5)


def test_in_bfloat16_the_widened_kernel_is_rounded_once():
    model = dataclasses.replace(PLAIN, low_rank=3)
    params = drawn(model)
    attend = layers.attend_in(SEGMENTS, model, "bfloat16")
    found, _ = Layers(model, "bfloat16").apply({"params": params}, X.astype(jnp.bfloat16), attend, None)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), apply(model, params)[0], atol=0.1)
