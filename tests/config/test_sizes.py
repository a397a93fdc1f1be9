"""Sizes that a recipe leaves open as 0: from the tokenizer and the rows, or as published, or refused."""

import dataclasses
import pathlib
import runpy

import pytest

from bertlite_jax.config import checks, presets
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Pretrain, Run
from bertlite_jax.config.sizes import published_sizes, resolve_sizes
from bertlite_jax.errors import UserError

CONFIGS = sorted((pathlib.Path(__file__).resolve().parents[2] / "configs").glob("*.py"))
OPEN = Model(vocab_size=0, max_positions=0)


def test_open_sizes_follow_the_tokenizer_and_the_rows():
    model = resolve_sizes(Pretrain(model=OPEN, data=Data(length=64)), 2000).model
    assert (model.vocab_size, model.max_positions) == (2000, 64)


def test_given_sizes_stay():
    config = Pretrain(model=Model(vocab_size=300, max_positions=96), data=Data(length=64))
    assert resolve_sizes(config, 2000) == config
    assert published_sizes(config) == config


@pytest.mark.parametrize(
    "preset",
    [presets.ALBERT_TINY, presets.ALBERT_XXLARGE, presets.BERT_MINI, presets.DISTILBERT, presets.BORT],
)
def test_without_a_tokenizer_the_published_vocabulary_counts(preset):
    """Whatever the number of layers, the dropout and how it is computed."""
    changed = dataclasses.replace(
        preset, vocab_size=0, num_layers=2, hidden_dropout=0.2, compute="float32", remat="full", unroll=True
    )
    assert published_sizes(Pretrain(model=changed)).model.vocab_size == preset.vocab_size


def test_a_shape_that_nobody_published_needs_a_number():
    with pytest.raises(UserError, match=r"--data.tokenizer DIR, or a number with --model.vocab-size 30000"):
        published_sizes(Pretrain(model=dataclasses.replace(OPEN, hidden_size=60)))


def test_every_recipe_takes_its_vocabulary_from_the_tokenizer():
    """And those that can be costed without one state the published number."""
    recipes = {path.stem: runpy.run_path(str(path))["config"] for path in CONFIGS}
    pretraining = {name: config for name, config in recipes.items() if isinstance(config, Pretrain)}
    assert len(pretraining) == 21
    own = {"debug_cpu", "deep_shared", "deep_shared_fast", "distil_minilm", "distil_tinybert", "reference_en"}
    for name, config in pretraining.items():
        assert config.model.vocab_size == 0
        if name not in own | {"search_bort", "search_debug"}:
            model = published_sizes(config).model
            assert model.residual_scale == ("depth" if name in ("albert_tiny", "albert_small") else "published")
            assert dataclasses.replace(model, residual_scale="published") in vars(presets).values()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Pretrain(model=Model(vocab_size=-1)), "model.vocab_size = -1 cannot be negative"),
        (Pretrain(model=Model(max_positions=-1)), "model.max_positions = -1 cannot be negative"),
        (Pretrain(model=Model(vocab_size=5)), "model.vocab_size = 5 has no room for more than the five special pieces"),
        (Pretrain(model=Model(vocab_size=30_522), run=Run(tensor=4)), "pass --model.vocab-multiple 4"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        checks.check_pretrain(config)


def test_open_sizes_pass_the_checks_of_a_recipe_but_not_those_of_a_model():
    checks.check_pretrain(Pretrain(model=OPEN, run=Run(tensor=4)))
    with pytest.raises(UserError, match=r"model.vocab_size = 0 must be positive"):
        checks.check_model(OPEN)
