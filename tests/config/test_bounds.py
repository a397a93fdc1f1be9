"""Bounds of numbers leave room for every published shape, and for what is beyond them the message stays short."""

import dataclasses

import pytest

from bertlite_jax.config import bounds, checks, presets
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Optim, Pretrain, Run
from bertlite_jax.errors import UserError

SHAPES = {name: value for name, value in vars(presets).items() if isinstance(value, Model)}


@pytest.mark.parametrize("name", SHAPES)
def test_a_published_shape_is_far_from_every_bound(name):
    shape = SHAPES[name]
    larger = {
        field.name: 30 * getattr(shape, field.name)
        for field in dataclasses.fields(shape)
        if isinstance(getattr(shape, field.name), int) and not isinstance(getattr(shape, field.name), bool)
    }
    checks.check_numbers(dataclasses.replace(shape, **larger), "model")


@pytest.mark.parametrize("config", [Pretrain(), Finetune()], ids=["pretrain", "finetune"])
def test_the_defaults_are_within_their_bounds(config):
    for field in dataclasses.fields(config):
        checks.check_numbers(getattr(config, field.name), field.name)


@pytest.mark.parametrize(
    ("group", "name", "message"),
    [
        (Run(steps=2**31), "run", "run.steps = 2147483648 is too large; at most 2,147,483,647"),
        (Run(keep_every=-(2**31)), "run", "run.keep_every = -2147483648 is too small; at least -2,147,483,647"),
        (Run(depths=((3, 10**11),)), "run", "run.depths = ((3, 100000000000),) is too large"),
        (Optim(epsilon=float("inf")), "optim", "optim.epsilon = inf must be a finite number"),
        (Optim(learning_rate=1e31), "optim", "optim.learning_rate = 1e+31 is too large; at most 1e+30"),
        (Data(weights=(1.0, float("nan"))), "data", "data.weights = (1.0, nan) must be a finite number"),
        (Run(steps=10**5000), "run", "run.steps = a number of about 4,98"),
    ],
)
def test_a_number_beyond_is_named(group, name, message):
    with pytest.raises(UserError) as refused:
        checks.check_numbers(group, name)
    assert f"config: {message}" in str(refused.value)


def test_sizes_of_corpora_in_tokens_are_good_weights():
    checks.check_numbers(Data(weights=(3_000_000_000, 1)), "data")


def test_what_is_shown_is_short():
    assert bounds.shown("a" * 1000) == f"'{'a' * 59}... (1,002 characters)"
    assert bounds.shown([10**5000]) == "a list of numbers with thousands of digits"
    assert bounds.shown({"a": 1}) == "{'a': 1}"
