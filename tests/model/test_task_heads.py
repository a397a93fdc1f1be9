"""Answers read the states they should, and the parameters are those that the exports expect."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import thorough
import tiny

from bertlite_jax.config.checks import check_head
from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights import parameters
from bertlite_jax.errors import UserError
from bertlite_jax.model.task_heads import TaskModel

SMALL = tiny.model(init_std=0.2, pair_classes=0)
WITHOUT_POOLER = dataclasses.replace(SMALL, pooler=False)
CASES = {
    "classify": (SMALL, Head(labels=("bad", "good", "so-so"))),
    "hidden_layers": (SMALL, Head(hidden=(12, 6))),
    "regression": (SMALL, Head(labels=("score",), problem="regression")),
    "distilbert": (SMALL, Head(activation="relu")),
    "choose": (SMALL, Head(kind="choose", labels=())),
    "tag": (WITHOUT_POOLER, Head(kind="tag", labels=("O", "B", "I"))),
    "span": (WITHOUT_POOLER, Head(kind="span", labels=())),
}
IDS = np.arange(24).reshape(2, 12) + 5
INPUTS = {
    "tokens": IDS,
    "segments": np.repeat([[1, 2]], 6, axis=1) * np.ones_like(IDS),
    "positions": np.tile(np.arange(6), (2, 2)),
    "token_types": np.zeros_like(IDS),
    "cls": np.array([[0, 6], [0, 6]]),
}


@pytest.fixture(
    params=thorough.but(["classify", "hidden_layers", "choose", "tag", "span"], CASES), ids=str, scope="module"
)
def case(request):
    model, head = CASES[request.param]
    task = TaskModel(model, head)
    params = jax.jit(lambda key: task.init(key, **INPUTS)["params"])(jax.random.key(0))
    return model, head, task, params


def test_the_parameters_are_those_that_the_exports_know(case):
    model, head, _, params = case
    found = {path: value.shape for path, value in parameters.flatten(params).items()}
    assert found == parameters.shapes(model, head)


def test_one_answer_a_window_or_one_a_token(case):
    _, head, task, params = case
    logits = task.apply({"params": params}, **INPUTS)
    assert logits.shape == (2, 2 if head.pooled else 12, head.outputs)
    assert logits.dtype == np.float32


def test_an_answer_reads_its_own_window_only(case):
    _, head, task, params = case
    other = {**INPUTS, "tokens": INPUTS["tokens"] + (INPUTS["segments"] == 2)}
    before, after = (np.asarray(task.apply({"params": params}, **inputs)) for inputs in (INPUTS, other))
    first, second = (slice(0, 1), slice(1, 2)) if head.pooled else (slice(0, 6), slice(6, 12))
    np.testing.assert_array_equal(before[:, first], after[:, first])
    assert (before[:, second] != after[:, second]).any()


def test_dropout_draws_anew_for_each_key_and_none_without(case):
    _, _, task, params = case
    keys = jax.random.split(jax.random.key(1), 2)
    plain = np.asarray(task.apply({"params": params}, **INPUTS))
    drawn = np.asarray(task.apply({"params": params}, **INPUTS, dropout_keys=keys))
    again = np.asarray(task.apply({"params": params}, **INPUTS, dropout_keys=keys))
    np.testing.assert_array_equal(drawn, again)
    assert (drawn != plain).any()


@pytest.mark.parametrize(
    ("head", "model", "message"),
    [
        (Head(labels=()), SMALL, "head.labels is empty"),
        (Head(labels=("a", "a")), SMALL, "the same name twice"),
        (Head(kind="tag"), SMALL, "needs model.pooler = False"),
        (Head(), WITHOUT_POOLER, "needs model.pooler = True"),
        (Head(hidden=(0,)), SMALL, "positive widths"),
        (Head(), dataclasses.replace(SMALL, pair_classes=2), "model.pair_classes = 0"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(head, model, message):
    with pytest.raises(UserError, match=message):
        check_head(head, model)


@pytest.mark.parametrize(
    ("share", "norm"), thorough.but([("all", "post")], [("none", "post"), ("all", "post"), ("ffn", "pre")])
)
def test_a_model_in_parts_is_the_whole_model(share: str, norm: str):
    """Embedding, the layers up to one, those after it, the pooled state and the head, one after the other."""
    head = Head(labels=("a", "b", "c"))
    config = dataclasses.replace(SMALL, share=share, norm=norm, num_layers=4, share_groups=2)
    model = TaskModel(config, head)
    tokens, segments, positions, types, cls = (np.asarray(value, np.int32) for value in INPUTS.values())
    params = jax.jit(lambda key: model.init(key, tokens, segments, positions, types, cls))(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 2)

    def in_parts(cut: int) -> Any:
        x = model.apply(params, tokens, positions, types, keys, method="embed")
        x = model.apply(params, x, segments, keys, 0, cut, method="apply_layers")
        x = model.apply(params, x, segments, keys, cut, method="apply_layers")
        return model.apply(params, model.apply(params, x, cls, method="pooled"), keys, method="answer")

    whole = jax.jit(lambda: model.apply(params, tokens, segments, positions, types, cls, keys))()
    for cut in (0, 1, 3):
        np.testing.assert_allclose(jax.jit(in_parts, static_argnums=0)(cut), whole, atol=2e-6)
