"""Rows whose windows see each other: the same masks and labels, but one text with positions of its own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from masking_rows import SPECIAL, pack, plain_window

from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Pretrain, Run
from bertlite_jax.train.pretraining import objective

IDS: dict[str, int] = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL, strict=True))
ISOLATED = Pretrain(model=Model(vocab_size=30_000), data=Data(length=128), run=Run(steps=8))
JOINED = dataclasses.replace(ISOLATED, data=dataclasses.replace(ISOLATED.data, isolate=False))


def prepared(config: Pretrain) -> tuple[dict, dict]:
    batch = pack([[plain_window(10), plain_window(30)], [plain_window(50)]])
    return jax.device_get(jax.jit(objective.make_prepare(config, IDS))(jax.random.key(0), batch, jnp.int32(0)))


def test_what_is_predicted_is_the_same():
    (alone, weights), (joined, joined_weights) = prepared(ISOLATED), prepared(JOINED)
    assert weights == joined_weights
    for name in alone.keys() - {"segments", "positions"}:
        np.testing.assert_array_equal(alone[name], joined[name])


def test_a_row_is_one_text_up_to_its_padding():
    """Windows of 10 and 30 tokens."""
    joined, _ = prepared(JOINED)
    assert joined["segments"][0].tolist() == [1] * 40 + [0] * 88
    assert joined["positions"][0].tolist() == [*range(40), *[0] * 88]
    assert joined["positions"].dtype == prepared(ISOLATED)[0]["positions"].dtype
