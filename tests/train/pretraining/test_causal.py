"""Causal steps: tokens see earlier tokens of their own window, and predict the next one there."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
import tiny
from masking_rows import CLS, SEP, SPECIAL, pack, plain_window, random_batch

from bertlite_jax.config.pretrain import Data, Mask, Objective, Pretrain, causal_slots
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.train.pretraining import causal, objective
from bertlite_jax.train.step import step_key

IDS: dict[str, int] = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL, strict=True))
LENGTH, WINDOWS = 24, 3
CONFIG = Pretrain(
    model=tiny.model(vocab_size=97, max_positions=LENGTH, vocab_multiple=8, init_std=0.3),
    data=Data(length=LENGTH, windows_per_row=WINDOWS),
    mask=Mask(scheme="token", rate=0.15),
    objective=Objective(causal_every=1),
)


# --- What is predicted -----------------------------------------------------------------------------------------------


def test_every_token_predicts_the_next_of_its_window_unless_that_is_special():
    """Two windows [CLS] 10 11 [SEP] 12 [SEP] and [CLS] 20 [SEP], and a token of padding."""
    ones = np.ones
    window = [(np.array([10, 11]), ones(2)), (np.array([12]), ones(1))]
    batch = pack([[window, [(np.array([20]), ones(1))]]], 10, 2)
    assert batch["tokens"].tolist() == [[CLS, 10, 11, SEP, 12, SEP, CLS, 20, SEP, 0]]
    labels, weights = causal.next_tokens({name: jnp.asarray(array) for name, array in batch.items()}, IDS)
    assert labels.tolist() == [[10, 11, 0, 12, 0, 0, 20, 0, 0, 0]]
    assert weights.tolist() == [[1, 1, 0, 1, 0, 0, 1, 0, 0, 0]]


def test_it_is_the_rule_token_by_token():
    batch = random_batch(rows=16)
    labels, weights = causal.next_tokens({name: jnp.asarray(array) for name, array in batch.items()}, IDS)
    for row in range(16):
        for place in range(128):
            follows = place + 1 < 128 and batch["segments"][row, place] == batch["segments"][row, place + 1] > 0
            counts = follows and batch["tokens"][row, place + 1] not in SPECIAL
            assert float(weights[row, place]) == counts
            assert int(labels[row, place]) == (batch["tokens"][row, place + 1] if counts else 0)


# --- What is seen ----------------------------------------------------------------------------------------------------


def rows_of(*rows) -> dict:
    batch = pack([[plain_window(*window) for window in row] for row in rows], LENGTH, WINDOWS)
    for row, segments in enumerate(batch["segments"]):
        for window in range(1, WINDOWS + 1):
            batch["positions"][row, segments == window] = np.arange((segments == window).sum())
    return {name: jnp.asarray(array) for name, array in batch.items()}


def drawn_params(config: Pretrain) -> Any:
    ids = np.zeros((1, 8), np.int32)
    model = PretrainingModel(config.model)
    return model.init(jax.random.key(1), ids, ids, ids, ids, ids[:, :1], ids[:, :1])["params"]


def logits(config: Pretrain, params: dict, tokens, batch: dict) -> np.ndarray:
    """Of all places, [B, L, V], for other tokens than the batch's."""
    model = PretrainingModel(config.model)
    hidden = model.apply(
        {"params": params}, tokens, batch["segments"], batch["positions"], batch["token_types"], method="causal_states"
    )
    return np.asarray(model.apply({"params": params}, hidden, method="word_logits"))


SHAPES = {
    "post": {},
    "pre": {"norm": "pre"},
    "unrolled": {"unroll": True},
    "recomputed": {"remat": "full"},
    "scaled, with parts of their own": {
        "residual_scale": "depth",
        "own_norms": True,
        "depth_vector": True,
        "low_rank": 2,
    },
    "words projected first": {"embedding_order": "project_then_sum"},
    "no pairs": {"pair_classes": 0, "pooler": False, "token_types": 0},
}


@pytest.mark.parametrize("shape", thorough.but(["pre", "no pairs", "unrolled", "recomputed"], SHAPES))
def test_a_later_token_changes_no_earlier_logit_and_another_window_nothing(shape):
    """To the bit. The changed token itself and those behind it do notice, which the last lines make sure of."""
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, **SHAPES[shape]))
    batch, params = rows_of([(10, 10), (11, 30)]), drawn_params(config)
    before = logits(config, params, batch["tokens"], batch)
    after = logits(config, params, batch["tokens"].at[0, 5].set(77), batch)
    np.testing.assert_array_equal(after[0, :5], before[0, :5])
    np.testing.assert_array_equal(after[0, 10:21], before[0, 10:21])
    assert (np.abs(after[0, 5:10] - before[0, 5:10]).max(axis=-1) > 1e-4).all()


def test_states_are_those_of_attention_one_token_at_a_time():
    """One layer against loops in float64: a token's state is a mixture of its own and earlier tokens of its window."""
    model = dataclasses.replace(CONFIG.model, num_layers=1)
    config = dataclasses.replace(CONFIG, model=model)
    batch, params = rows_of([(10, 10), (11, 30)]), drawn_params(config)
    network = PretrainingModel(model)
    arguments = (batch["tokens"], batch["segments"], batch["positions"], batch["token_types"])
    found = np.asarray(network.apply({"params": params}, *arguments, method="causal_states"))
    start = np.asarray(network.apply({"params": params}, *arguments, method="hidden_states")[0], np.float64)[0]

    layer = jax.tree.map(lambda leaf: np.float64(leaf[0]), params["layers"])
    q, k, v = (
        start @ layer["attention"][n]["kernel"] + layer["attention"][n]["bias"] for n in ("query", "key", "value")
    )
    segments, mixed = np.asarray(batch["segments"])[0], np.zeros_like(start)
    for i in range(21):
        seen = [j for j in range(i + 1) if segments[j] == segments[i]]
        for head in (slice(0, 8), slice(8, 16)):
            scores = np.array([q[i, head] @ k[j, head] / np.sqrt(8) for j in seen])
            weights = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            mixed[i, head] = sum(w * v[j, head] for w, j in zip(weights, seen, strict=True))

    def normed(x, part):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * layer["norms"][part]["scale"] + layer["norms"][part]["bias"]

    x = normed(
        start + mixed @ layer["attention"]["output"]["kernel"] + layer["attention"]["output"]["bias"], "attention"
    )
    up = x @ layer["ffn"]["up"]["kernel"] + layer["ffn"]["up"]["bias"]
    up = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
    x = normed(x + up @ layer["ffn"]["down"]["kernel"] + layer["ffn"]["down"]["bias"], "ffn")
    np.testing.assert_allclose(found[0, :21], x[:21], atol=1e-4)


# --- The loss --------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_the_loss_is_the_mean_over_all_places_though_the_head_takes_a_few_at_a_time():
    """Three pieces of eight places; value and gradient are those of all logits at once."""
    assert causal_slots(CONFIG) == 8
    batch, params = rows_of([(10, 10), (11, 30)], [(20, 50)], [(9, 5)]), drawn_params(CONFIG)
    key = step_key(0, jnp.int32(0))
    rows, weights = causal.make_prepare(IDS)(key, batch, jnp.int32(0))
    assert float(weights["causal_weight"]) == 7 + 8 + 17 + 6, "all tokens that are not special"
    assert float(weights["real_tokens"]) == 10 + 11 + 20 + 9

    def whole(params: dict):
        of_all = jax.nn.log_softmax(_logits(params))
        of_labels = jnp.take_along_axis(of_all, rows["labels"][..., None], axis=-1)[..., 0]
        return -jnp.sum(of_labels * rows["weights"]) / weights["causal_weight"]

    def _logits(params: Any) -> Any:
        model, (B, L) = PretrainingModel(CONFIG.model), batch["tokens"].shape
        hidden = model.apply(
            {"params": params},
            batch["tokens"], batch["segments"], batch["positions"], batch["token_types"],
            method="causal_states",
        )  # fmt: skip
        logits: Any = model.apply({"params": params}, hidden, method="word_logits")
        return logits.reshape(B, L, -1)

    loss = causal.make_loss(PretrainingModel(CONFIG.model).apply, CONFIG)
    (value, sums), grads = jax.value_and_grad(lambda p: loss(p, rows, weights, key), has_aux=True)(params)
    wanted, wanted_grads = jax.value_and_grad(whole)(params)
    assert float(value) == pytest.approx(float(wanted), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads, wanted_grads)
    right = (np.argmax(np.asarray(_logits(params)), -1) == np.asarray(rows["labels"])) * np.asarray(rows["weights"])
    assert float(sums["causal_correct"]) == right.sum()
    assert not any(np.abs(leaf).any() for leaf in jax.tree.leaves((grads["pooler"], grads["pair"]))), "no pair loss"


def test_a_causal_step_has_figures_of_its_own():
    metrics = {"loss": 4.0, "causal_sum": 40.0, "causal_weight": 10.0, "causal_correct": 3.0, "real_tokens": 12.0}
    assert objective.readable(metrics) == {"loss": 4.0, "real_tokens": 12.0, "causal_loss": 4.0, "causal_accuracy": 0.3}
