"""The layers of an encoder by themselves: one scan for every way of sharing, and what it must be equal to."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
from jax import Array

from bertlite_jax.config.model import Model
from bertlite_jax.model import layers
from bertlite_jax.model.layers import Layers
from bertlite_jax.model.ops import dropout

SMALL = Model(num_layers=4, hidden_size=16, num_heads=2, ffn_size=32, init_std=0.2)
SHARING = [("all", 1, "post"), ("all", 2, "pre"), ("attention", 2, "post"), ("ffn", 1, "post"), ("none", 1, "post")]
SEGMENTS = jnp.asarray([[1] * 5 + [2] * 4 + [0] * 3, [1] * 12])
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 16)), jnp.float32)
WEIGHT = jnp.asarray(np.random.default_rng(1).normal(size=(2, 12, 16)), jnp.float32)


def init(model: Model) -> Any:
    def make(key: Array) -> Any:
        return Layers(model, "float32").init(key, X, layers.attend_in(SEGMENTS, model, "float32"), None)["params"]

    return jax.jit(make)(jax.random.key(0))


def perturbed(params: Any) -> Any:
    """Biases and norms away from 0 and 1, so that a wrong one shows."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, drawn)


def apply(model: Model, params: Any, keys: Array | None = None, x: Array = X, **keywords: Any) -> Any:
    attend = layers.attend_in(SEGMENTS, model, "float32")
    return Layers(model, "float32").apply({"params": params}, x, attend, keys, **keywords)


def loop(model: Model, params: Any, keys: Array | None = None) -> list[Array]:
    """The states after each layer, one layer after the other in Python, each with the parameters of its number."""
    attend, states = layers.attend_in(SEGMENTS, model, "float32"), [X]
    for number in range(model.num_layers):
        own = {}
        for part, stacked in params.items():
            stack = jax.tree.leaves(stacked)[0].shape[0]
            own[part] = jax.tree.map(lambda leaf, i=number * stack // model.num_layers: leaf[i], stacked)
        of_layer = dropout.keys_at(keys, 1 + number)  # Site 0 is that of the embeddings.
        states.append(layers.block(own, states[-1], attend, of_layer, model, "float32"))
    return states[1:]


def gradient_of(function: Any, params: Any) -> Any:
    """Of a weighted sum of squares of the outputs, so that wrong outputs show in it as well."""
    return jax.jit(jax.grad(lambda p: jnp.sum((function(p) + 1.0) ** 2 * WEIGHT)))(params)


@pytest.mark.parametrize(("share", "groups", "norm"), thorough.but(SHARING[1:2], SHARING))
def test_scan_equals_a_python_loop(share: Any, groups: int, norm: Any):
    """Forward and gradient, for every sharing mode in one, some and as many groups as layers; with dropout."""
    model = dataclasses.replace(
        SMALL, share=share, share_groups=groups, norm=norm, hidden_dropout=0.2, attention_dropout=0.1
    )
    params, keys = perturbed(init(model)), jax.random.split(jax.random.key(2), 2)
    grads = gradient_of(lambda p: apply(model, p, keys)[0], params)
    wanted = gradient_of(lambda p: loop(model, p, keys)[-1], params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-4), grads, wanted)


@pytest.mark.parametrize(("share", "groups", "norm"), thorough.but(SHARING[2:], SHARING))
def test_the_states_after_each_layer_are_those_of_the_loop(share: Any, groups: int, norm: Any):
    model = dataclasses.replace(SMALL, share=share, share_groups=groups, norm=norm)
    params = perturbed(init(model))
    last, states = jax.jit(lambda p: apply(model, p, collect=True))(params)
    wanted = jax.jit(lambda p: loop(model, p))(params)
    np.testing.assert_allclose(states, np.stack(wanted), atol=1e-5)
    np.testing.assert_array_equal(states[-1], last)


def test_some_layers_and_then_the_others_are_all():
    model = dataclasses.replace(SMALL, share="attention", share_groups=2, hidden_dropout=0.2)
    params, keys = perturbed(init(model)), jax.random.split(jax.random.key(2), 2)

    def in_turn(p: Any) -> Array:
        first, _ = apply(model, p, keys, span=(0, 1))
        return apply(model, p, keys, x=first, span=(1, 4))[0]

    np.testing.assert_allclose(jax.jit(in_turn)(params), jax.jit(lambda p: apply(model, p, keys)[0])(params), atol=1e-6)


@pytest.mark.parametrize(
    ("share", "groups", "attention", "ffn", "norms"),
    [("all", 2, 2, 2, 2), ("attention", 2, 2, 4, 4), ("ffn", 1, 4, 1, 4), ("none", 1, 4, 4, 4)],
)
def test_parameters_lie_in_stacks_by_part(share: Any, groups: int, attention: int, ffn: int, norms: int):
    """The tree that checkpoints and converted folders hold: the scans add no level and no name to it."""
    params = init(dataclasses.replace(SMALL, share=share, share_groups=groups))
    linear = lambda stack, fan_in, out: {"kernel": (stack, fan_in, out), "bias": (stack, out)}  # noqa: E731
    norm = {"scale": (norms, 16), "bias": (norms, 16)}
    assert jax.tree.map(jnp.shape, params) == {
        "attention": {name: linear(attention, 16, 16) for name in ("query", "key", "value", "output")},
        "ffn": {"up": linear(ffn, 16, 32), "down": linear(ffn, 32, 16)},
        "norms": {"attention": norm, "ffn": norm},
    }


@pytest.mark.parametrize("share", thorough.but(["all"], ["all", "attention"]))
def test_unrolled_equals_scanned(share: Any):
    model = dataclasses.replace(SMALL, share=share)
    params = init(model)
    unrolled = jax.jit(lambda p: apply(dataclasses.replace(model, unroll=True), p)[0])(params)
    np.testing.assert_allclose(unrolled, jax.jit(lambda p: apply(model, p)[0])(params), atol=1e-5)


@pytest.mark.parametrize(("unroll", "loops"), [(False, 2), (True, 0)])
def test_an_unrolled_program_has_no_loop_over_layers(unroll: bool, loops: int):
    """Scanned, it has two: over groups, and over the layers of a group."""
    model = dataclasses.replace(SMALL, unroll=unroll, share_groups=2)
    program = jax.jit(lambda p: apply(model, p)[0]).lower(init(model)).as_text()
    assert program.count("stablehlo.while") == loops


@pytest.mark.parametrize(("remat", "unroll"), thorough.but([("dots", False)], [("dots", False), ("full", True)]))
def test_recomputation_changes_no_gradient(remat: Any, unroll: bool):
    params = init(SMALL)

    def gradient(model: Model) -> Any:
        return gradient_of(lambda p: apply(model, p)[0], params)

    changed = gradient(dataclasses.replace(SMALL, remat=remat, unroll=unroll))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), changed, gradient(SMALL))


def test_gradient_of_shared_weights_is_the_sum_over_untied_layers():
    """Copying the shared block into each layer and summing the copies' gradients gives the shared gradient."""
    shared = init(SMALL)
    untied_model = dataclasses.replace(SMALL, share="none")
    untied = jax.tree.map(lambda leaf: jnp.repeat(leaf, 4, axis=0), shared)
    copies = gradient_of(lambda p: apply(untied_model, p)[0], untied)
    summed = jax.tree.map(lambda leaf: leaf.sum(0, keepdims=True), copies)
    tied = gradient_of(lambda p: apply(SMALL, p)[0], shared)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), tied, summed)


def test_unshared_layers_start_from_different_weights():
    kernel = np.asarray(init(dataclasses.replace(SMALL, share="none"))["ffn"]["up"]["kernel"])
    assert kernel.shape[0] == 4
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1
