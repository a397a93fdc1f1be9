"""The encoder that comes with the package: whole, small, and there by its name."""

import dataclasses
import re

import numpy as np
import pytest
from run_files import lines_of

from bertlite_jax import reference_models
from bertlite_jax.config import files
from bertlite_jax.config.ablation.grid import Grid
from bertlite_jax.config.effects import replaced
from bertlite_jax.config.pretrain import Run
from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.distilling.distill import distill
from bertlite_jax.jobs.pretraining.fill_mask import bare, fill_mask
from bertlite_jax.jobs.text.corpus import build_corpus

NAME = "reference-en"
FOLDER = reference_models.FOLDER / NAME
NOVEL = reference_models.FOLDER.parent / "quickstart_text" / "alice_in_wonderland.txt.zst"


def test_its_folder_has_the_card_the_weights_and_the_tokenizer_in_six_megabytes():
    assert reference_models.NAMES == (NAME,)
    files = {path.relative_to(FOLDER).as_posix(): path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()}
    assert files.keys() >= {"README.md", quantized.FILE, "tokenizer/spiece.model"}
    assert sum(files.values()) <= 6_000_000


def test_it_is_there_by_its_name_unless_a_folder_of_the_user_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sources.folder_of(NAME, "embed") == FOLDER
    (tmp_path / NAME).mkdir()
    assert sources.folder_of(NAME, "embed").resolve() == tmp_path / NAME
    with pytest.raises(UserError, match=f"embed: {NAME} is neither a run's work directory"):
        sources.load(NAME, "embed")


def test_a_name_that_it_has_not_is_refused_with_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"finetune: reference-fr does not exist; .* or {NAME}$"):
        sources.check_there("reference-fr", "finetune")


def test_its_tokenizer_is_there_by_its_name_too():
    tokenizer = load_tokenizer(NAME)
    assert tokenizer.hash == load_tokenizer(FOLDER / "tokenizer").hash
    assert tokenizer.decode(tokenizer.encode("She looked at the door.")) == "she looked at the door."


def test_it_fills_masks_with_english_words():
    (guesses,) = fill_mask(NAME, "He went [MASK] the house.", top=3)
    assert "to" in [bare(piece) for piece, _ in guesses]


@pytest.mark.thorough
def test_it_teaches_a_student_which_predicts_as_it_does_while_nothing_is_learnt(tmp_path):
    build_corpus([str(NOVEL)], NAME, str(tmp_path / "corpus"), CorpusOptions(length=128))
    grid = files.load_file("ablate_distilbert")
    assert isinstance(grid, Grid)
    base = replaced(grid.base, "model.num_layers", sources.load(NAME).model.num_layers)
    data = dataclasses.replace(base.data, corpus=(str(tmp_path / "corpus"),), tokenizer=NAME, batch_rows=8)
    model, optim = dataclasses.replace(base.model, compute="float32"), dataclasses.replace(base.optim, warmup_steps=1)
    run = Run(steps=2, log_every=1, eval_every=2, eval_rows=4, checkpoint_every=2)
    distill(dataclasses.replace(base, model=model, data=data, optim=optim, run=run), str(tmp_path / "run"))
    first, *_ = lines_of(tmp_path / "run")
    assert first["soft_loss"] == pytest.approx(0, abs=1e-5)
    assert first["cosine_loss"] == pytest.approx(0, abs=1e-5)
    assert load_tokenizer(tmp_path / "run").hash == load_tokenizer(NAME).hash


def test_a_file_of_integers_that_is_made_of_it_has_its_integers():
    """Rounding what is rounded changes nothing: `convert int8 --bits 8 reference-en` writes what was measured."""
    container = quantized.load(FOLDER / quantized.FILE)
    again = quantized.quantize(sources.load(NAME), bits=container.bits)
    assert again.integers.keys() == container.integers.keys()
    for name, integers in container.integers.items():
        np.testing.assert_array_equal(again.integers[name], integers, err_msg=name)


def test_the_card_states_the_licence_and_the_parameters():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^license: cc-by-sa-3.0$", card, re.MULTILINE)
    flat = parameters.flatten(sources.load(NAME).params)
    assert f"{sum(value.size for value in flat.values()):,} parameters" in card
