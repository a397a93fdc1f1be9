"""The conditioned span head against its formulas, written out for one window with loops and a wide concatenation."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from bertlite_jax.config.checks import check_head
from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights import parameters
from bertlite_jax.errors import UserError
from bertlite_jax.model import span_heads
from bertlite_jax.model.encoder import Encoder
from bertlite_jax.model.task_heads import TaskModel

MODEL = tiny.model(num_layers=1, init_std=0.4, pooler=False, pair_classes=0)
HEAD = Head(kind="span", labels=(), span="conditioned", dropout=0.5)
# Two windows in a row and padding behind them: 2 and 1 tokens of question, 5 and 3 of text, and the special tokens.
SEGMENTS = np.array([[1] * 10 + [2] * 7 + [0] * 3])
POSITIONS = np.array([[*range(10), *range(7), 0, 0, 0]])
TYPES = np.array([[0] * 4 + [1] * 6 + [0] * 3 + [1] * 4 + [0] * 3])
INPUTS = {
    "tokens": (np.arange(20)[None] * 7) % 44 + 5,
    "segments": SEGMENTS,
    "positions": POSITIONS,
    "token_types": TYPES,
    "cls": np.array([[0, 10, 0]]),
}
# In each window's own row: [CLS] and the text.
ALLOWED = {0: [0, 4, 5, 6, 7, 8], 1: [0, 3, 4, 5]}
WINDOWS = {0: slice(0, 10), 1: slice(10, 17)}


@pytest.fixture(scope="module")
def made():
    task = TaskModel(MODEL, HEAD)
    params = jax.jit(lambda key: task.init(key, **INPUTS)["params"])(jax.random.key(0))
    # Biases and norms start at 0 and 1, where a formula without them would pass.
    params = jax.tree.map(lambda x: x + 0.1 * np.random.default_rng(0).normal(size=x.shape).astype(np.float32), params)
    encoder = {name: part for name, part in params.items() if name != "head"}
    inputs = [INPUTS[name] for name in ("tokens", "segments", "positions", "token_types")]
    hidden = np.asarray(jax.jit(Encoder(MODEL).apply)({"params": encoder}, *inputs), np.float64)
    return task, params, hidden[0]


def dense(x, layer):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer.get("bias", 0.0), np.float64)


def log_softmax(x):
    return x - np.log(np.sum(np.exp(x)))


def start_scores(head, states, allowed):
    return log_softmax(dense(states, head["start"])[allowed, 0])


def end_scores(head, states, allowed, start):
    joined = np.concatenate([states, np.repeat(states[start : start + 1], len(states), 0)], -1)
    x = np.tanh(dense(joined, head["end_hidden"]))
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + MODEL.norm_epsilon)
    x = x * np.asarray(head["end_norm"]["scale"]) + np.asarray(head["end_norm"]["bias"])
    return log_softmax(dense(x, head["end"])[allowed, 0])


def null_logit(head, states, allowed):
    expected = np.exp(start_scores(head, states, allowed)) @ states[allowed]
    return dense(np.tanh(dense(np.concatenate([expected, states[0]]), head["answer_hidden"])), head["answer"])[0]


def test_the_parameters_are_those_that_the_exports_know(made):
    _, params, _ = made
    found = {path: value.shape for path, value in parameters.flatten(params).items()}
    assert found == parameters.shapes(MODEL, HEAD)


def test_scores_given_the_start_are_those_of_the_reference(made):
    task, params, hidden = made
    starts = np.array([[6, 0, 0]])
    found = jax.jit(task.apply)({"params": params}, **INPUTS, starts=starts)
    for number, place in WINDOWS.items():
        states, allowed = hidden[place], ALLOWED[number]
        within = np.arange(20)[place][allowed]
        start, end = (np.asarray(part, np.float64)[0, within] for part in (found.start, found.end))
        wanted = end_scores(params["head"], states, allowed, starts[0, number])
        np.testing.assert_allclose(log_softmax(start), start_scores(params["head"], states, allowed), atol=1e-4)
        np.testing.assert_allclose(log_softmax(end), wanted, atol=1e-4)
        np.testing.assert_allclose(found.null[0, number], null_logit(params["head"], states, allowed), atol=1e-4)


def test_question_separators_and_padding_are_no_ends_of_an_answer(made):
    task, params, _ = made
    found = jax.jit(task.apply)({"params": params}, **INPUTS, starts=np.zeros((1, 3), np.int32))
    possible = [0, 4, 5, 6, 7, 8, 10, 13, 14, 15]
    for logits in (found.start, found.end):
        assert np.flatnonzero(np.asarray(logits)[0] > -1e20).tolist() == possible


def test_the_beam_holds_the_five_best_starts_and_for_each_the_five_best_ends(made):
    task, params, hidden = made
    beam = jax.jit(task.apply)({"params": params}, **INPUTS)
    for number, place in WINDOWS.items():
        states, allowed = hidden[place], np.array(ALLOWED[number])
        scores = start_scores(params["head"], states, allowed)
        best = np.argsort(-scores)[:5]
        count = len(best)
        np.testing.assert_array_equal(beam.starts[0, number, :count], allowed[best])
        np.testing.assert_allclose(beam.start_scores[0, number, :count], scores[best], atol=1e-4)
        for rank, start in enumerate(allowed[best]):
            ends = end_scores(params["head"], states, allowed, start)
            order = np.argsort(-ends)[:5]
            np.testing.assert_array_equal(beam.ends[0, number, rank, : len(order)], allowed[order])
            np.testing.assert_allclose(beam.end_scores[0, number, rank, : len(order)], ends[order], atol=1e-4)
        assert (np.asarray(beam.start_scores[0, number, count:]) < -1e20).all()
        np.testing.assert_allclose(beam.null[0, number], null_logit(params["head"], states, allowed), atol=1e-4)


def test_a_window_reads_nothing_of_its_neighbours(made):
    task, params, _ = made
    apply = jax.jit(task.apply)
    before = apply({"params": params}, **INPUTS)
    after = apply({"params": params}, **{**INPUTS, "tokens": INPUTS["tokens"] + (SEGMENTS == 2)})
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:, 0], b[:, 0]), before, after)
    assert np.abs(before.null[:, 1] - after.null[:, 1]).max() > 1e-3


def test_dropout_touches_the_answerability_alone(made):
    task, params, _ = made
    starts = np.array([[6, 4, 0]])
    plain = jax.jit(task.apply)({"params": params}, **INPUTS, starts=starts)
    keys = jax.random.split(jax.random.key(3), 1)
    drawn = jax.jit(task.apply)({"params": params}, **INPUTS, starts=starts, dropout_keys=keys)
    np.testing.assert_array_equal(plain.start, drawn.start)
    np.testing.assert_array_equal(plain.end, drawn.end)
    assert (np.asarray(plain.null) != np.asarray(drawn.null)).any()


def test_no_logit_is_a_nan_where_a_row_is_empty(made):
    task, params, _ = made
    empty = {name: np.zeros_like(value) for name, value in INPUTS.items()}
    found = jax.jit(task.apply)({"params": params}, **empty)
    assert all(np.isfinite(np.asarray(part)).all() for part in found)
    assert span_heads.START_TOP == span_heads.END_TOP == 5  # start_n_top and end_n_top of run_squad_v2


def test_a_conditioned_head_has_no_further_layers():
    with pytest.raises(UserError, match=r"head.hidden"):
        check_head(dataclasses.replace(HEAD, hidden=(4,)), MODEL)
