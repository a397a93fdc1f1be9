"""A recipe that leaves vocabulary and positions open trains with those of its tokenizer and its rows."""

import dataclasses

import pytest

from bertlite_jax.config import files
from bertlite_jax.config.model import Model
from bertlite_jax.config.pretrain import Data, Optim, Pretrain, Run
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining.pretrain import pretrain

pytestmark = pytest.mark.usefixtures("compiled_once")


def recipe(prepared, vocab_size: int, max_positions: int) -> Pretrain:
    return Pretrain(
        model=Model(
            vocab_size=vocab_size,
            embed_size=16,
            hidden_size=32,
            num_layers=2,
            num_heads=2,
            ffn_size=64,
            max_positions=max_positions,
            compute="float32",
        ),
        data=Data(corpus=(prepared.corpus,), tokenizer=prepared.tokenizer, length=64, batch_rows=8),
        optim=Optim(warmup_steps=0),
        run=Run(steps=1, eval_every=0, eval_rows=8, devices=1, tensorboard=False),
    )


@pytest.mark.thorough
def test_what_is_stored_are_numbers_and_the_same_command_resumes(prepared, tmp_path):
    """The corpus has rows of 64 and its tokenizer 300 pieces."""
    run = tmp_path / "run"
    summary = pretrain(recipe(prepared, 0, 0), str(run))
    stored = files.read_json(run / "config.json")
    assert stored == recipe(prepared, 300, 64)
    assert pretrain(recipe(prepared, 0, 0), str(run))["valid_mlm_loss"] == summary["valid_mlm_loss"]
    assert files.read_json(run / "config.json") == stored


@pytest.mark.thorough
def test_a_run_begun_with_numbers_resumes_with_and_without_them(prepared, tmp_path):
    begun = dataclasses.replace(recipe(prepared, 300, 64), run=dataclasses.replace(recipe(prepared, 0, 0).run, steps=2))
    pretrain(begun, str(tmp_path / "run"))
    left_open = dataclasses.replace(begun, model=dataclasses.replace(begun.model, vocab_size=0, max_positions=0))
    for config in (begun, left_open):
        assert pretrain(config, str(tmp_path / "run"))["steps"] == 2
    longer = dataclasses.replace(begun, model=dataclasses.replace(begun.model, vocab_size=0, max_positions=96))
    with pytest.raises(UserError, match=r"model.max_positions: 64 -> 96"):
        pretrain(longer, str(tmp_path / "run"))


def test_a_number_that_disagrees_is_refused(prepared, tmp_path):
    with pytest.raises(UserError, match=r"pass --model.vocab-size 300, or 0 for as many as it has"):
        pretrain(recipe(prepared, 301, 0), str(tmp_path / "run"))
    open_vocabulary = recipe(prepared, 0, 0)
    split = dataclasses.replace(open_vocabulary, model=dataclasses.replace(open_vocabulary.model, num_heads=8))
    split = dataclasses.replace(split, run=dataclasses.replace(split.run, devices=8, tensor=8))
    with pytest.raises(UserError, match=r"run.tensor = 8 must divide the vocabulary of 300"):
        pretrain(split, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
