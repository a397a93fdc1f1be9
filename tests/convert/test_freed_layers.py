"""What single layers have to themselves goes through every export: small pairs beside one matrix, or written out."""

import dataclasses
import json
import pathlib

import numpy as np
import onnx
import pytest
import thorough
from int8_examples import MODEL, trained_like, write_text
from onnx_examples import batch_of, drawn, flax_answer

from bertlite_jax.config.int8 import Int8Options
from bertlite_jax.config.model import Model
from bertlite_jax.convert import bundle, sources
from bertlite_jax.convert.int8 import convert
from bertlite_jax.convert.onnx import folder
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.graph import size_bytes
from bertlite_jax.convert.onnx.integer import integer_products, per_token
from bertlite_jax.convert.onnx.model import build_onnx, draw
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights import quantized
from bertlite_jax.convert.weights.folder import save_weights
from bertlite_jax.model import int8_encoder

FREE = dataclasses.replace(
    MODEL,
    share="all",
    num_layers=4,
    max_positions=64,
    own_norms=True,
    depth_vector=True,
    low_rank=2,
    own_last=1,
    residual_scale="depth",
)
BATCH = batch_of(FREE, [5, 9])
REAL = BATCH["attention_mask"] > 0


def test_an_onnx_file_has_one_matrix_and_a_pair_for_each_layer_that_shares():
    model = Model(vocab_size=1000, low_rank=8)
    plain, paired = (size_bytes(draw(drawn(m), float32(drawn(m)))) for m in (Model(vocab_size=1000), model))
    assert paired - plain == 4 * 737_280


@pytest.mark.parametrize("bits", thorough.but([8], [7, 8]))
def test_integers_multiply_what_is_shared_and_floats_the_pairs(bits, tmp_path: pathlib.Path):
    """Through its file: the container and JAX answer nearly like float, and so does ONNX with the same integers.

    Products of 8-bit weights saturate in ONNX Runtime on CPUs without VNNI, so its answers are compared with 7 bits.
    """
    weights = drawn(FREE)
    quantized.save(quantized.quantize(weights, bits=bits), tmp_path / quantized.FILE)
    container = quantized.load(tmp_path / quantized.FILE)
    pairs = {path for path in container.floats if "/low_rank/" in path}
    assert len(pairs) == 3 * 4
    assert not any("/low_rank/" in path for path in container.integers)
    built = build_onnx(weights, per_token(container))
    assert integer_products(built) == 4 * 6 + 1 + 1 + 1
    ids = (np.asarray(value, np.int32) for value in BATCH.values())
    ours = np.asarray(int8_encoder.answer(quantized.jax_params(container), container.model, None, *ids)["logits"])[REAL]
    exact = flax_answer(weights, BATCH)["logits"][REAL]
    assert np.sqrt(np.mean((ours - exact) ** 2)) < 0.05 * np.std(exact)
    if bits == 7:
        theirs = run_session(open_session(built.SerializeToString()), BATCH)["logits"][REAL]
        np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("options", [{"fit": True, "auto": 1}, {"activations": "static"}], ids=["per token", "static"])
def test_the_int8_job_takes_such_a_model(options: dict, tmp_path: pathlib.Path):
    weights, text = trained_like(tmp_path, FREE), write_text(tmp_path)
    convert.int8(weights, tmp_path / "out", [text], Int8Options(max_drop=1, rows=16, length=16, **options))
    built = onnx.load_model(tmp_path / "out" / folder.QUANTIZED)
    assert 20 < integer_products(built) <= 27
    assert sum("low_rank" in made.name for made in built.graph.node) == 3 * 4


def test_a_bundle_and_an_onnx_folder_say_what_the_model_has(tmp_path: pathlib.Path):
    """No class of transformers has the vector; without it there is one, with a group for each layer."""
    weights = trained_like(tmp_path, FREE)
    bundle.write_bundle(weights, tmp_path / "bundle")
    folder.write(weights, tmp_path / "onnx")
    stated = json.loads((tmp_path / "onnx" / "config.json").read_text())
    assert stated["model_type"] == "bertlite"
    assert stated["bertlite_model"]["low_rank"] == 2
    without = dataclasses.replace(weights.model, depth_vector=False)
    stated = folder.config(dataclasses.replace(weights, model=without))
    assert (stated["model_type"], stated["num_hidden_groups"]) == ("albert", 4)


def test_a_folder_of_our_own_keeps_the_parts_apart(tmp_path: pathlib.Path):
    weights = dataclasses.replace(drawn(FREE), tokenizer=None)
    save_weights(weights, tmp_path / "out")
    read = sources.load(tmp_path / "out")
    assert read.model == FREE
    np.testing.assert_array_equal(flax_answer(read, BATCH)["logits"], flax_answer(weights, BATCH)["logits"])
