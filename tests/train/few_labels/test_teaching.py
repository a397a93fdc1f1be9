"""Distances to a teacher, value and gradient, against their formulas in numpy, one example after the other."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
import tiny

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.model import Head
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train.few_labels import teaching
from bertlite_jax.train.few_labels.loss import UNLABELLED, make_loss, make_prepare
from bertlite_jax.train.tasks import task_loss

T = 2.5
RNG = np.random.default_rng(0)
Reference = tuple[float, np.ndarray]
"""A loss, and its gradient with respect to the student's outputs."""


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z - z.max())
    return powers / powers.sum()


def sigmoid(z: float) -> float:
    return 1 / (1 + np.exp(-z))


def divergence(z: np.ndarray, t: np.ndarray) -> Reference:
    """T^2 KL of two softmaxes, and T (softmax(z / T) - softmax(t / T))."""
    p, q = softmax(z / T), softmax(t / T)
    return T**2 * float(np.sum(q * np.log(q / p))), T * (p - q)


def drawn(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Outputs of a student and of a teacher."""
    return 3 * RNG.normal(size=shape), 3 * RNG.normal(size=shape)


def compare(loss: Callable[[jax.Array], jax.Array], z: np.ndarray, wanted: Reference) -> None:
    value, slope = jax.jit(jax.value_and_grad(loss))(jnp.asarray(z, jnp.float32))
    assert float(value) == pytest.approx(wanted[0], rel=1e-5)
    np.testing.assert_allclose(slope, wanted[1], atol=2e-5)


WEIGHTS = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], np.float32)


def test_several_labels_are_so_many_distributions_of_yes_and_no():
    z, t = drawn(3, 2, 4)
    value, slope = 0.0, np.zeros_like(z)
    for at in np.ndindex(3, 2):
        for label in range(4):
            p, q = sigmoid(z[at][label] / T), sigmoid(t[at][label] / T)
            both = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
            value += WEIGHTS[at] * T**2 * both / 4
            slope[at][label] = WEIGHTS[at] * T * (p - q) / 4
    head, rows = Head(labels=tuple("abcd"), problem="multi_label"), {"teacher": t, "weights": WEIGHTS}
    compare(lambda x: teaching.sum_of(head, x, on_device(rows), T), z, (value, slope))


def test_certain_labels_have_finite_losses_and_gradients():
    z = np.array([[[90.0, -90.0]]])
    loss = jax.jit(jax.value_and_grad(lambda x: teaching.several(x, -x, 1.0).sum()))
    value, slope = loss(jnp.asarray(z, jnp.float32))
    assert float(value) == pytest.approx(90.0)  # sigmoid is 1 where the student is certain of 0: its logit's size.
    assert np.isfinite(slope).all()


def test_numbers_are_compared_by_squares_at_any_temperature():
    z, t = drawn(3, 2, 2)
    value = float(np.sum(((z - t) ** 2).mean(-1) * WEIGHTS))
    head, rows = Head(labels=("a", "b"), problem="regression"), {"teacher": t, "weights": WEIGHTS}
    for temperature in (1.0, T):
        compare(
            lambda x, t=temperature: teaching.sum_of(head, x, on_device(rows), t),
            z,
            (value, (z - t) * WEIGHTS[..., None]),
        )


def test_choices_are_one_distribution_for_each_example():
    """Two examples in the first row, of three and two choices, and one in the second; the rest holds nothing."""
    z, t = drawn(2, 6, 1)
    examples = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 0, 0]], np.int32)
    value, slope = 0.0, np.zeros_like(z)
    for row, number in ((0, 1), (0, 2), (1, 1)):
        own = examples[row] == number
        one, gradient = divergence(z[row, own, 0], t[row, own, 0])
        value, slope[row, own, 0] = value + one, gradient
    rows = {"teacher": t, "choices": examples, "weights": np.zeros((2, 6), np.float32)}
    compare(lambda x: teaching.sum_of(Head(kind="choose", labels=()), x, on_device(rows), T), z, (value, slope))


def test_tags_are_compared_where_both_have_answered():
    z, t = drawn(2, 5, 3)
    first_pieces = np.array([[0, 1, 1, 0, 0], [0, 1, 0, 1, 0]], np.float32)
    known = np.array([[0, 1, 0, 0, 0], [0, 1, 0, 1, 0]], np.float32)
    value, slope = 0.0, np.zeros_like(z)
    for at in ((0, 1), (1, 1), (1, 3)):
        one, slope[at] = divergence(z[at], t[at])
        value += one
    rows = {"teacher": t, "weights": first_pieces, "teacher_known": known}
    head = Head(kind="tag", labels=("O", "B-X", "I-X"))
    compare(lambda x: teaching.sum_of(head, x, on_device(rows), T), z, (value, slope))


def test_spans_are_distributions_over_the_tokens_of_a_window():
    """Two windows in the first row, the second of which has no weight, one in the second row, and padding."""
    z, t = drawn(2, 7, 2)
    segments = np.array([[1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 0, 0, 0]], np.int32)
    weights = np.array([[1, 0], [1, 0]], np.float32)
    value, slope = 0.0, np.zeros_like(z)
    for row in range(2):
        own = segments[row] == 1
        for end in range(2):
            one, gradient = divergence(z[row, own, end], t[row, own, end])
            value, slope[row, own, end] = value + one / 2, gradient / 2
    rows = {"teacher": t, "segments": segments, "weights": weights}
    compare(lambda x: teaching.sum_of(Head(kind="span", labels=()), x, on_device(rows), T), z, (value, slope))


@pytest.mark.parametrize(
    "head",
    [
        Head(labels=("a", "b")),
        Head(labels=("a", "b"), problem="multi_label"),
        Head(labels=("a", "b"), problem="regression"),
        Head(kind="choose", labels=()),
        Head(kind="tag", labels=("a", "b")),
        Head(kind="span", labels=()),
    ],
    ids=lambda head: f"{head.kind} {head.problem}",
)
def test_who_agrees_with_the_teacher_has_no_loss_and_the_teacher_no_gradient(head: Head):
    shape = (2, 4, head.outputs)
    z = jnp.asarray(RNG.normal(size=shape), jnp.float32)
    rows = {"weights": np.ones((2, 4), np.float32), "teacher_known": np.ones((2, 4), np.float32)}
    rows |= {"choices": np.array([[1, 1, 2, 2], [1, 1, 1, 0]]), "segments": np.array([[1, 1, 2, 2], [1, 1, 1, 0]])}
    if head.kind == "span":
        rows["weights"] = rows["weights"][:, :2]
    rows = on_device(rows)

    def loss(both: jax.Array) -> jax.Array:
        return teaching.sum_of(head, both[0], rows | {"teacher": both[1]}, T)

    value, slopes = jax.jit(jax.value_and_grad(loss))(jnp.stack([z, z]))
    assert float(value) == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(slopes[0], 0, atol=1e-5)
    assert not jax.jit(jax.grad(loss))(jnp.stack([z, 2 * z]))[1].any()


def on_device(rows: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    dtypes = {"teacher": jnp.float32, "weights": jnp.float32, "teacher_known": jnp.float32}
    return {name: jnp.asarray(array, dtypes.get(name, jnp.int32)) for name, array in rows.items()}


# --- In the loss of a recipe -----------------------------------------------------------------------------------------

MODEL = tiny.model(vocab_size=40, share="none", init_std=0.3, pair_classes=0)
LENGTH = 12
HEADS = {
    "several": Head(labels=("a", "b", "c"), problem="multi_label", dropout=0.0),
    "numbers": Head(labels=("a", "b", "c"), problem="regression", dropout=0.0),
    "choices": Head(kind="choose", labels=(), dropout=0.0),
    "tags": Head(kind="tag", labels=("a", "b", "c"), dropout=0.0),
    "spans": Head(kind="span", labels=(), dropout=0.0),
}


def rows_for(head: Head) -> dict[str, np.ndarray]:
    """Three rows with windows of 5 and 4 tokens; the last row's second window has no label."""
    segments = np.tile(np.repeat([1, 2, 0], (5, 4, 3)), (3, 1)).astype(np.int32)
    rows: dict[str, np.ndarray] = {
        "rows": np.arange(3, dtype=np.int32),
        "tokens": RNG.integers(5, 40, (3, LENGTH)).astype(np.int32),
        "segments": segments,
        "positions": np.tile(np.r_[np.arange(5), np.arange(4), 0, 0, 0], (3, 1)).astype(np.int32),
        "token_types": np.zeros((3, LENGTH), np.int32),
        "cls": np.tile([0, 5], (3, 1)).astype(np.int32),
        "weights": np.array([[1, 1], [1, 1], [1, 0]], np.float32),
    }
    narrow, wide = (3, 2), (3, LENGTH)
    if head.kind == "choose":
        rows |= {"choices": np.tile([1, 1], (3, 1)).astype(np.int32), "weights": np.eye(2, dtype=np.float32)[[0, 1, 0]]}
        rows["labels"] = rows["weights"].astype(np.int32)
    elif head.kind == "tag":
        rows["labels"] = RNG.integers(0, 3, wide).astype(np.int32)
        rows["weights"] = (segments > 0).astype(np.float32) * RNG.integers(0, 2, wide).astype(np.float32)
        rows["teacher_known"] = rows["weights"] * (np.arange(LENGTH) < 8).astype(np.float32)
    elif head.kind == "span":
        rows["labels"] = RNG.integers(0, 4, (*narrow, 2)).astype(np.int32)
    elif head.problem == "multi_label":
        rows["labels"] = RNG.integers(0, 2, (*narrow, 3)).astype(np.float32)
    else:
        rows["labels"] = RNG.normal(size=(*narrow, 3)).astype(np.float32)
    places = wide if head.kind in ("tag", "span") else narrow
    rows["teacher"] = RNG.normal(size=(*places, head.outputs)).astype(np.float32)
    return rows


@pytest.mark.parametrize("name", thorough.but(["numbers"], HEADS))
def test_the_teacher_has_its_share_beside_the_labels_and_all_of_what_has_none(name: str):
    """The whole loss with weights 0, 0.3 and 1; the same rows as unlabelled ones add 0.3 of the distance alone."""
    head = HEADS[name]
    task, rows = TaskModel(MODEL, head), rows_for(head)
    ids = np.zeros((1, 8), np.int32)
    params = jax.jit(lambda key: task.init(key, ids, ids, ids, ids, ids[:, :1])["params"])(jax.random.key(1))
    logits = jax.jit(lambda batch: task_loss.logits_of(task.apply, params, batch))(rows)
    taught = float(teaching.sum_of(head, logits, on_device_as_is(rows), T)) / rows["weights"].sum()

    def value(weight: float, batch: dict[str, np.ndarray]) -> tuple[float, dict]:
        learn = Learn(teacher="x", teacher_weight=weight, temperature=T)
        _, weights = make_prepare()(jax.random.key(0), on_device_as_is(batch), jnp.int32(0))
        loss = jax.jit(make_loss(task.apply, head, MODEL, learn))
        found, sums = loss(params, batch, weights, jax.random.key(0))
        return float(found), sums

    plain = value(0.0, rows)[0]
    assert value(1.0, rows)[0] == pytest.approx(taught, rel=1e-4)
    assert value(0.3, rows)[0] == pytest.approx(0.7 * plain + 0.3 * taught, rel=1e-4)
    more = {UNLABELLED + entry: array for entry, array in rows.items() if entry != "labels"}
    if head.kind == "tag":
        more[UNLABELLED + "weights"] = rows["teacher_known"]
    total = more[UNLABELLED + "weights"].sum()
    _, sums = value(0.3, rows | more)
    assert float(sums["teacher_loss"]) == pytest.approx(0.3 * taught * rows["weights"].sum() / total, rel=1e-4)


def on_device_as_is(rows: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    return {name: jnp.asarray(array) for name, array in rows.items()}
