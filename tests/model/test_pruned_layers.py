"""Layers with different numbers of heads and neurons, and gates on heads and neurons: what both compute."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from tiny import HEAD, ROWS

from bertlite_jax.config.checks import check_model
from bertlite_jax.config.model import Head, Model
from bertlite_jax.errors import UserError
from bertlite_jax.model import gates
from bertlite_jax.model.task_heads import TaskModel

SMALL = Model(
    vocab_size=40,
    embed_size=16,
    hidden_size=16,
    num_layers=3,
    num_heads=4,
    ffn_size=24,
    max_positions=16,
    share="none",
    pair_classes=0,
    init_std=0.3,
    hidden_dropout=0.1,
    attention_dropout=0.1,
)
PRUNED = dataclasses.replace(SMALL, pruned_heads=(3, 0, 1), pruned_ffn=(5, 24, 0))


def init(model: Model, head: Head = HEAD) -> Any:
    task = TaskModel(model, head)
    params = jax.jit(lambda key: task.init(key, *ROWS.values())["params"])(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, drawn)


def logits(model: Model, params: Any, head: Head = HEAD, keys: Array | None = None) -> Array:
    task = TaskModel(model, head)
    return jax.jit(lambda p: task.apply({"params": p}, *ROWS.values(), keys))(params)


def test_parameters_are_as_small_as_what_they_hold():
    """A layer without heads or neurons has the bias of its output left."""
    layers = init(PRUNED)["layers"]
    assert layers["0"]["attention"]["query"]["kernel"].shape == (16, 12)
    assert layers["0"]["attention"]["output"]["kernel"].shape == (12, 16)
    assert set(layers["1"]["attention"]) == {"output"}
    assert set(layers["1"]["attention"]["output"]) == {"bias"}
    assert layers["0"]["ffn"]["up"]["kernel"].shape == (16, 5)
    assert set(layers["2"]["ffn"]) == {"down"}


@pytest.mark.parametrize("share", ["none", "all", "attention"])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_with_all_heads_and_neurons_they_are_ordinary_layers(share: Any, norm: Any):
    """With dropout too: a layer's keys follow from its number."""
    whole = dataclasses.replace(SMALL, share=share, norm=norm)
    size = whole.stack_sizes
    same = dataclasses.replace(whole, pruned_heads=(4,) * size["attention"], pruned_ffn=(24,) * size["ffn"])
    params, keys = init(whole), jax.random.split(jax.random.key(3), 2)
    by_place = {
        str(place): {
            part: jax.tree.map(lambda leaf, i=place: leaf[i], stack)
            for part, stack in params["layers"].items()
            if place < size[part]
        }
        for place in range(max(size.values()))
    }
    assert jax.tree.map(jnp.shape, init(same)["layers"]) == jax.tree.map(jnp.shape, by_place)
    np.testing.assert_allclose(
        logits(same, {**params, "layers": by_place}, keys=keys), logits(whole, params, keys=keys), atol=1e-5
    )


def test_states_after_each_layer_end_with_those_of_the_last():
    task, params = TaskModel(PRUNED, HEAD), init(PRUNED)
    inputs = [ROWS[name] for name in ("tokens", "segments", "positions", "token_types")]
    states: Any = task.apply({"params": params}, *inputs, method=TaskModel.hidden_states)
    assert len(states) == 4
    pooled = task.apply({"params": params}, states[-1], ROWS["cls"], method=TaskModel.pooled)
    last: Any = task.apply({"params": params}, pooled, None, method=TaskModel.answer)
    np.testing.assert_allclose(last, logits(PRUNED, params), atol=1e-5)


@pytest.mark.parametrize("model", [SMALL, PRUNED, dataclasses.replace(SMALL, share="all", norm="pre", low_rank=2)])
@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_open_gates_change_nothing(model: Model, kind: Any):
    head = dataclasses.replace(HEAD, kind=kind)
    model = dataclasses.replace(model, pooler=head.pooled)
    params = init(model, head)
    gated = gates.gated_logits(TaskModel(model, head), params, ROWS, gates.open_gates(model, 2))
    np.testing.assert_allclose(gated, logits(model, params, head), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pruned_ffn": ()}, "are set together"),
        ({"pruned_heads": (3, 5, 1)}, r"model.pruned_heads = \(3, 5, 1\) should be 3 numbers from 0 to 4"),
        ({"pruned_ffn": (5, 6)}, r"model.pruned_ffn = \(5, 6\) should be 3 numbers from 0 to 24"),
        ({"residual_scale": "depth"}, "model.residual_scale = depth cannot be combined with pruned layers"),
    ],
)
def test_shapes_that_pruning_cannot_leave_are_refused(changes: dict[str, Any], said: str):
    with pytest.raises(UserError, match=said):
        check_model(dataclasses.replace(PRUNED, **changes))
