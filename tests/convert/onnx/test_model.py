"""The ONNX model gives the same answers as Flax for every shape, head, length and padding."""

import dataclasses
import itertools
import json
import math

import numpy as np
import onnx
import pytest
import thorough
from onnx_examples import TINY, batch_of, drawn, flax_answer

from bertlite_jax.config import presets
from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.onnx import graph
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.graph import save_onnx
from bertlite_jax.convert.onnx.model import Output, build_onnx, draw
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.errors import UserError

HEADS = {
    "classify": Head("classify", ("no", "yes")),
    "three": Head("classify", ("a", "b", "c"), hidden=(24, 8)),
    "relu": Head("classify", ("a", "b"), hidden=(24,), activation="relu"),
    "multi": Head("classify", ("a", "b", "c", "d"), problem="multi_label"),
    "regression": Head("classify", ("score",), problem="regression"),
    "tag": Head("tag", ("O", "B", "I")),
    "tag with a layer": Head("tag", ("O", "B", "I"), hidden=(24,)),
    "span": Head("span", ()),
}


def for_head(head: Head) -> Model:
    return dataclasses.replace(TINY, num_layers=2, pair_classes=0, pooler=head.pooled)


def session_of(weights: Weights, output: Output = "auto"):
    return open_session(build_onnx(weights, float32(weights), output).SerializeToString(), threads=1)


def difference(ours: np.ndarray, theirs: np.ndarray, mask: np.ndarray) -> float:
    """The largest difference at real positions; both are [B, L, ...]."""
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs)[mask > 0].max())


# --- Against Flax --------------------------------------------------------------------------------------------------

SHAPES = [
    *({"share": share, "share_groups": groups} for share in ("all", "attention", "ffn", "none") for groups in (1, 2)),
    *({"activation": kind, "norm": norm} for kind in ("gelu_tanh", "gelu_erf", "relu") for norm in ("post", "pre")),
    {"embed_size": 32, "share": "none"},
    {"embedding_order": "project_then_sum"},
    {"token_types": 0, "pooler": False, "pair_classes": 0},
    {"token_types": 1, "pooler": False, "pair_classes": 0},
    {"norm_epsilon": 0.1},
    {"num_layers": 12, "residual_scale": "depth"},
    {"norm": "pre", "residual_scale": 0.3},
    {"own_norms": True},
    {"depth_vector": True, "share_groups": 1},
    {"low_rank": 3, "share_groups": 1, "residual_scale": "depth"},
    {"num_layers": 7, "own_first": 2, "own_last": 1, "own_norms": True, "depth_vector": True, "low_rank": 2},
]


@pytest.mark.parametrize(
    "change", thorough.but(SHAPES[::4], SHAPES), ids=lambda change: "-".join(map(str, change.values()))
)
def test_every_shape_gives_the_logits_of_flax(change: dict):
    weights = drawn(dataclasses.replace(TINY, **change))
    batch = batch_of(weights.model, [5, 9, 2], pair=True)
    found = run_session(session_of(weights), batch)["logits"]
    assert difference(found, flax_answer(weights, batch)["logits"], batch["attention_mask"]) < 1e-4


@pytest.fixture(scope="module")
def tiny():
    return drawn(), session_of(drawn())


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("length", thorough.but([1, 64], [1, 2, 7, 64, 512]))
def test_every_length_gives_the_logits_of_flax(tiny, length: int, pair: bool):
    weights, session = tiny
    batch = batch_of(weights.model, [length], pair=pair)
    found = run_session(session, batch)["logits"]
    assert difference(found, flax_answer(weights, batch)["logits"], batch["attention_mask"]) < 1e-4


def test_token_types_are_read(tiny):
    weights, session = tiny
    apart, together = (batch_of(weights.model, [8], pair=pair) for pair in (True, False))
    assert np.abs(run_session(session, apart)["logits"] - run_session(session, together)["logits"]).max() > 0.01


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_every_head_gives_the_logits_of_flax(head: Head):
    weights = drawn(for_head(head), head)
    batch = batch_of(weights.model, [5, 9, 1], pair=True)
    found, wanted = run_session(session_of(weights), batch), flax_answer(weights, batch)["logits"]
    if head.kind == "classify":
        assert found["logits"].shape == (3, len(head.labels))
        np.testing.assert_allclose(found["logits"], wanted[:, 0], atol=1e-4)
    elif head.kind == "tag":
        assert difference(found["logits"], wanted, batch["attention_mask"]) < 1e-4
    else:
        together = np.stack([found["start_logits"], found["end_logits"]], axis=-1)
        assert difference(together, wanted, batch["attention_mask"]) < 1e-4


def test_choices_are_scored_one_by_one():
    """[texts, choices, tokens] in, [texts, choices] out: each choice has the score that it has alone."""
    head = Head("choose", ())
    weights = drawn(for_head(head), head)
    batch = batch_of(weights.model, [5, 9, 1, 3, 3, 8], pair=True)
    choices = {name: value.reshape(2, 3, 9) for name, value in batch.items()}
    found = run_session(session_of(weights), choices)["logits"]
    np.testing.assert_allclose(found, flax_answer(weights, batch)["logits"].reshape(2, 3), atol=1e-4)


def test_states_are_those_of_the_last_layer_and_the_pooler():
    weights = drawn()
    batch = batch_of(weights.model, [5, 9])
    found, wanted = run_session(session_of(weights, "states"), batch), flax_answer(weights, batch)
    assert difference(found["last_hidden_state"], wanted["hidden"], batch["attention_mask"]) < 1e-4
    np.testing.assert_allclose(found["pooler_output"], wanted["pooled"], atol=1e-4)


def test_states_of_a_model_without_a_pooler_have_no_pooled_output():
    weights = drawn(dataclasses.replace(TINY, pooler=False, pair_classes=0))
    assert list(run_session(session_of(weights, "states"), batch_of(TINY, [4]))) == ["last_hidden_state"]


def test_a_sentence_is_the_mean_of_its_tokens_at_length_one():
    weights = drawn()
    batch = batch_of(weights.model, [5, 9])
    found, hidden = run_session(session_of(weights, "sentence"), batch), flax_answer(weights, batch)["hidden"]
    means = np.stack([hidden[row, :length].mean(axis=0) for row, length in enumerate((5, 9))])
    wanted = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(found["sentence_embedding"], wanted, atol=1e-5)
    assert difference(found["token_embeddings"], hidden, batch["attention_mask"]) < 1e-4


# --- Padding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("longest", [16, 64, 200])
def test_padding_and_neighbours_change_a_row_by_rounding_only(tiny, longest: int):
    """Padding has a weight of exactly 0, so only the order of summation differs in a longer row."""
    weights, session = tiny
    alone = run_session(session, batch_of(weights.model, [11]))["logits"]
    padded = run_session(session, batch_of(weights.model, [11, longest, 3], longest))["logits"]
    assert np.abs(padded[:1, :11] - alone).max() < 2e-6


@pytest.mark.parametrize("output", ["fill-mask", "states", "sentence"])
def test_a_row_of_padding_is_finite(output: Output):
    weights = drawn()
    batch = batch_of(weights.model, [5, 0])
    assert all(np.isfinite(value).all() for value in run_session(session_of(weights, output), batch).values())


# --- The file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", SHAPES, ids=lambda change: "-".join(map(str, change.values())))
def test_every_parameter_stands_in_the_file_once(change: dict):
    """The pair head and the pooler are not in fill-mask files, and padded rows are in no file."""
    weights = drawn(dataclasses.replace(TINY, **change))
    shapes = parameters.shapes(dataclasses.replace(weights.model, vocab_multiple=1))
    wanted = sum(math.prod(shape) for path, shape in shapes.items() if path.split("/")[0] not in ("pooler", "pair"))
    stored = graph.size_bytes(draw(weights, float32(weights)))
    # The file also has a few constants, such as the shapes of heads.
    assert 4 * wanted < stored < 4 * wanted + 200


def hollow(model: Model) -> Weights:
    """Weights of zeros that take no memory."""
    shapes = parameters.shapes(model)
    return Weights(parameters.nest({path: np.broadcast_to(np.float32(0), s) for path, s in shapes.items()}), model)


def test_albert_base_takes_47_megabytes():
    """11,683,584 parameters: embeddings, one block, pooler. Common exporters write 341.6 MB."""
    weights = hollow(presets.ALBERT_BASE)
    assert graph.size_bytes(draw(weights, float32(weights), "states")) == pytest.approx(4 * 11_683_584, rel=1e-4)


def test_bert_base_with_its_masked_lm_head_takes_438_megabytes():
    """109,514,298 parameters with the tied decoder once, as BertForMaskedLM counts; with it twice, 532 MB."""
    weights = hollow(dataclasses.replace(presets.BERT_BASE, vocab_size=30_522))
    assert graph.size_bytes(draw(weights, float32(weights), "fill-mask")) == pytest.approx(4 * 109_514_298, rel=1e-4)


def test_bert_base_with_a_classifier_has_74_products_with_weights():
    """Six products in each of twelve layers, the pooler and the classifier: all that INT8 has to convert."""
    head = Head()
    model = dataclasses.replace(presets.BERT_BASE, pair_classes=0, vocab_size=100)
    shapes = parameters.shapes(model, head)
    flat = {path: np.broadcast_to(np.float32(0), shape) for path, shape in shapes.items()}
    weights = Weights(parameters.nest(flat), model, head)
    kinds = [made.op_type for made in draw(weights, float32(weights)).nodes]
    assert (kinds.count("Gemm"), kinds.count("MatMul")) == (74, 24)


@pytest.mark.parametrize(
    ("output", "head"), [*itertools.product(["fill-mask", "states", "sentence"], [None]), ("auto", HEADS["span"])]
)
def test_the_file_passes_strict_shape_inference(output: Output, head: Head | None):
    weights = drawn(for_head(head) if head else TINY, head)
    model = build_onnx(weights, float32(weights), output)
    onnx.checker.check_model(model, full_check=True)
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)
    ranks = [len(value.type.tensor_type.shape.dim) for value in model.graph.output]
    assert [len(value.type.tensor_type.shape.dim) for value in inferred.graph.output] == ranks


def test_initialisers_have_readable_names():
    names = draw(drawn(), float32(drawn())).initializers
    wanted = ["embeddings.word.embedding", "layers.1.ffn.up.kernel", "layers.0.norms.attention.scale", "mlm.bias"]
    assert set(wanted) <= set(names)
    assert "layers.2.ffn.up.kernel" not in names  # two groups


def test_the_file_says_what_it_is():
    head = HEADS["three"]
    weights = drawn(for_head(head), head)
    facts = {each.key: each.value for each in build_onnx(weights, float32(weights)).metadata_props}
    assert (facts["output"], json.loads(facts["labels"])) == ("classify", ["a", "b", "c"])
    assert json.loads(facts["model"])["hidden_size"] == 32


def test_fill_mask_of_a_task_model_is_refused():
    weights = drawn(for_head(HEADS["tag"]), HEADS["tag"])
    with pytest.raises(UserError, match="no masked-LM head"):
        build_onnx(weights, float32(weights), "fill-mask")


@pytest.mark.slow
def test_albert_base_agrees_with_flax_at_its_real_size(tmp_path):
    weights = drawn(presets.ALBERT_BASE)
    scaled = {
        path: value if path.endswith("scale") else value / 5
        for path, value in parameters.flatten(weights.params).items()
    }
    weights = dataclasses.replace(weights, params=parameters.nest(scaled))
    size = save_onnx(build_onnx(weights, float32(weights), "states"), tmp_path / "model.onnx")
    assert size <= 47.5e6
    batch = batch_of(weights.model, [128, 70], pair=True)
    found = run_session(open_session(tmp_path / "model.onnx"), batch)["last_hidden_state"]
    assert difference(found, flax_answer(weights, batch)["hidden"], batch["attention_mask"]) < 1e-4
