"""A mask rate that changes inside one program masks at every step as that step's rate alone would."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from masking_by_hand import chosen_by_hand, masked_by_hand
from masking_rows import MASK, SPECIAL, pack, plain_window, random_batch

from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Mask, Pretrain, Run, predictions_per_row
from bertlite_jax.config.schedule import mask_rate_at
from bertlite_jax.train.pretraining import masking, objective
from bertlite_jax.train.step import step_key

IDS: dict[str, int] = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL, strict=True))
SCHEMES = {
    "falls": Mask(rate=0.15, first_rate=0.3, rate_steps=6),
    "rises": Mask(scheme="token", rate=0.4, first_rate=0.1),
}


def config(schedule: Mask, steps: int = 8) -> Pretrain:
    data = Data(length=128, windows_per_row=8)
    return Pretrain(model=Model(vocab_size=30_000), data=data, mask=schedule, run=Run(steps=steps))


@pytest.mark.parametrize("name", SCHEMES)
def test_every_step_is_masked_by_the_rule_at_its_rate(name):
    """The rule, one token at a time and with Python's own rounding; K is the same throughout."""
    values = config(SCHEMES[name])
    prepare = jax.jit(objective.make_prepare(values, IDS))
    batch = random_batch(rows=6)
    for step in range(1, 9):
        key = step_key(0, jnp.int32(step - 1))
        found, weights = jax.device_get(prepare(key, batch, jnp.int32(step - 1)))
        assert found["weights"].shape == (6, predictions_per_row(values)) == (6, {"falls": 39, "rises": 52}[name] + 8)
        of_step = dataclasses.replace(values.mask, rate=mask_rate_at(values, step), first_rate=0.0)
        predicted = 0
        for row in range(6):
            drawn = masking.draw(jax.random.fold_in(jax.random.fold_in(key, 0), row), 128, of_step, 30_000, SPECIAL)
            columns = [batch[name][row].tolist() for name in ("tokens", "segments", "token_types", "word_starts")]
            draws = jax.device_get(drawn)
            chosen = chosen_by_hand(draws, *columns, config=of_step, special=SPECIAL)
            inputs, positions, labels, _ = masked_by_hand(draws, columns[0], chosen, of_step, MASK)
            used = len(positions)
            assert found["inputs"][row].tolist() == inputs
            assert found["predict_positions"][row, :used].tolist() == positions
            assert found["labels"][row, :used].tolist() == labels
            assert found["weights"][row].tolist() == [1.0] * used + [0.0] * (found["weights"].shape[1] - used)
            predicted += used
        assert weights["mlm_weight"] == predicted


def test_halves_are_rounded_to_even_at_every_rate():
    """0.25 of 10, 30, 50 tokens are 2.5, 7.5, 12.5: 2, 8, 12 as Python rounds; 0.5 of 5, 7 are 2.5, 3.5: 2, 4."""
    values = config(Mask(scheme="token", rate=0.5, first_rate=0.25), steps=2)
    prepare = jax.jit(objective.make_prepare(values, IDS))
    batch = pack([[plain_window(10), plain_window(30), plain_window(50)], [plain_window(5), plain_window(7)]])
    for step, wanted in ((1, [[2, 8, 12], [1, 2]]), (2, [[5, 15, 25], [2, 4]])):
        found, _ = jax.device_get(prepare(jax.random.key(0), batch, jnp.int32(step - 1)))
        for row in range(2):
            places = found["predict_positions"][row][found["weights"][row] > 0]
            segments = batch["segments"][row, places].tolist()
            assert [segments.count(window) for window in range(1, len(wanted[row]) + 1)] == wanted[row]


def test_behind_the_last_stair_it_is_the_rate_without_a_schedule():
    """Bit for bit, but for the slots that the larger first rate leaves empty."""
    values = config(SCHEMES["falls"], steps=20)
    batch, key = random_batch(rows=8), step_key(0, jnp.int32(12))
    found, _ = jax.device_get(jax.jit(objective.make_prepare(values, IDS))(key, batch, jnp.int32(12)))
    alone = mask_with(key, batch, Mask(rate=0.15))
    np.testing.assert_array_equal(found["inputs"], alone["inputs"])
    slots = alone["labels"].shape[1]
    for name in ("predict_positions", "labels", "weights"):
        np.testing.assert_array_equal(found[name][:, :slots], alone[name])
        assert not found[name][:, slots:].any()


def mask_with(key, batch, alone: Mask) -> dict:
    found, _ = jax.jit(objective.make_prepare(config(alone), IDS))(key, batch, jnp.int32(0))
    return jax.device_get(found)


def test_a_changing_rate_needs_the_slots_of_the_largest():
    budgets = jnp.asarray(masking.budget_table(0.15, 128))
    batch = pack([[plain_window(20)]])
    with pytest.raises(ValueError, match=r"40 slots are too few for 8 windows in 128 tokens at 0.3: 47"):
        masking.mask_batch(jax.random.key(0), batch, SCHEMES["falls"], 40, 30_000, SPECIAL, MASK, budgets)
