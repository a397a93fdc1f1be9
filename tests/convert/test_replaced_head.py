"""The head for replaced tokens is for training alone: no export has it, and folders of our own keep it."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import thorough
from export_targets import TARGETS, files_of
from int8_examples import MODEL, trained_like, write_text
from onnx_examples import drawn

from bertlite_jax.convert import sources
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights, save_weights

WITH_HEAD = dataclasses.replace(MODEL, share="all", num_layers=3, max_positions=64, replaced_head=True)


def without_head(weights: Weights) -> Weights:
    params = {name: part for name, part in weights.params.items() if name != "replaced"}
    return dataclasses.replace(weights, params=params, model=dataclasses.replace(weights.model, replaced_head=False))


@pytest.mark.parametrize("target", thorough.but([target for target in TARGETS if "int8" not in target], TARGETS))
def test_an_export_is_to_the_byte_that_of_the_model_without_the_head(target: str, tmp_path: pathlib.Path):
    """Only the card for transformers says that there was one."""
    weights, text = trained_like(tmp_path, WITH_HEAD), write_text(tmp_path)
    assert set(weights.params["replaced"]) == {"dense", "output"}
    ours = files_of(target, weights, tmp_path / "with", text)
    theirs = files_of(target, without_head(weights), tmp_path / "without", text)
    cards = [files.pop("out/README.md", b"").decode() for files in (ours, theirs)]
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert ("The head that says which tokens were replaced is left out" in cards[0]) == target.startswith("to-hf")
    assert "replaced" not in cards[1]


def test_a_folder_of_our_own_keeps_it(tmp_path):
    weights = dataclasses.replace(drawn(WITH_HEAD), tokenizer=None)
    save_weights(weights, tmp_path / "out")
    read = sources.load(tmp_path / "out")
    assert read.model == WITH_HEAD
    wanted = parameters.flatten(weights.params)
    for path, value in parameters.flatten(read.params).items():
        np.testing.assert_array_equal(value, wanted[path])


def test_a_folder_of_an_older_version_has_none(tmp_path):
    """Its config.json does not know the field; nor has it the sum of its fields."""
    weights = dataclasses.replace(drawn(dataclasses.replace(WITH_HEAD, replaced_head=False)), tokenizer=None)
    save_weights(weights, tmp_path / "out")
    stated = json.loads((tmp_path / "out" / "config.json").read_text())
    del stated["model"]["replaced_head"], stated["sha256_of_description"]
    (tmp_path / "out" / "config.json").write_text(json.dumps(stated))
    assert sources.load(tmp_path / "out").model == weights.model


def test_quantised_weights_have_no_head():
    container = quantized.quantize(drawn(WITH_HEAD))
    assert container.model == WITH_HEAD.exported
    assert not container.model.replaced_head
    assert not [path for path in (*container.integers, *container.floats) if path.startswith("replaced")]
