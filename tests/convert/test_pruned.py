"""A model of which heads, neurons and layers were taken goes through every export that has a place for it."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import onnx
import pytest
from int8_examples import MODEL, trained_like, write_text
from onnx_examples import batch_of, drawn, flax_answer

from bertlite_jax.config.int8 import Int8Options
from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert import bundle, sources
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.int8 import convert
from bertlite_jax.convert.onnx import folder
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.integer import integer_products, per_token
from bertlite_jax.convert.onnx.model import build_onnx
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import save_weights
from bertlite_jax.errors import UserError
from bertlite_jax.model import int8_encoder

HEAD = Head("classify", ("no", "yes"))
UNEVEN = dataclasses.replace(
    MODEL, num_layers=4, num_heads=4, share="none", pruned_heads=(3, 0, 1, 4), pruned_ffn=(5, 7, 0, 1)
)
SHARED: dict[str, Any] = {"share": "all", "share_groups": 2, "pruned_heads": (1, 3), "pruned_ffn": (9, 4)}
SHAPES = [
    UNEVEN,
    dataclasses.replace(UNEVEN, norm="pre", activation="relu"),
    dataclasses.replace(UNEVEN, **SHARED),
    dataclasses.replace(UNEVEN, **SHARED, own_norms=True, depth_vector=True),
]


def batch_for(model: Model) -> dict[str, np.ndarray]:
    return batch_of(model, [5, 9, 1], pair=True)


@pytest.mark.parametrize("model", SHAPES, ids=["uneven", "pre-LN", "groups", "groups with own norms"])
def test_an_onnx_file_answers_as_flax(model: Model):
    weights, batch = drawn(model, HEAD), batch_for(model)
    session = open_session(build_onnx(weights, float32(weights)).SerializeToString(), threads=1)
    wanted = flax_answer(weights, batch)["logits"][:, 0]
    np.testing.assert_allclose(run_session(session, batch)["logits"], wanted, atol=1e-4)


@pytest.mark.parametrize("model", [UNEVEN, dataclasses.replace(UNEVEN, **SHARED)], ids=["uneven", "groups"])
def test_integers_answer_in_jax_as_in_onnx_and_nearly_as_floats(model: Model, tmp_path: pathlib.Path):
    """Through the container's file. A layer without heads or neurons has fewer products: 4 and 2 less."""
    weights, batch = drawn(model, HEAD), batch_for(model)
    quantized.save(quantized.quantize(weights), tmp_path / quantized.FILE)
    container = quantized.load(tmp_path / quantized.FILE)
    built = build_onnx(weights, per_token(container))
    assert integer_products(built) == 4 * 6 + 3 - (6 if model == UNEVEN else 0)
    ids = (np.asarray(value, np.int32) for value in batch.values())
    ours = int8_encoder.answer(quantized.jax_params(container), container.model, HEAD, *ids)["logits"]
    theirs = run_session(open_session(built.SerializeToString()), batch)["logits"]
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    exact = flax_answer(weights, batch)["logits"][:, 0]
    assert np.abs(theirs - exact).max() < 0.1 * np.abs(exact).max()
    back = flax_answer(dataclasses.replace(quantized.to_weights(container)), batch)["logits"][:, 0]
    np.testing.assert_allclose(back, exact, atol=0.1 * np.abs(exact).max())


def test_the_int8_job_takes_such_a_model(tmp_path: pathlib.Path):
    weights, text = trained_like(tmp_path, UNEVEN, HEAD), write_text(tmp_path)
    convert.int8(weights, tmp_path / "out", [text], Int8Options(max_drop=1, rows=16, length=16, auto=1))
    assert integer_products(onnx.load_model(tmp_path / "out" / folder.QUANTIZED)) > 10


def test_a_folder_of_our_own_holds_no_more_than_what_stays(tmp_path: pathlib.Path):
    weights = dataclasses.replace(drawn(UNEVEN, HEAD), tokenizer=None)
    save_weights(weights, tmp_path / "out")
    read, batch = sources.load(tmp_path / "out"), batch_for(UNEVEN)
    assert read.model == UNEVEN
    np.testing.assert_array_equal(flax_answer(read, batch)["logits"], flax_answer(weights, batch)["logits"])
    kernels = [value for path, value in parameters.flatten(read.params).items() if path.startswith("layers/")]
    D, K = UNEVEN.hidden_size, UNEVEN.head_size
    heads, neurons = 3 + 0 + 1 + 4, 5 + 7 + 0 + 1
    assert sum(value.size for value in kernels if value.ndim == 2) == 4 * D * K * heads + 2 * D * neurons


def test_a_bundle_and_an_onnx_folder_say_what_the_model_has(tmp_path: pathlib.Path):
    weights = trained_like(tmp_path, UNEVEN, HEAD)
    bundle.write_bundle(weights, tmp_path / "bundle")
    folder.write(weights, tmp_path / "onnx")
    stated = json.loads((tmp_path / "onnx" / "config.json").read_text())
    assert stated["model_type"] == "bertlite"
    assert stated["bertlite_model"]["pruned_heads"] == [3, 0, 1, 4]


def test_transformers_has_no_place_for_it_and_onnx_has(tmp_path: pathlib.Path):
    with pytest.raises(UserError, match=r"convert: to-hf: no class of transformers.*bertlite convert onnx"):
        to_hf(drawn(UNEVEN, HEAD), tmp_path / "out")
    assert not (tmp_path / "out").exists()
