"""What every family's encoder must do, whatever it shares."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from bertlite_jax.config.model import Model
from bertlite_jax.model.encoder import Encoder
from bertlite_jax.model.ops import dropout

SMALL = tiny.model(num_layers=4, init_std=0.2)


def row_of(*lengths: int, width: int = 12, seed: int = 0) -> dict[str, Any]:
    """One row of packed windows with random ids, as the batch contract has it."""
    rng = np.random.default_rng(seed)
    row = {name: np.zeros((1, width), np.int32) for name in ("tokens", "segments", "positions", "token_types")}
    start = 0
    for number, length in enumerate(lengths, 1):
        here = slice(start, start + length)
        row["tokens"][0, here] = rng.integers(5, 50, length)
        row["segments"][0, here] = number
        row["positions"][0, here] = np.arange(length)
        row["token_types"][0, here] = np.arange(length) >= length // 2
        start += length
    return row


def init(model: Model, seed: int = 0):
    return jax.jit(lambda key: Encoder(model).init(key, **row_of(12))["params"])(jax.random.key(seed))


def forward(model: Model, params, row: dict[str, Any], **keywords) -> np.ndarray:
    apply = jax.jit(lambda p, r: Encoder(model).apply({"params": p}, **r, **keywords))
    return np.asarray(apply(params, row))


def test_a_window_sees_nothing_of_its_neighbours_in_the_row():
    """Hidden states of a window are the same alone in a row and packed behind another one."""
    alone, packed = row_of(5, seed=7), row_of(4, 5, 3)
    packed["tokens"][0, 4:9] = alone["tokens"][0, :5]
    packed["token_types"][0, 4:9] = alone["token_types"][0, :5]
    params = init(SMALL)
    np.testing.assert_allclose(forward(SMALL, params, packed)[0, 4:9], forward(SMALL, params, alone)[0, :5], atol=1e-5)


def test_more_padding_changes_nothing_and_stays_finite():
    params = init(SMALL)
    short = forward(SMALL, params, row_of(5, width=5))
    long = forward(SMALL, params, row_of(5, width=12))
    np.testing.assert_allclose(short[0], long[0, :5], atol=1e-5)
    assert np.isfinite(long).all()


def test_hidden_states_are_the_projected_embeddings_and_every_layer():
    params, row = init(SMALL), row_of(12)
    states = jax.jit(lambda p: Encoder(SMALL).apply({"params": p}, **row, method="hidden_states"))(params)
    assert len(states) == SMALL.num_layers + 1
    np.testing.assert_allclose(states[-1], forward(SMALL, params, row), atol=1e-6)
    words = params["embeddings"]
    x = words["word"]["embedding"][row["tokens"]] + words["position"]["embedding"][row["positions"]]
    x = x + words["token_type"]["embedding"][row["token_types"]]
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    np.testing.assert_allclose(states[0], x @ params["projection"]["kernel"], atol=1e-5)


def test_dropout_differs_between_layers_and_rows_but_not_with_the_batch():
    """A row's mask follows from its key: the same alone and in a batch; other rows and layers draw others."""
    model = dataclasses.replace(SMALL, hidden_dropout=0.3, attention_dropout=0.2)
    params = init(model)
    row = row_of(12)
    both = {name: np.repeat(values, 2, axis=0) for name, values in row.items()}
    keys = jax.random.split(jax.random.key(5), 2)
    together = forward(model, params, both, dropout_keys=keys)
    second = forward(model, params, row, dropout_keys=keys[1:])
    np.testing.assert_allclose(together[1:], second, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.1
    masks = [dropout.dropout(jnp.ones((2, 64)), dropout.keys_at(keys, site), 0.5) for site in (1, 2)]
    assert (np.asarray(masks[0]) != np.asarray(masks[1])).mean() > 0.3


def test_weights_start_as_tensorflow_truncates_them():
    """Two standard deviations at most, the variance left as it falls: 0.8796 of 0.02."""
    model = dataclasses.replace(SMALL, vocab_size=20_000, init_std=0.02)
    params = init(model)
    table = np.asarray(params["embeddings"]["word"]["embedding"])
    assert np.abs(table).max() <= 0.04
    assert abs(table.std() - 0.02 * 0.8796) < 1e-4
    kernel = np.asarray(params["layers"]["ffn"]["up"]["kernel"])
    assert np.abs(kernel).max() <= 0.04
    assert kernel.std() > 0.015
    assert not np.asarray(params["layers"]["attention"]["query"]["bias"]).any()
    assert (np.asarray(params["embeddings"]["norm"]["scale"]) == 1).all()


def test_sinusoidal_positions_start_as_sines_of_twice_the_deviation():
    """Row 3, channels 2 and 3: sine and cosine of 3 / 10000^(2/8); the table's root mean square is 2 std."""
    params = init(dataclasses.replace(SMALL, position_init="sinusoidal", init_std=0.2))
    table = np.asarray(params["embeddings"]["position"]["embedding"])
    angle = 3 / 10_000 ** (2 / 8)
    np.testing.assert_allclose(table[3, 2:4], 0.4 * np.sqrt(2) * np.array([np.sin(angle), np.cos(angle)]), atol=1e-6)
    assert np.mean(table**2) == pytest.approx(0.16, rel=1e-5)
