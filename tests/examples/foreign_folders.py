"""Small folders of transformers whose tensors and configs a test can change."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import safetensors.numpy
import tiny

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.huggingface.folder import from_hf, to_hf
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.errors import UserError

ALBERT = tiny.model(vocab_size=41, embed_size=4, hidden_size=8, num_layers=2, ffn_size=12)
BERT = tiny.model(vocab_size=41, hidden_size=8, num_layers=2, ffn_size=12, share="none", activation="gelu_erf")
DISTILBERT = tiny.model(
    vocab_size=41, hidden_size=8, num_layers=2, ffn_size=12, share="none", activation="gelu_erf", token_types=0,
    pooler=False, pair_classes=0,
)  # fmt: skip
MODELS = {"albert": ALBERT, "bert": BERT, "distilbert": DISTILBERT}


def drawn(model: Model, head: Head | None = None) -> Weights:
    """Random weights of a model."""
    draw = np.random.default_rng(0)
    flat = {path: draw.normal(size=shape).astype(np.float32) for path, shape in parameters.shapes(model, head).items()}
    return Weights(parameters.nest(flat), model, head)


def classifier(labels: tuple[str, ...] = ("no", "yes", "maybe")) -> Weights:
    """A BERT with a classifier."""
    return drawn(dataclasses.replace(BERT, pair_classes=0), Head("classify", labels))


class Folder:
    """A folder of transformers whose tensors and config can be changed."""

    def __init__(self, path: pathlib.Path, weights: Weights):
        to_hf(weights, path)
        self.path = path
        self.tensors = safetensors.numpy.load_file(path / "model.safetensors")
        self.config = json.loads((path / "config.json").read_text())

    def write(self) -> pathlib.Path:
        """Writes the changes; gives the folder."""
        safetensors.numpy.save_file(self.tensors, self.path / "model.safetensors", metadata={"format": "pt"})
        (self.path / "config.json").write_text(json.dumps(self.config))
        return self.path

    def refused(self, **choices) -> str:
        """Writes the changes; gives the one line with which the folder is refused."""
        with pytest.raises(UserError) as caught:
            from_hf(self.write(), **choices)
        assert "\n" not in str(caught.value)
        return str(caught.value)


def same(found: Weights, wanted: Weights) -> None:
    """Compares all parameters bit for bit."""
    ours, theirs = parameters.flatten(found.params), parameters.flatten(wanted.params)
    assert ours.keys() == theirs.keys()
    for path, value in theirs.items():
        np.testing.assert_array_equal(ours[path], value, err_msg=path)
