"""Logits where they are asked for, tied to the embedding table, and nowhere else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from bertlite_jax.config.model import Model
from bertlite_jax.model.heads import PretrainingModel, gather_rows

SMALL = tiny.model(init_std=0.2)
IDS = np.arange(24).reshape(2, 12) + 5
INPUTS = {
    "tokens": IDS,
    "segments": np.ones_like(IDS),
    "positions": np.tile(np.arange(12), (2, 1)),
    "token_types": np.zeros_like(IDS),
    "cls": np.array([[0, 6], [0, 0]]),
    "predict_positions": np.array([[1, 5, 0], [2, 11, 7]]),
}


def init(model: Model):
    return jax.jit(lambda key: PretrainingModel(model).init(key, **INPUTS)["params"])(jax.random.key(0))


def forward(model: Model, params):
    return jax.jit(lambda p: PretrainingModel(model).apply({"params": p}, **INPUTS))(params)


def last_states(params) -> np.ndarray:
    names = ("tokens", "segments", "positions", "token_types")
    states = jax.jit(
        lambda p: PretrainingModel(SMALL).apply({"params": p}, *(INPUTS[n] for n in names), method="hidden_states")
    )(params)
    return np.asarray(states[-1])


def test_gather_picks_the_asked_positions():
    hidden = jnp.arange(2 * 4 * 3.0).reshape(2, 4, 3)
    np.testing.assert_array_equal(
        gather_rows(hidden, jnp.array([[3, 0], [1, 1]])),
        [[[9, 10, 11], [0, 1, 2]], [[15, 16, 17], [15, 16, 17]]],
    )


def test_masked_lm_is_dense_activation_norm_and_the_embedding_table():
    """Written out in numpy for one predicted position."""
    params = init(SMALL)
    logits, _ = forward(SMALL, params)
    assert logits.shape == (2, 3, 50)
    assert logits.dtype == jnp.float32
    h = last_states(params)[1, 11]
    x = h @ np.asarray(params["mlm"]["dense"]["kernel"])
    x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-12)
    np.testing.assert_allclose(logits[1, 1], x @ np.asarray(params["embeddings"]["word"]["embedding"]).T, atol=1e-5)


def test_pair_logits_read_each_windows_cls():
    params = init(SMALL)
    _, pair = forward(SMALL, params)
    pooled = np.tanh(last_states(params)[0, 6] @ np.asarray(params["pooler"]["kernel"]))
    np.testing.assert_allclose(pair[0, 1], pooled @ np.asarray(params["pair"]["kernel"]), atol=1e-5)


def test_table_learns_from_both_ends():
    """Pieces that are only predicted and pieces that are only read both get a gradient."""
    params = init(SMALL)
    grads = jax.jit(jax.grad(lambda p: PretrainingModel(SMALL).apply({"params": p}, **INPUTS)[0][0, 0, 49]))(params)
    table = np.abs(np.asarray(grads["embeddings"]["word"]["embedding"])).sum(1)
    assert table[49] > 0
    assert table[IDS[0]].min() > 0
    assert table[1] == 0


def test_padded_vocabulary_is_never_predicted_and_never_learns():
    """Rows beyond V are zero, get no gradient and have no probability; the others' probabilities do not change."""
    padded_model = dataclasses.replace(SMALL, vocab_multiple=32)
    params, plain = init(padded_model), init(SMALL)
    assert params["embeddings"]["word"]["embedding"].shape == (64, 8)
    assert not np.asarray(params["embeddings"]["word"]["embedding"])[50:].any()

    def loss(p):
        return -jax.nn.log_softmax(PretrainingModel(padded_model).apply({"params": p}, **INPUTS)[0])[..., 7].mean()

    grads = jax.jit(jax.grad(loss))(params)
    assert not np.asarray(grads["embeddings"]["word"]["embedding"])[50:].any()
    assert not np.asarray(grads["mlm"]["bias"])[50:].any()
    logits = forward(padded_model, params)[0]
    wanted = forward(SMALL, plain)[0]
    np.testing.assert_allclose(jax.nn.softmax(logits)[..., :50], jax.nn.softmax(wanted), atol=1e-6)


def test_without_pair_head_there_are_no_pair_logits():
    model = dataclasses.replace(SMALL, token_types=0, pooler=False, pair_classes=0)
    params = init(model)
    assert "token_type" not in params["embeddings"]
    assert "pooler" not in params
    assert forward(model, params)[1] is None


def test_full_length_logits_are_never_built():
    """[B, L, V] would be the largest array of a step by far; only [B, K, V] may appear."""
    model = PretrainingModel(dataclasses.replace(SMALL, vocab_size=997))
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), **INPUTS)["params"])
    text = (
        jax.jit(lambda p: jax.grad(lambda q: model.apply({"params": q}, **INPUTS)[0].sum())(p)).lower(params).as_text()
    )
    assert "2x3x997" in text or "6x997" in text
    assert "2x12x997" not in text
    assert "24x997" not in text
