"""Replaced tokens: pieces are drawn from the prediction, put where masks were, and found again by a second pass."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from masking_rows import SPECIAL, pack, plain_window

from bertlite_jax.config.pretrain import Data, Mask, Objective, Pretrain, Run
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.train import losses
from bertlite_jax.train.pretraining import objective, replaced
from bertlite_jax.train.step import row_keys, step_key

IDS: dict[str, int] = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL, strict=True))


def drawn_by_hand(logits: np.ndarray, uniform: float) -> int:
    """The first piece at which the running sum of probabilities, in float64, exceeds the number."""
    exact = np.exp(np.float64(logits) - np.float64(logits).max())
    running = 0.0
    for piece, probability in enumerate(exact / exact.sum()):
        running += probability
        if running > uniform:
            return piece
    return int(np.flatnonzero(exact)[-1])


# --- Drawing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 16, 97, 1000])
def test_a_piece_is_where_the_running_sum_of_probabilities_passes_the_number(size: int):
    """Whatever the vocabulary divides into; numbers nearer than rounding to a boundary are left out."""
    rng = np.random.default_rng(size)
    logits, uniforms = rng.normal(0, 2, (4, 6, size)).astype(np.float32), rng.random((4, 6)).astype(np.float32)
    found = np.asarray(jax.jit(replaced.sample)(logits, uniforms))
    ends = np.cumsum(np.exp(np.float64(logits)) / np.exp(np.float64(logits)).sum(-1, keepdims=True), axis=-1)
    clear = np.abs(ends - uniforms[..., None]).min(-1) > 1e-6
    assert clear.mean() > 0.9
    for place in np.argwhere(clear):
        assert found[tuple(place)] == drawn_by_hand(logits[tuple(place)], float(uniforms[tuple(place)]))


def test_pieces_come_as_often_as_they_are_likely():
    """The middles of 4,096 equal stretches of [0, 1): each piece gets its share of them, to one."""
    logits = np.log(np.array([0.5, 0.25, 0.125, 0.0625, 0.0625], np.float32))
    uniforms = (np.arange(4096, dtype=np.float32)[None] + 0.5) / 4096
    found = np.asarray(replaced.sample(jnp.broadcast_to(logits, (1, 4096, 5)), jnp.asarray(uniforms)))
    np.testing.assert_allclose(np.bincount(found[0]), [2048, 1024, 512, 256, 256], atol=1)


@pytest.mark.parametrize("uniform", [0.0, 0.5, np.float32(1 - 2**-24)])
def test_padding_rows_of_the_vocabulary_are_never_drawn(uniform: float):
    """Not at either end of the running sum, where rounding could reach them; nor where nearly all is padding."""
    rng = np.random.default_rng(0)
    for real in (1, 3, 97):
        logits = np.full((1, 200, 104), -1e9, np.float32)
        logits[..., :real] = rng.normal(0, 5, (1, 200, real))
        found = np.asarray(replaced.sample(jnp.asarray(logits), jnp.full((1, 200), uniform, jnp.float32)))
        assert found.min() >= 0
        assert found.max() < real
        behind = np.roll(logits, 104 - real, axis=-1)
        found = np.asarray(replaced.sample(jnp.asarray(behind), jnp.full((1, 200), uniform, jnp.float32)))
        assert found.min() >= 104 - real


def test_a_certain_prediction_is_always_drawn():
    logits = np.full((1, 50, 1000), -200.0, np.float32)
    logits[0, np.arange(50), np.arange(50) * 19] = 0.0
    uniforms = np.random.default_rng(0).random((1, 50)).astype(np.float32)
    assert (
        np.asarray(replaced.sample(jnp.asarray(logits), jnp.asarray(uniforms)))[0].tolist()
        == (np.arange(50) * 19).tolist()
    )


# --- Replacing -------------------------------------------------------------------------------------------------------


def test_pieces_stand_where_masks_stood_and_unused_slots_replace_nothing():
    """The first token is that of the text again; the slot without a position leaves position 0 alone."""
    tokens = jnp.asarray([[2, 10, 11, 12, 3], [2, 20, 21, 3, 0]])
    positions = jnp.asarray([[1, 3, 0], [2, 0, 0]])
    used = jnp.asarray([[True, True, False], [True, False, False]])
    pieces = jnp.asarray([[10, 99, 77], [55, 66, 44]])
    inputs, changed = replaced.replace(tokens, positions, used, pieces)
    assert inputs.tolist() == [[2, 10, 11, 99, 3], [2, 20, 55, 3, 0]]
    assert np.argwhere(np.asarray(changed)).tolist() == [[0, 3], [1, 2]], (
        "a piece that is the token's own does not count"
    )


# --- The loss --------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_logistic_one_of_the_tokens_that_count():
    """-log sigmoid(x) where replaced, -log sigmoid(-x) where not; extreme logits stay finite."""
    logits = np.array([[0.0, 2.0, -1.0, 300.0, -300.0]], np.float32)
    labels = np.array([[True, False, False, True, True]])
    weights = np.array([[1.0, 1.0, 0.0, 1.0, 1.0]], np.float32)
    total, weight, right = losses.replaced(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(weights))
    assert float(total) == pytest.approx(np.log(2) + np.log1p(np.exp(2.0)) + 0.0 + 300.0, rel=1e-6)
    assert (float(weight), float(right)) == (4.0, 1.0), "at 0 the token counts as not replaced"


LENGTH, WINDOWS = 24, 3
CONFIG = Pretrain(
    model=tiny.model(vocab_size=97, max_positions=LENGTH, vocab_multiple=8, replaced_head=True, init_std=0.3),
    data=Data(length=LENGTH, windows_per_row=WINDOWS),
    mask=Mask(scheme="token", rate=0.3),
    objective=Objective(replaced_weight=50.0),
    run=Run(steps=10),
)
MODEL = PretrainingModel(CONFIG.model)


@pytest.fixture(scope="module")
def batch() -> dict:
    rows = [[plain_window(10, 10), plain_window(12, 30)], [plain_window(9, 50)], [plain_window(20, 60)], []]
    return {name: jnp.asarray(array) for name, array in pack(rows, LENGTH, WINDOWS).items()}


@pytest.fixture(scope="module")
def params(batch) -> Any:
    ids = np.zeros((1, 8), np.int32)
    return MODEL.init(jax.random.key(1), ids, ids, ids, ids, ids[:, :1], ids[:, :1])["params"]


def prepared(batch: dict, key):
    return objective.make_prepare(CONFIG, IDS)(key, batch, jnp.int32(0))


@pytest.mark.thorough
def test_all_tokens_but_special_ones_and_padding_count(batch):
    """Windows of 10, 12, 9 and 20 tokens with three special ones each."""
    rows, weights = prepared(batch, step_key(0, jnp.int32(0)))
    assert float(weights["replaced_weight"]) == 7 + 9 + 6 + 17
    assert not np.asarray(rows["counted"])[np.isin(np.asarray(batch["tokens"]), SPECIAL)].any()


def test_the_second_pass_reads_the_drawn_pieces_and_its_loss_is_added_with_the_weight(batch, params):
    """Everything again by hand, from the keys and the logits of the first pass on."""
    key = step_key(0, jnp.int32(0))
    rows, weights = prepared(batch, key)
    value, sums = objective.make_loss(MODEL.apply, CONFIG)(params, rows, weights, key)
    logits, _ = objective.logits_of(MODEL.apply, params, rows, None)

    tokens, inputs = np.asarray(batch["tokens"]), np.asarray(batch["tokens"]).copy()
    keys = row_keys(jax.random.fold_in(key, 2), rows["rows"])
    for row in range(len(tokens)):
        uniforms = np.asarray(jax.random.uniform(keys[row], (logits.shape[1],)))
        for slot in np.flatnonzero(np.asarray(rows["weights"][row])):
            inputs[row, int(rows["predict_positions"][row, slot])] = drawn_by_hand(
                np.asarray(logits[row, slot]), float(uniforms[slot])
            )
    said = MODEL.apply(
        {"params": params},
        inputs,
        batch["segments"],
        batch["positions"],
        batch["token_types"],
        method="replaced_logits",
    )
    counted = (np.asarray(batch["segments"]) > 0) & ~np.isin(tokens, SPECIAL)
    signed = np.where(inputs != tokens, np.asarray(said), -np.asarray(said)).astype(np.float64)[counted]
    assert (inputs != tokens).sum() > 5
    assert float(sums["replaced_sum"]) == pytest.approx(np.log1p(np.exp(-signed)).sum(), rel=1e-5)
    assert float(sums["replaced_changed"]) == (inputs != tokens).sum()
    assert float(sums["replaced_correct"]) == (signed > 0).sum()
    plain = sums["mlm_sum"] / weights["mlm_weight"] + sums["pair_sum"] / jnp.maximum(weights["pair_weight"], 1.0)
    assert float(value) == pytest.approx(
        float(plain + 50 * sums["replaced_sum"] / weights["replaced_weight"]), rel=1e-5
    )


def test_the_first_pass_is_that_of_a_run_without_the_option(batch, params):
    """The same masks, masked-LM and pair losses; its parameters are drawn alike too."""
    key = step_key(0, jnp.int32(0))
    plain = Pretrain(
        tiny.model(vocab_size=97, max_positions=LENGTH, vocab_multiple=8, init_std=0.3), CONFIG.data, CONFIG.mask
    )
    model = PretrainingModel(plain.model)
    ids = np.zeros((1, 8), np.int32)
    theirs = model.init(jax.random.key(1), ids, ids, ids, ids, ids[:, :1], ids[:, :1])["params"]
    assert set(params) - set(theirs) == {"replaced"}
    jax.tree.map(np.testing.assert_array_equal, {name: params[name] for name in theirs}, theirs)
    rows, weights = objective.make_prepare(plain, IDS)(key, batch, jnp.int32(0))
    _, wanted = objective.make_loss(model.apply, plain)(theirs, rows, weights, key)
    ours, our_weights = prepared(batch, key)
    _, found = objective.make_loss(MODEL.apply, CONFIG)(params, ours, our_weights, key)
    assert {name: float(found[name]) for name in wanted} == {name: float(value) for name, value in wanted.items()}
    assert found.keys() - wanted.keys() == {"replaced_sum", "replaced_correct", "replaced_changed"}


@pytest.mark.thorough
def test_no_gradient_goes_through_the_choice_of_a_piece(batch, params):
    """The head of the masked language model learns from its own loss alone."""
    key = step_key(0, jnp.int32(0))
    rows, weights = prepared(batch, key)

    def of_head(weight: float):
        config = Pretrain(CONFIG.model, CONFIG.data, CONFIG.mask, Objective(replaced_weight=weight))
        grads = jax.grad(lambda p: objective.make_loss(MODEL.apply, config)(p, rows, weights, key)[0])(params)
        return grads["mlm"], grads["replaced"], grads["layers"]

    (light, light_head, light_layers), (heavy, heavy_head, heavy_layers) = of_head(1.0), of_head(4.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), light, heavy)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(4 * a, b, rtol=1e-4, atol=1e-6), light_head, heavy_head)
    assert (
        max(jax.tree.leaves(jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), light_layers, heavy_layers))) > 1e-3
    )


@pytest.mark.thorough
def test_a_row_alone_gets_the_pieces_that_it_gets_among_others(batch, params):
    """Keys are folded with the row's number: no split of the batch changes what is drawn."""
    key = step_key(0, jnp.int32(3))
    rows, weights = prepared(batch, key)
    loss = objective.make_loss(MODEL.apply, CONFIG)
    _, together = loss(params, rows, weights, key)
    alone = [
        loss(params, {n: a[i : i + 1] for n, a in rows.items()}, weights, key)[1] for i in range(len(rows["rows"]))
    ]
    assert float(together["replaced_changed"]) == sum(float(each["replaced_changed"]) for each in alone)
    assert float(together["replaced_sum"]) == pytest.approx(
        sum(float(each["replaced_sum"]) for each in alone), rel=1e-5
    )


def test_means_have_readable_names():
    metrics = {"loss": 9.0, "mlm_sum": 20.0, "mlm_weight": 5.0, "mlm_correct": 2.0, "replaced_sum": 30.0}
    metrics |= {"replaced_weight": 100.0, "replaced_correct": 90.0, "replaced_changed": 12.0}
    found = objective.readable(metrics)
    assert found == {
        "loss": 9.0,
        "mlm_loss": 4.0,
        "mlm_accuracy": 0.4,
        "replaced_loss": 0.3,
        "replaced_accuracy": 0.9,
        "replaced_share": 0.12,
    }
