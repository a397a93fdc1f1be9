"""Integer products in ONNX: their number, that they are right, and that rows are independent where they should be."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from integer_examples import ALBERT, BERT, DISTILBERT, TWO_LABELS, batch_of, weights_of
from onnx import TensorProto, helper

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.int8 import calibrate
from bertlite_jax.convert.onnx import integer
from bertlite_jax.convert.onnx.float32 import float32
from bertlite_jax.convert.onnx.graph import FLOAT, Graph, add_input, add_output, finish, to_bytes
from bertlite_jax.convert.onnx.model import Site, build_onnx
from bertlite_jax.convert.onnx.session import fused, open_session, run_session
from bertlite_jax.convert.weights import parameters, quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.model import int8_encoder
from bertlite_jax.model.ops import integer_products


def run(model, batch: dict[str, np.ndarray]) -> np.ndarray:
    session = open_session(model.SerializeToString(), threads=1)
    return next(iter(run_session(session, batch).values()))


@pytest.mark.parametrize(
    ("model", "head", "count"),
    [
        (BERT, TWO_LABELS, 74),  # 12 x 6, pooler, classifier
        (DISTILBERT, dataclasses.replace(TWO_LABELS, activation="relu"), 38),  # 6 x 6, pre-classifier, classifier
        (ALBERT, TWO_LABELS, 75),  # and the projection of the embeddings
    ],
)
@pytest.mark.parametrize("kind", [integer.per_tensor, integer.per_token])
def test_every_product_with_weights_is_one_of_integers(model, head, count, kind):
    weights = weights_of(model, head)
    built = build_onnx(weights, kind(quantized.quantize(weights)))
    assert integer.integer_products(built) == count


def test_per_tensor_products_become_the_operators_of_onnx_runtime():
    """12 x (q, k, v) share one quantised input; each of the other 38 quantises its own."""
    weights = weights_of(BERT, TWO_LABELS)
    built = build_onnx(weights, integer.per_tensor(quantized.quantize(weights)))
    operators = fused(built.SerializeToString())
    assert (operators["MatMulIntegerToFloat"], operators["DynamicQuantizeMatMul"]) == (36, 38)
    assert "MatMulInteger" not in operators


def test_per_token_products_are_joined_with_their_scales():
    """This also holds where one stored layer is applied twelve times."""
    for model, count in ((BERT, 74), (ALBERT, 75)):
        weights = weights_of(model, TWO_LABELS)
        built = build_onnx(weights, integer.per_token(quantized.quantize(weights)))
        operators = fused(built.SerializeToString())
        assert operators["MatMulIntegerToFloat"] == count
        assert not {"MatMulInteger", "BiasGelu", "SkipLayerNormalization"} & operators.keys()


def test_what_is_left_out_is_multiplied_in_float():
    weights = weights_of(BERT, TWO_LABELS)
    container = quantized.quantize(weights, leave_out=("layers.3", "layers.ffn.down", "embeddings.word"))
    built = build_onnx(quantized.to_weights(container), integer.per_token(container))
    assert integer.integer_products(built) == 74 - 6 - 11
    assert sum(made.op_type == "Gemm" for made in built.graph.node) == 6 + 11


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "model",
    [
        dataclasses.replace(BERT, num_layers=2),
        pytest.param(dataclasses.replace(ALBERT, num_layers=4, share_groups=2), marks=pytest.mark.thorough),
        dataclasses.replace(DISTILBERT, num_layers=2, activation="relu", pooler=False),
        dataclasses.replace(ALBERT, num_layers=2, embedding_order="project_then_sum"),
        pytest.param(dataclasses.replace(ALBERT, num_layers=6, residual_scale="depth"), marks=pytest.mark.thorough),
        dataclasses.replace(ALBERT, num_layers=4, own_norms=True, depth_vector=True, low_rank=3, residual_scale=0.5),
        pytest.param(
            dataclasses.replace(ALBERT, num_layers=5, own_first=1, own_last=2, low_rank=2), marks=pytest.mark.thorough
        ),
    ],
    ids=["bert", "albert", "distilbert", "albert_zh", "albert_deep", "albert_freed", "albert_own_ends"],
)
def test_per_token_computes_the_integers_of_the_jax_reference(model, signed):
    weights = weights_of(model)
    container = quantized.quantize(weights)
    batch = batch_of(model, (7, 20, 13))
    real = batch["attention_mask"] > 0
    theirs = run(build_onnx(weights, integer.per_token(container, signed)), batch)
    ids = (np.asarray(batch[name], np.int32) for name in ("input_ids", "attention_mask", "token_type_ids"))
    ours = np.asarray(int8_encoder.answer(quantized.jax_params(container), container.model, None, *ids)["logits"])
    np.testing.assert_allclose(theirs[real], ours[real], atol=1e-4)
    assert (theirs[real].argmax(-1) == ours[real].argmax(-1)).all()


def test_padding_and_neighbours_do_not_change_per_token_answers():
    weights = weights_of(BERT, Head(kind="tag", labels=("O", "B", "I")), std=0.3)
    container = quantized.quantize(weights)
    alone = batch_of(BERT, (9,))
    crowd = batch_of(BERT, (9, 40, 23), width=48, seed=5)
    for name in alone:
        crowd[name][0] = 0
        crowd[name][0, :9] = alone[name][0]
    changes = {}
    for kind in (integer.per_token, integer.per_tensor):
        built = build_onnx(weights, kind(container))
        changes[kind] = np.abs(run(built, alone)[0] - run(built, crowd)[0, :9]).max()
    assert changes[integer.per_token] < 1e-5
    assert changes[integer.per_tensor] > 1e-3


def test_the_word_table_stands_once_in_a_masked_language_model():
    weights = weights_of(ALBERT)
    built = build_onnx(weights, integer.per_token(quantized.quantize(weights)))
    holding = [each.name for each in built.graph.initializer if sorted(each.dims) == [8, 50]]
    assert len(holding) == 1


def test_static_ranges_give_answers_close_to_float():
    """QuantizeLinear and DequantizeLinear surround every product, and ONNX Runtime turns them into integer products."""
    weights = weights_of(BERT, TWO_LABELS)
    batches = [batch_of(BERT, (20, 33, 40), seed=seed) for seed in range(4)]
    container = quantized.quantize(weights)
    ranges = calibrate.ranges(weights, batches, "minmax")
    assert len(ranges) == 74
    built = build_onnx(weights, integer.static(container, ranges))
    assert integer.integer_products(built) == 74
    assert fused(built.SerializeToString())["MatMulIntegerToFloat"] == 74
    exact = run(build_onnx(weights, float32(weights)), batches[0])
    assert np.abs(run(built, batches[0]) - exact).max() < 0.1 * np.abs(exact).max()


def test_a_row_of_zeros_is_a_row_of_zeros():
    """Its largest value gives no step to divide by."""
    graph = Graph()
    add_input(graph, "x", ["rows", 16], FLOAT)
    weights = weights_of(BERT, TWO_LABELS)
    arithmetic = integer.per_token(quantized.quantize(weights))
    y = arithmetic.dense(graph, "x", Site("pooler"))
    add_output(graph, y, "y", ["rows", 16])
    session = open_session(finish(graph, "one product", {}).SerializeToString())
    (found,) = session.run(None, {"x": np.zeros((2, 16), np.float32)})
    np.testing.assert_array_equal(found, np.tile(weights.params["pooler"]["bias"], (2, 1)))


def size_ratio(model: Model, head: Head | None) -> tuple[float, float]:
    """Bytes of the per-token file, and their share of the float32 file's; weights are zero, which changes no size."""
    flat = {path: np.zeros(shape, np.float32) for path, shape in parameters.shapes(model, head).items()}
    weights = Weights(parameters.nest(flat), model, head)
    container = quantized.quantize(weights)
    # The scale of zeros is 1, which takes as many bytes as any other exact f16 number.
    exact = len(to_bytes(build_onnx(weights, float32(weights))))
    small = len(to_bytes(build_onnx(weights, integer.per_token(container))))
    return small, small / exact


def test_albert_base_has_at_most_twelve_megabytes():
    model = Model(pair_classes=0)
    assert size_ratio(model, TWO_LABELS)[0] <= 12.2e6
    assert size_ratio(model, None)[0] <= 12.2e6


def test_albert_base_with_layers_of_four_bits_has_at_most_eight_megabytes():
    """Words 3.84 MB at a byte; layers and pooler 3.83 at half a byte; all else 0.29, and nodes 0.03."""
    weights = weights_of(Model(pair_classes=0), TWO_LABELS)
    built = build_onnx(weights, integer.per_token(quantized.quantize(weights, bits=4)))
    assert len(to_bytes(built)) <= 8e6


@pytest.mark.parametrize("bits", [4, 7])
@pytest.mark.parametrize("name", ["layers/0/ffn/up", "layers/0/ffn/down", "pooler"])
def test_a_product_has_the_accumulators_of_the_jax_reference(name, bits):
    """Given the same rows: steps, unpacked weights and their sums are the same integers, each of them."""
    weights = weights_of(ALBERT, TWO_LABELS)
    container = quantized.quantize(weights, bits=bits)
    site = Site(quantized.anywhere(name), 0 if name.startswith("layers") else None)
    kernel = container.integers[f"{name}/kernel"]
    graph = Graph()
    add_input(graph, "x", ["rows", len(kernel)], FLOAT)
    add_output(graph, integer.per_token(container).dense(graph, "x", site), "y", ["rows", kernel.shape[1]])
    model = finish(graph, "one product", {})
    # With an output of its own it stays an operator.
    (sums,) = (made.output[0] for made in model.graph.node if made.op_type == "MatMulInteger")
    model.graph.output.append(helper.make_tensor_value_info(sums, TensorProto.INT32, None))
    x = np.random.default_rng(0).normal(size=(50, len(kernel))).astype(np.float32)
    _, theirs = open_session(model.SerializeToString()).run(None, {"x": x})
    zero = quantized.zero_point(site.path, ALBERT.activation)
    steps, _ = integer_products.quantize_rows(jnp.asarray(x), zero)
    kernel = jnp.asarray(kernel)
    ours = integer_products.accumulated(steps, kernel, integer_products.column_sums(kernel, zero))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", [integer.per_tensor, integer.per_token])
def test_four_bits_are_unpacked_before_the_first_answer(kind):
    """What ONNX Runtime runs is what it runs for a byte a weight: it unpacks them when it loads the file."""
    weights = weights_of(ALBERT, TWO_LABELS)
    built = build_onnx(weights, kind(quantized.quantize(weights, bits=4)))
    packed = {each.name: list(each.dims) for each in built.graph.initializer if each.name.endswith("packed")}
    parts = ("attention.query", "attention.key", "attention.value", "attention.output", "ffn.up", "ffn.down")
    assert packed.keys() == {f"layers.0.{part}.kernel.packed" for part in parts} | {"pooler.kernel.packed"}
    assert packed["layers.0.ffn.up.kernel.packed"] == [16 * 32 // 2]
    whole = build_onnx(weights, kind(quantized.quantize(weights)))
    assert fused(built.SerializeToString()) == fused(whole.SerializeToString())


@pytest.mark.slow
def test_bert_base_has_at_most_a_quarter_of_its_size():
    model = Model(vocab_size=30_522, embed_size=768, share="none", pair_classes=0)
    assert size_ratio(model, TWO_LABELS)[1] <= 0.252
