"""Bort's encoder, read from a folder of transformers, against one in NumPy that takes tensors by their names there."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
import pytest
from huggingface_examples import HEADLESS, random_params
from scipy.special import erf

from bertlite_jax.config.model import Model
from bertlite_jax.convert.huggingface.folder import from_hf, to_hf
from bertlite_jax.convert.huggingface.weight_files import read_tensors
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.model.heads import PretrainingModel

BORT = dataclasses.replace(HEADLESS, norm_epsilon=1e-5, ffn_size=24)
"""Its feed-forward layer is narrower than its states, as in the released shape <4,8,1024,768>."""
IDS = np.random.default_rng(0).integers(5, 200, (2, 24)).astype(np.int32)


def states_by_hand(tensors: dict[str, np.ndarray], heads: int) -> np.ndarray:
    """Post-norm layers of Vaswani et al. 2017 with positions from 0, in float64: last states [B, L, D]."""
    t = {name.removeprefix("bert."): np.asarray(value, np.float64) for name, value in tensors.items()}

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * t[f"{name}.weight"] + t[f"{name}.bias"]

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)

    places = t["embeddings.position_embeddings.weight"][: IDS.shape[1]]
    x = t["embeddings.word_embeddings.weight"][IDS] + places + t["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    layers = 1 + max(int(name.split(".")[2]) for name in t if name.startswith("encoder.layer."))
    for at in (f"encoder.layer.{number}" for number in range(layers)):
        q, k, v = (split(dense(x, f"{at}.attention.self.{name}")) for name in ("query", "key", "value"))
        scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1])
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(x.shape)
        x = norm(x + dense(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        inner = dense(x, f"{at}.intermediate.dense")
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        x = norm(x + dense(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return x


def check(folder: pathlib.Path) -> Model:
    """Compares the last states; returns the model that was read."""
    read = from_hf(folder)
    ones, positions = np.ones_like(IDS), np.broadcast_to(np.arange(IDS.shape[1], dtype=np.int32), IDS.shape)
    states: Any = PretrainingModel(read.model, "float32").apply(
        {"params": read.params}, IDS, ones, positions, 0 * ones, method="hidden_states"
    )
    wanted = states_by_hand(read_tensors(folder), read.model.num_heads)
    np.testing.assert_allclose(np.asarray(states[-1]), wanted, atol=1e-4)
    return read.model


def test_a_small_bort_computes_what_its_tensors_say(tmp_path):
    to_hf(Weights(random_params(BORT), BORT), tmp_path / "hf")
    assert check(tmp_path / "hf").ffn_size == 24


def test_the_released_bort_computes_what_its_tensors_say():
    """4 layers, 8 heads, 1024 wide, 768 in the feed-forward layer, 512 positions from 0: alexa/bort, bort/bort.py."""
    folder = os.environ.get("BERTLITE_BORT", "")
    if not folder:
        pytest.skip("needs config.json and the weights of amazon/bort; set BERTLITE_BORT to their folder")
    model = check(pathlib.Path(folder))
    assert (model.num_layers, model.num_heads, model.hidden_size, model.ffn_size) == (4, 8, 1024, 768)
    assert (model.vocab_size, model.max_positions) == (50_265, 512)
