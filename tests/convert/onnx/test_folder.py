"""A folder with an ONNX model has the files that other tools look for, and it is complete or absent."""

import dataclasses
import json
import logging
import pathlib
import re

import pytest
from onnx_examples import TINY, drawn

from bertlite_jax.config.model import Head
from bertlite_jax.convert.onnx import folder
from bertlite_jax.convert.onnx.session import open_session
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.errors import UserError


@pytest.fixture(scope="module")
def weights(prepared) -> Weights:
    """Of a model with a tokenizer of 300 pieces."""
    tokenizer = load_tokenizer(prepared.tokenizer)
    made = drawn(dataclasses.replace(TINY, vocab_size=tokenizer.vocab_size, num_layers=2))
    return dataclasses.replace(made, tokenizer=tokenizer)


def with_head(weights: Weights, head: Head, **changes) -> Weights:
    model = dataclasses.replace(weights.model, pair_classes=0, pooler=head.pooled, **changes)
    return dataclasses.replace(drawn(model, head), tokenizer=weights.tokenizer)


def test_the_folder_has_the_names_of_the_ecosystem(weights: Weights, tmp_path: pathlib.Path):
    size = folder.write(weights, tmp_path / "out")
    assert (tmp_path / "out/onnx/model.onnx").stat().st_size == size
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "README.md", "onnx"} <= names
    assert json.loads((tmp_path / "out/config.json").read_text())["architectures"] == ["AlbertForMaskedLM"]


def test_the_code_in_the_card_answers(weights: Weights, tmp_path: pathlib.Path, monkeypatch, capsys):
    """It needs onnxruntime, tokenizers and numpy."""
    folder.write(weights, tmp_path / "out")
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "out/README.md").read_text(), re.DOTALL)
    assert set(re.findall(r"import (.*)", code)) == {"numpy, onnxruntime, tokenizers"}
    monkeypatch.chdir(tmp_path / "out")
    exec(code, {})  # what a reader would do
    assert "array" in capsys.readouterr().out


def test_labels_are_in_the_config_and_in_the_card(weights: Weights, tmp_path: pathlib.Path):
    tagger = with_head(weights, Head("tag", ("O", "B-per", "I-per")))
    folder.write(tagger, tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architectures"] == ["AlbertForTokenClassification"]
    assert config["id2label"] == {"0": "O", "1": "B-per", "2": "I-per"}
    assert '["O", "B-per", "I-per"]' in (tmp_path / "out/README.md").read_text()


def test_states_are_described_as_the_base_model(weights: Weights):
    assert folder.config(weights, "states")["architectures"] == ["AlbertModel"]


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        (Head("classify", ("bad", "good")), {"norm": "pre"}),
        (Head("classify", ("bad", "good"), hidden=(8,)), {}),
        (Head("classify", ("bad", "good")), {"share": "attention"}),
    ],
    ids=["pre-norm", "hidden layer", "attention shared, with a projection"],
)
def test_what_no_class_of_transformers_holds_is_written_with_a_config_of_our_own(
    weights: Weights, head: Head, changes: dict, tmp_path: pathlib.Path
):
    folder.write(with_head(weights, head, **changes), tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["model_type"] == "bertlite"
    assert config["id2label"] == {"0": "bad", "1": "good"}
    assert config["problem_type"] == "single_label_classification"
    assert (tmp_path / "out/tokenizer.json").is_file()


def test_without_a_tokenizer_the_card_and_the_log_say_so(tmp_path: pathlib.Path, caplog):
    with caplog.at_level(logging.WARNING):
        folder.write(drawn(), tmp_path / "out")
    assert "have no tokenizer" in caplog.text
    assert "without a tokenizer" in (tmp_path / "out/README.md").read_text()
    assert not (tmp_path / "out/tokenizer.json").exists()


def test_a_tokenizer_of_another_vocabulary_is_refused(weights: Weights, tmp_path: pathlib.Path):
    other = dataclasses.replace(drawn(), tokenizer=weights.tokenizer)
    with pytest.raises(UserError, match=r"300 pieces and model.vocab_size is 45"):
        folder.write(other, tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_a_folder_is_replaced_only_when_asked_and_only_an_earlier_export(tmp_path: pathlib.Path):
    folder.write(drawn(), tmp_path / "out")
    with pytest.raises(UserError, match="--overwrite"):
        folder.write(drawn(), tmp_path / "out")
    folder.write(drawn(), tmp_path / "out", overwrite=True, output="states")
    session = open_session(tmp_path / "out" / folder.MODEL)
    assert session.get_outputs()[0].name == "last_hidden_state"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(UserError, match="no earlier output"):
        folder.write(drawn(), tmp_path / "mine", overwrite=True)


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: pathlib.Path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(UserError, match="out cannot be written: No space left"):
        folder.write(drawn(), tmp_path / "out")
    assert not any(tmp_path.iterdir())
