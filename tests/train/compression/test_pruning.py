"""What is left computes what the whole model computes with factors of 0 on what was taken."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onnx_examples import drawn
from tiny import HEAD, ROWS

from bertlite_jax.config.checks import check_model
from bertlite_jax.config.model import Model
from bertlite_jax.convert.weights import parameters
from bertlite_jax.errors import UserError
from bertlite_jax.model import gates
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train.compression import pruning
from bertlite_jax.train.compression.pruning import Kept

SMALL = Model(
    vocab_size=40,
    embed_size=16,
    hidden_size=16,
    num_layers=4,
    num_heads=4,
    ffn_size=12,
    max_positions=16,
    share="none",
    pair_classes=0,
)


def logits(model: Model, params: Any) -> jax.Array:
    return jax.jit(lambda p: TaskModel(model, HEAD).apply({"params": p}, *ROWS.values()))(params)


def masked(model: Model, params: Any, kept: Kept) -> jax.Array:
    """The logits with factors of 0 on the heads and neurons that do not stay; of all layers."""
    heads, neurons = [], []
    for layer in range(model.num_layers):
        for made, part, stays, count in (
            (heads, "attention", kept.heads, model.num_heads),
            (neurons, "ffn", kept.neurons, model.ffn_size),
        ):
            place: Any = model.stack_place(part, layer)
            factors = np.isin(np.arange(count), stays[place])
            made.append(jnp.broadcast_to(jnp.asarray(factors, jnp.float32), (2, count)))
    run = jax.jit(lambda p, g: gates.gated_logits(TaskModel(model, HEAD), p, ROWS, g))
    return run(params, gates.Gates(heads, neurons))


def rising(*numbers: int) -> np.ndarray:
    return np.asarray(numbers, np.int64)


UNEVEN = Kept(
    (0, 1, 2, 3),
    [rising(0, 1, 2, 3), rising(2), rising(), rising(1, 3)],
    [rising(3, 5, 11), np.arange(12), rising(0), rising()],
)
OF_GROUPS = Kept((0, 1, 2, 3), [rising(0, 3), rising(1)], [rising(2, 3, 4), rising(11)])


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, UNEVEN),
        pytest.param({"norm": "pre", "activation": "relu"}, UNEVEN, marks=pytest.mark.thorough),
        pytest.param({"share": "all", "share_groups": 2}, OF_GROUPS, marks=pytest.mark.thorough),
        ({"share": "all", "share_groups": 2, "own_norms": True, "depth_vector": True}, OF_GROUPS),
        ({}, Kept((0, 1, 2, 3), [np.arange(4)] * 4, [rising(1, 2), rising(0, 1), rising(7, 8), rising(3, 11)])),
    ],
    ids=["uneven", "pre-LN", "groups", "groups with own norms", "equal widths"],
)
def test_what_is_left_computes_what_masks_compute(changes: dict[str, Any], kept: Kept):
    model = dataclasses.replace(SMALL, **changes)
    params = drawn(model, HEAD).params
    left, shape = pruning.prune(params, model, kept)
    check_model(shape)
    parameters.check_shapes(parameters.flatten(left), shape, "left", HEAD)
    np.testing.assert_allclose(logits(shape, left), masked(model, params, kept), atol=1e-5)
    assert np.abs(logits(shape, left) - logits(model, params)).max() > 0.01


def test_equal_widths_and_all_heads_lie_in_stacks_as_before():
    kept = Kept((0, 3), [np.arange(4)] * 4, [rising(1, 2)] * 4)
    left, shape = pruning.prune(drawn(SMALL, HEAD).params, SMALL, kept)
    assert shape == dataclasses.replace(SMALL, num_layers=2, ffn_size=2)
    assert left["layers"]["ffn"]["up"]["kernel"].shape == (2, 16, 2)


def test_a_layer_that_is_taken_is_as_if_it_were_not_there():
    """With its norms: what layer 0 gives is what layer 3 reads."""
    params = drawn(SMALL, HEAD).params
    left, shape = pruning.prune(params, SMALL, pruning.everything(SMALL)._replace(layers=(0, 3)))
    assert (shape.num_layers, shape.pruned) == (2, False)
    task = TaskModel(SMALL, HEAD)
    inputs = [ROWS[name] for name in ("tokens", "positions", "token_types")]
    x: Any = task.apply({"params": params}, *inputs, None, method=TaskModel.embed)
    for layer in (0, 3):
        x = task.apply({"params": params}, x, ROWS["segments"], None, layer, layer + 1, method=TaskModel.apply_layers)
    pooled = task.apply({"params": params}, x, ROWS["cls"], method=TaskModel.pooled)
    wanted: Any = task.apply({"params": params}, pooled, None, method=TaskModel.answer)
    np.testing.assert_allclose(logits(shape, left), wanted, atol=1e-5)


def test_of_layers_that_share_fewer_are_applied():
    """Own norms and vectors are those of the layers that stay."""
    model = dataclasses.replace(SMALL, share="all", share_groups=2, own_norms=True, depth_vector=True)
    params = drawn(model, HEAD).params
    left, shape = pruning.prune(params, model, pruning.everything(model)._replace(layers=(0, 2)))
    assert (shape.num_layers, shape.share_groups, shape.pruned) == (2, 2, False)
    np.testing.assert_array_equal(left["layers"]["depth"]["bias"], params["layers"]["depth"]["bias"][[0, 2]])
    np.testing.assert_array_equal(left["layers"]["ffn"]["up"]["kernel"], params["layers"]["ffn"]["up"]["kernel"])


def test_a_pruned_model_can_be_pruned_again():
    params = drawn(SMALL, HEAD).params
    once, shape = pruning.prune(params, SMALL, UNEVEN)
    again = Kept((0, 1, 3), [rising(1, 2), rising(0), rising(), rising(1)], [rising(1), rising(5), rising(0), rising()])
    twice, smaller = pruning.prune(once, shape, again)
    assert (smaller.pruned_heads, smaller.pruned_ffn) == ((2, 1, 1), (1, 1, 0))
    at_once = Kept(
        (0, 1, 3), [rising(1, 2), rising(2), rising(), rising(3)], [rising(5), rising(5), rising(), rising()]
    )
    wanted, _ = pruning.prune(params, SMALL, at_once)
    jax.tree.map(np.testing.assert_array_equal, twice, wanted)


@pytest.mark.parametrize(
    "changes", [{"share": "attention"}, {"share": "all", "low_rank": 2}, {"share": "all", "own_last": 1}]
)
def test_layers_that_share_in_part_are_refused(changes: dict[str, Any]):
    with pytest.raises(UserError, match=r"prune: out: model\.(share|low_rank|own_last) = .*only layers that share all"):
        pruning.check_prunable(dataclasses.replace(SMALL, **changes), "prune: out")
