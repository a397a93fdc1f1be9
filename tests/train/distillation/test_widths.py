"""Smaller widths: what is linear is kept exactly where the smaller space can hold it, and shapes always fit."""

import dataclasses

import numpy as np
import pytest
from huggingface_examples import random_params

from bertlite_jax.config.model import Model
from bertlite_jax.convert.weights import parameters
from bertlite_jax.train.distillation import widths

T, S, HEADS, LAYERS = 24, 12, 2, 3
TEACHER = Model(
    vocab_size=80,
    embed_size=T,
    hidden_size=T,
    num_layers=LAYERS,
    num_heads=HEADS,
    ffn_size=32,
    max_positions=16,
    share="none",
)
RNG = np.random.default_rng(4)


def flat_of(model: Model) -> dict[str, np.ndarray]:
    return parameters.flatten(random_params(model, seed=1))


@pytest.mark.parametrize(
    "student",
    [
        {"embed_size": S, "hidden_size": S},
        {"embed_size": S, "hidden_size": S, "ffn_size": 20},
        {"ffn_size": 20},
        {"embed_size": 8},
        {"embed_size": 8, "hidden_size": S, "norm": "post"},
    ],
    ids=str,
)
def test_every_parameter_has_the_students_shape(student):
    model = dataclasses.replace(TEACHER, **student)
    made = widths.narrowed(flat_of(TEACHER), TEACHER, model)
    parameters.check_shapes(made, model, "student")
    parameters.check_finite(made, "student")
    assert all(value.dtype == np.float32 for value in made.values())


@pytest.mark.parametrize("order", ["sum_then_project", "project_then_sum"])
def test_a_projected_teacher_is_narrowed_on_both_sides(order):
    teacher = dataclasses.replace(TEACHER, embed_size=16, embedding_order=order, share="none")
    student = dataclasses.replace(teacher, embed_size=8, hidden_size=S)
    parameters.check_shapes(widths.narrowed(flat_of(teacher), teacher, student), student, "student")


def test_equal_widths_are_left_alone():
    flat = flat_of(TEACHER)
    assert widths.narrowed(flat, TEACHER, dataclasses.replace(TEACHER, num_layers=2)) is flat


def test_word_vectors_are_the_nearest_of_their_rank():
    """Table and projection of a factorised student multiply to the truncated decomposition of the teacher's table."""
    flat = flat_of(TEACHER)
    made = widths.narrowed(flat, TEACHER, dataclasses.replace(TEACHER, embed_size=8))
    words = flat["embeddings/word/embedding"]
    product = made["embeddings/word/embedding"] @ made["projection/kernel"]
    left_out = np.linalg.svd(words, compute_uv=False)[8:]
    assert np.linalg.norm(words - product) == pytest.approx(np.linalg.norm(left_out), rel=1e-4)
    for name in ("layers/attention/query/kernel", "layers/ffn/up/kernel"):
        np.testing.assert_allclose(made[name], flat[name], atol=1e-6)


def fits_in_half() -> dict[str, np.ndarray]:
    """A teacher whose heads use half of their width, and whose words lie in half of the space."""
    flat = flat_of(TEACHER)
    basis = np.linalg.qr(RNG.normal(size=(T, S)))[0]
    flat["embeddings/word/embedding"] = (RNG.normal(size=(80, S)) @ basis.T).astype(np.float32)
    per_head = np.concatenate([np.arange(S // HEADS) + head * T // HEADS for head in range(HEADS)])
    used = np.zeros(T, bool)
    used[per_head] = True
    for name in ("query", "key", "value"):
        flat[f"layers/attention/{name}/kernel"][..., ~used] = 0
        flat[f"layers/attention/{name}/bias"][..., ~used] = 0
    return flat


def scores(flat: dict[str, np.ndarray], x: np.ndarray, layer: int) -> np.ndarray:
    query, key = (
        x @ flat[f"layers/attention/{name}/kernel"][layer] + flat[f"layers/attention/{name}/bias"][layer]
        for name in ("query", "key")
    )
    query, key = (part.reshape(len(x), HEADS, -1) for part in (query, key))
    return np.einsum("lhk,mhk->hlm", query, key) / np.sqrt(query.shape[-1])


def test_heads_that_fit_score_and_mix_as_before():
    """The student reads x P where the teacher reads x: equal scores, and outputs that differ by the basis alone."""
    flat = fits_in_half()
    made = widths.narrowed(flat, TEACHER, dataclasses.replace(TEACHER, embed_size=S, hidden_size=S))
    words = flat["embeddings/word/embedding"].astype(np.float64)
    small, x = made["embeddings/word/embedding"][:7].astype(np.float64), words[:7]
    basis = np.linalg.pinv(words, rcond=1e-4) @ made["embeddings/word/embedding"]
    np.testing.assert_allclose(x @ basis, small, atol=1e-5)
    weights = np.abs(RNG.normal(size=(HEADS, 7, 7)))
    weights /= weights.sum(-1, keepdims=True)
    for layer in range(LAYERS):
        np.testing.assert_allclose(scores(made, small, layer), scores(flat, x, layer), atol=1e-4)
        wide, narrow = mixed(flat, x, weights, layer), mixed(made, small, weights, layer)
        np.testing.assert_allclose(narrow, wide @ basis, atol=1e-4)


def mixed(flat: dict[str, np.ndarray], x: np.ndarray, weights: np.ndarray, layer: int) -> np.ndarray:
    """What attention with these weights [H, L, M] adds."""
    at = "layers/attention"
    value = (x @ flat[f"{at}/value/kernel"][layer] + flat[f"{at}/value/bias"][layer]).reshape(len(x), HEADS, -1)
    heads = np.einsum("hlm,mhk->lhk", weights, value).reshape(len(x), -1)
    return heads @ flat[f"{at}/output/kernel"][layer] + flat[f"{at}/output/bias"][layer]


def test_the_largest_neurons_stay_with_their_biases():
    flat = flat_of(TEACHER)
    flat["layers/ffn/up/kernel"][..., [3, 5]] *= 100
    made = widths.narrowed(flat, TEACHER, dataclasses.replace(TEACHER, ffn_size=2))
    np.testing.assert_allclose(made["layers/ffn/up/kernel"], flat["layers/ffn/up/kernel"][..., [3, 5]], rtol=1e-5)
    np.testing.assert_allclose(made["layers/ffn/up/bias"], flat["layers/ffn/up/bias"][:, [3, 5]], rtol=1e-6)
    np.testing.assert_allclose(made["layers/ffn/down/kernel"], flat["layers/ffn/down/kernel"][:, [3, 5]], rtol=1e-5)
