"""What every family's encoder must do, whatever it shares."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from bertlite_jax.config.model import Model
from bertlite_jax.model import encoder
from bertlite_jax.model.encoder import Encoder
from bertlite_jax.model.ops.elementwise import layer_norm

SMALL = tiny.model(num_layers=4, init_std=0.2)


def row_of(*lengths: int, width: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
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


def forward(model: Model, params, row: dict[str, np.ndarray], **keywords) -> np.ndarray:
    apply = jax.jit(lambda p, r: Encoder(model).apply({"params": p}, **r, **keywords))
    return np.asarray(apply(params, row))


def perturbed(params, seed: int = 1):
    """Biases and norms away from 0 and 1, so that a wrong one shows."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(
        tree, [a + 0.1 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    )


def loop(params, model: Model, row: dict[str, np.ndarray]) -> jax.Array:
    """The layers one after the other in Python, each with the parameters that its number selects."""
    x = Encoder(model).apply({"params": params}, **row, method="hidden_states")[0]
    attend = encoder.attend_in(row["segments"], model, "float32")
    for layer in range(model.num_layers):
        own = {}
        for part, stacked in params["layers"].items():
            stack = jax.tree.leaves(stacked)[0].shape[0]
            index = layer * stack // model.num_layers
            own[part] = jax.tree.map(lambda leaf, i=index: leaf[i], stacked)
        x = encoder.block(own, x, attend, None, model, "float32")
    if model.norm == "pre":
        x = layer_norm(x, params["final_norm"], model.norm_epsilon)
    return x


def gradient_of(function, params):
    """Of a weighted sum of the outputs, [1, 12, 16], so that wrong outputs show in it as well."""
    weight = jax.random.normal(jax.random.key(3), (1, 12, 16))
    return jax.jit(jax.grad(lambda p: jnp.sum((function(p) + 1.0) ** 2 * weight)))(params)


@pytest.mark.parametrize(
    ("share", "groups", "norm"),
    [("all", 1, "post"), ("all", 2, "pre"), ("attention", 2, "post"), ("ffn", 1, "post"), ("none", 1, "post")],
)
def test_scan_equals_a_python_loop(share: str, groups: int, norm: str):
    """Forward and gradient, for every sharing mode in one, some and as many groups as layers."""
    model = dataclasses.replace(SMALL, share=share, share_groups=groups, norm=norm)
    params, row = perturbed(init(model)), row_of(5, 4)

    def scanned(p):
        return Encoder(model).apply({"params": p}, **row)

    grads = gradient_of(scanned, params)
    wanted = gradient_of(lambda p: loop(p, model, row), params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-4), grads, wanted)


@pytest.mark.parametrize("share", ["all", "attention"])
def test_unrolled_equals_scanned(share: str):
    model = dataclasses.replace(SMALL, share=share)
    params, row = init(model), row_of(12)
    unrolled = forward(dataclasses.replace(model, unroll=True), params, row)
    np.testing.assert_allclose(unrolled, forward(model, params, row), atol=1e-5)


@pytest.mark.parametrize(("remat", "unroll"), [("dots", False), ("full", True)])
def test_recomputation_changes_no_gradient(remat: str, unroll: bool):
    params, row = init(SMALL), row_of(12)

    def gradient(model: Model):
        return gradient_of(lambda p: Encoder(model).apply({"params": p}, **row), params)

    changed = gradient(dataclasses.replace(SMALL, remat=remat, unroll=unroll))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), changed, gradient(SMALL))


def test_gradient_of_shared_weights_is_the_sum_over_untied_layers():
    """Copying the shared block into each layer and summing the copies' gradients gives the shared gradient."""
    shared = init(SMALL)
    untied_model = dataclasses.replace(SMALL, share="none")
    untied = shared | {"layers": jax.tree.map(lambda leaf: jnp.repeat(leaf, 4, axis=0), shared["layers"])}

    def gradient(model: Model, params):
        return gradient_of(lambda p: Encoder(model).apply({"params": p}, **row_of(12)), params)

    summed = jax.tree.map(lambda leaf: leaf.sum(0, keepdims=True), gradient(untied_model, untied)["layers"])
    tied = gradient(SMALL, shared)["layers"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), tied, summed)


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
    masks = [encoder.dropout(jnp.ones((2, 64)), encoder._keys_for(keys, site), 0.5) for site in (1, 2)]
    assert (np.asarray(masks[0]) != np.asarray(masks[1])).mean() > 0.3


def test_dropout_keeps_the_mean_and_the_published_share():
    keys = jax.random.split(jax.random.key(0), 100)
    dropped = np.asarray(encoder.dropout(jnp.ones((100, 1000)), keys, 0.1))
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.9)}
    assert abs((dropped == 0).mean() - 0.1) < 3 * np.sqrt(0.09 / 1e5)


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


def test_unshared_layers_start_from_different_weights():
    kernel = np.asarray(init(dataclasses.replace(SMALL, share="none"))["layers"]["ffn"]["up"]["kernel"])
    assert kernel.shape[0] == 4
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1


def test_sinusoidal_positions_start_as_sines_of_twice_the_deviation():
    """Row 3, channels 2 and 3: sine and cosine of 3 / 10000^(2/8); the table's root mean square is 2 std."""
    params = init(dataclasses.replace(SMALL, position_init="sinusoidal", init_std=0.2))
    table = np.asarray(params["embeddings"]["position"]["embedding"])
    angle = 3 / 10_000 ** (2 / 8)
    np.testing.assert_allclose(table[3, 2:4], 0.4 * np.sqrt(2) * np.array([np.sin(angle), np.cos(angle)]), atol=1e-6)
    assert np.mean(table**2) == pytest.approx(0.16, rel=1e-5)
