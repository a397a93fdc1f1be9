"""ONNX Runtime opens the file, fuses the patterns that are faster fused, and returns outputs by name."""

import dataclasses
import pathlib

import numpy as np
import pytest
from onnx_examples import TINY, batch_of, drawn

from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.model import build_onnx
from bertlite_jax.convert.onnx.session import fused, open_session, run_session
from bertlite_jax.errors import UserError


@pytest.fixture(scope="module")
def model() -> bytes:
    weights = drawn()
    return build_onnx(weights, float32(weights)).SerializeToString()


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("gelu_tanh", {"Sigmoid": 5}), ("gelu_erf", {"Gelu": 5}), ("relu", {"FusedGemm": 5})],
)
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_activations_and_scaled_scores_take_their_fastest_form(kind: str, wanted: dict[str, int], norm: str):
    """Four layers and the masked-LM head have an activation; four layers scale their scores in the product.

    The tanh form of GELU is a sigmoid, which stays as it is.
    """
    weights = drawn(dataclasses.replace(TINY, activation=kind, norm=norm))
    found = fused(build_onnx(weights, float32(weights)).SerializeToString())
    assert wanted | {"FusedMatMul": 4} == {op: found.get(op) for op in (*wanted, "FusedMatMul")}
    assert not {"Erf", "Tanh", "Relu", "Pow"} & set(found)


@pytest.mark.parametrize("kind", ["gelu_tanh", "gelu_erf", "relu"])
def test_the_fusions_that_are_slower_on_a_cpu_are_not_found(kind: str):
    weights = drawn(dataclasses.replace(TINY, activation=kind))
    found = fused(build_onnx(weights, float32(weights)).SerializeToString())
    assert not {"SkipLayerNormalization", "EmbedLayerNormalization", "BiasGelu", "FastGelu", "Attention"} & set(found)
    assert found["LayerNormalization"] == 10  # embeddings, two a layer, masked-LM head


def test_answers_come_by_name_for_ids_of_any_width(model: bytes):
    session, batch = open_session(model, threads=1), batch_of(TINY, [6])
    small = {name: value.astype(np.int32) for name, value in batch.items()} | {"special_tokens_mask": [[0] * 6]}
    found = run_session(session, small)
    assert list(found) == ["logits"]
    np.testing.assert_array_equal(found["logits"], run_session(session, batch)["logits"])


def test_the_optimised_graph_can_be_kept_and_gives_the_same(model: bytes, tmp_path: pathlib.Path):
    batch, path = batch_of(TINY, [6]), tmp_path / "optimised.onnx"
    first = run_session(open_session(model, optimized_to=path), batch)
    again = run_session(open_session(path), batch)
    np.testing.assert_allclose(again["logits"], first["logits"], atol=1e-6)


def test_a_missing_file_is_one_line(tmp_path: pathlib.Path):
    with pytest.raises(UserError, match=r"none\.onnx is missing, damaged or no ONNX file"):
        open_session(tmp_path / "none.onnx")


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b"a text file"])
def test_a_damaged_file_is_one_line(model: bytes, damage, tmp_path: pathlib.Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(damage(model))
    with pytest.raises(UserError, match="damaged") as caught:
        open_session(path)
    assert "\n" not in str(caught.value)
