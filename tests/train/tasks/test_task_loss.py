"""The losses of task heads against their formulas, in numpy, and the same whatever the rows are made of."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough

from bertlite_jax.config.finetune import Adapt
from bertlite_jax.config.model import Head, Model
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.data.examples import batches
from bertlite_jax.data.examples.features import Encoded
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train import optim, schedules, sharding, state
from bertlite_jax.train.step import make_step
from bertlite_jax.train.tasks import layer_rates, task_loss

MODEL = Model(
    vocab_size=60,
    embed_size=16,
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    ffn_size=64,
    max_positions=24,
    share="none",
    init_std=0.2,
    pair_classes=0,
)
HEADS = {
    "single_label": Head(labels=("a", "b", "c"), dropout=0.0),
    "multi_label": Head(labels=("a", "b", "c"), problem="multi_label", dropout=0.0),
    "regression": Head(labels=("score",), problem="regression", dropout=0.0),
    "choose": Head(kind="choose", labels=(), dropout=0.0),
    "tag": Head(kind="tag", labels=("O", "B", "I"), dropout=0.0),
}


def split_for(head: Head, examples: int = 24) -> Encoded:
    rng = np.random.default_rng(0)
    choices = 3 if head.kind == "choose" else 1
    sizes = rng.integers(4, 12, examples * choices)
    total = int(sizes.sum())
    labels = {
        "choose": rng.integers(0, choices, examples).astype(np.int32),
        "tag": rng.integers(-1, 3, total).astype(np.int32),
        "multi_label": rng.integers(0, 2, (examples, 3)).astype(np.float32),
        "regression": rng.normal(size=(examples, 1)).astype(np.float32),
        "single_label": rng.integers(0, 3, examples).astype(np.int32),
    }
    return Encoded(
        tokens=rng.integers(5, 60, total).astype(np.int32),
        types=rng.integers(0, 2, total).astype(np.int8),
        words=np.zeros(0, np.int32),
        offsets=np.r_[0, np.cumsum(sizes)],
        firsts=np.arange(examples + 1) * choices,
        labels=labels[head.kind if head.kind != "classify" else head.problem],
        counts={},
    )


def on_device(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    return {name: jnp.asarray(array) for name, array in batch.items()}


def batch_of(split: Encoded, head: Head, pack: bool, multiple: int = 8) -> dict[str, np.ndarray]:
    """All examples as one batch."""
    shape = batches.plan(split, len(split.sizes), pack, 0, 1, seed=0)
    shape = shape._replace(rows=-(-shape.rows // multiple) * multiple)
    dealt = batches.deal(split.sizes, len(split.sizes), 0, 0)
    return batches.batch_at(split, dealt, 0, shape, head, pack, 0).batch


def model_for(head: Head, **changes) -> tuple[TaskModel, Model]:
    model = dataclasses.replace(MODEL, pooler=head.pooled, **changes)
    return TaskModel(model, head), model


def drawn(model: TaskModel):
    ids = np.zeros((1, 8), np.int32)
    return jax.jit(lambda key: model.init(key, ids, ids, ids, ids, ids[:, :1])["params"])(jax.random.key(1))


def by_hand(head: Head, logits: np.ndarray, labels: np.ndarray) -> float:
    """One example's loss: logits [C] (or [choices]), labels as they are given."""
    if head.problem == "regression":
        return float(np.mean((logits - labels) ** 2))
    if head.problem == "multi_label":
        p = 1 / (1 + np.exp(-logits))
        return float(-np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p)))
    return float(np.log(np.sum(np.exp(logits))) - logits[int(labels)])


@pytest.mark.parametrize("name", thorough.but(["single_label", "tag"], HEADS))
def test_the_loss_is_the_mean_of_its_formula_over_examples(name: str):
    """Each example (or labelled word) alone, in numpy, from the logits of rows that hold one window each."""
    head = HEADS[name]
    split = split_for(head)
    model, config = model_for(head)
    params = drawn(model)
    found = []
    logits_of = jax.jit(lambda rows: task_loss.logits_of(model.apply, params, rows))
    shape = batches.Shape(1, 48, 4)
    for example in range(len(split.sizes)):
        layout = batches.lay_out(split, [[example]], shape, head, 0)
        logits = np.asarray(logits_of(layout.batch), np.float64)[0]
        if name == "tag":
            labels = split.labels[split.offsets[example] : split.offsets[example + 1]]
            found += [by_hand(head, logits[i], label) for i, label in enumerate(labels) if label >= 0]
        elif name == "choose":
            found.append(by_hand(head, logits[:3, 0], split.labels[example]))
        else:
            found.append(by_hand(head, logits[0], split.labels[example]))
    loss = task_loss.make_loss(model.apply, head, config)
    batch = batch_of(split, head, pack=True)
    _, weights = task_loss.make_prepare()(jax.random.key(0), on_device(batch), jnp.int32(0))
    assert float(weights["weight"]) == len(found)
    value, _ = jax.jit(loss)(params, batch, weights, jax.random.key(0))
    assert float(value) == pytest.approx(np.mean(found), rel=1e-5)


def test_what_is_right_is_counted():
    """Scores of two examples with three and two choices; a tie is wrong."""
    scores = np.array([[3.0, 1.0, 2.0, 5.0, 5.0, 9.0]])
    choices = np.array([[1, 1, 1, 2, 2, 0]])
    right = np.array([[1.0, 0, 0, 1.0, 0, 0]])
    total, correct = jax.jit(task_loss.choose)(scores, choices, right)
    first = np.log(np.exp([3.0, 1.0, 2.0]).sum()) - 3.0
    assert float(total) == pytest.approx(first + np.log(2), rel=1e-6)
    assert float(correct) == 1.0


def updated(head: Head, devices: int, pack: bool, micro_batches: int = 1, steps: int = 3, **changes):
    """Losses and parameters after some steps over one batch."""
    model, config = model_for(head, **changes)
    mesh = sharding.make_mesh(devices)
    settings = Optim(name="adamw", learning_rate=1e-3, warmup_steps=0, micro_batches=micro_batches)
    params = drawn(model)
    layout = sharding.layout(params, mesh)
    optimizer = optim.make_optimizer(settings, 10, 24, params)
    held = state.init_state(lambda key: params, optimizer, 0, layout)
    step = make_step(
        task_loss.make_prepare(),
        task_loss.make_loss(model.apply, head, config),
        optimizer,
        schedules.schedule(settings, 10, 24),
        layout,
        micro_batches,
        seed=0,
    )
    batch = sharding.put_batch(batch_of(split_for(head), head, pack), mesh)
    found = []
    for _ in range(steps):
        held, metrics = step(held, batch)
        found.append(float(metrics["loss"]))
    return found, jax.device_get(held.params)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [name if name == "single_label" else pytest.param(name, marks=pytest.mark.slow) for name in HEADS],
)
def test_packed_and_unpacked_rows_and_any_devices_learn_the_same(name: str):
    """Packed on one device; one example a row on one; packed on eight."""
    head = HEADS[name]
    wanted, params = updated(head, 1, pack=True)
    assert wanted[-1] < wanted[0]
    for devices, pack in ((1, False), (8, True)):
        found, other = updated(head, devices, pack)
        np.testing.assert_allclose(found, wanted, rtol=2e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), params, other)


@pytest.mark.slow
def test_micro_batches_and_devices_do_not_matter_with_dropout():
    """Masks are drawn by the row's number, so only the rows must be the same."""
    head = dataclasses.replace(HEADS["single_label"], dropout=0.2)
    drops: dict[str, Any] = {"hidden_dropout": 0.1, "attention_dropout": 0.1}
    wanted, _ = updated(head, 1, True, **drops)
    for devices, micro_batches in ((8, 1), (2, 4)):
        np.testing.assert_allclose(updated(head, devices, True, micro_batches, **drops)[0], wanted, rtol=2e-5)
    assert abs(updated(HEADS["single_label"], 1, True)[0][0] - wanted[0]) > 1e-4


# --- Rates by depth --------------------------------------------------------------------------------------------------


def scaled_ones(adapt: Adapt) -> dict:
    params = drawn(model_for(HEADS["single_label"])[0])
    scale = layer_rates.scale_by_depth(adapt, MODEL.num_layers, params)
    ones = jax.tree.map(np.ones_like, params)
    return jax.device_get(scale.update(ones, scale.init(params))[0])


def test_rates_fall_from_layer_to_layer():
    """Two layers and d = 1/2: head and pooler 1, layer 1 1/2, layer 0 1/4, embeddings 1/8."""
    found = scaled_ones(Adapt(layer_decay=0.5))
    assert np.unique(found["head"]["output"]["kernel"]) == np.unique(found["pooler"]["bias"]) == 1
    kernel = found["layers"]["ffn"]["up"]["kernel"]
    assert (np.unique(kernel[1]), np.unique(kernel[0])) == (0.5, 0.25)
    assert np.unique(found["embeddings"]["norm"]["scale"]) == np.unique(found["projection"]["kernel"]) == 0.125


@pytest.mark.parametrize(("freeze", "moving"), thorough.but([(1, (0, 1))], [(1, (0, 1)), (2, (0, 0)), (-1, (0, 0))]))
def test_frozen_layers_do_not_move(freeze: int, moving: tuple[int, int]):
    found = scaled_ones(Adapt(freeze_layers=freeze))
    assert not found["embeddings"]["word"]["embedding"].any()
    bias = np.broadcast_to(found["layers"]["attention"]["query"]["bias"], (2, 32))
    assert (bias[0].max(), bias[1].max()) == moving
    assert found["head"]["output"]["bias"].all()
    assert found["pooler"]["kernel"].all()


def test_layers_of_a_pruned_model_have_the_rates_of_their_places():
    """They lie apart: `layers/0` and `layers/1`."""
    layers = {str(place): {"ffn": {"up": {"bias": np.zeros(3 + place)}}} for place in range(2)}
    scale = layer_rates.scale_by_depth(Adapt(layer_decay=0.5), 2, {"layers": layers})
    ones = jax.tree.map(np.ones_like, {"layers": layers})
    found = jax.device_get(scale.update(ones, scale.init(ones))[0])["layers"]
    assert [np.unique(found[place]["ffn"]["up"]["bias"]) for place in "01"] == [0.25, 0.5]
