"""The encoder that comes with the package: whole, small, and there by its name."""

import re

import numpy as np
import pytest

from bertlite_jax.convert import sources
from bertlite_jax.convert.weights import parameters, quantized, reference_models
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining.fill_mask import bare, fill_mask

NAME = "reference-en"
FOLDER = reference_models.FOLDER / NAME


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


def test_it_fills_masks_with_english_words():
    (guesses,) = fill_mask(NAME, "He went [MASK] the house.", top=3)
    assert "to" in [bare(piece) for piece, _ in guesses]


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
