"""Equal layers stand once in the file of a model of 4 bits, and nothing that is computed changes."""

import dataclasses
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from integer_examples import ALBERT, BERT, TWO_LABELS, batch_of, weights_of

from bertlite_jax.config.int8 import Bits
from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.int8 import calibrate
from bertlite_jax.convert.onnx import integer
from bertlite_jax.convert.onnx.arithmetic import Arithmetic
from bertlite_jax.convert.onnx.graph import FLOAT, Graph, Layer, add_input, add_output, finish, node, to_bytes
from bertlite_jax.convert.onnx.model import build_onnx
from bertlite_jax.convert.onnx.repeated_layers import DOMAIN, fold
from bertlite_jax.convert.onnx.session import fused, open_session, run_session
from bertlite_jax.convert.weights import quantized
from bertlite_jax.convert.weights.quantized import Container


def both(
    model: Model, kind: Callable[[Container], Arithmetic], head: Head | None = TWO_LABELS
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The file with a function, and with all layers written out."""
    weights = weights_of(model, head)
    arithmetic = kind(quantized.quantize(weights, bits=4))
    return build_onnx(weights, arithmetic), build_onnx(weights, arithmetic._replace(folded=False))


def answer(model: onnx.ModelProto, batch: dict[str, np.ndarray]) -> np.ndarray:
    return run_session(open_session(to_bytes(model), threads=1), batch)["logits"]


def calls(model: onnx.ModelProto) -> list[str]:
    return [each.op_type for each in model.graph.node if each.domain == DOMAIN]


@pytest.mark.parametrize(("bits", "count"), [(4, 1), (7, 0), (8, 0)])
def test_only_files_of_four_bits_have_functions(bits: Bits, count: int):
    weights = weights_of(ALBERT)
    built = build_onnx(weights, integer.per_token(quantized.quantize(weights, bits=bits)))
    assert (len(built.functions), len(calls(built))) == (count, 12 * count)


@pytest.mark.parametrize("kind", [integer.per_token, integer.per_tensor])
@pytest.mark.parametrize(
    ("model", "head"),
    [
        (ALBERT, TWO_LABELS),
        (dataclasses.replace(ALBERT, num_layers=4, share_groups=2), None),
        (dataclasses.replace(BERT, num_layers=3), TWO_LABELS),
        (dataclasses.replace(ALBERT, num_layers=3, norm="pre", own_norms=True, depth_vector=True), None),
    ],
    ids=["albert", "groups", "bert", "freed"],
)
def test_answers_are_the_same_to_the_bit(model: Model, head: Head | None, kind: Callable[[Container], Arithmetic]):
    """Layers with other weights are the same function of other inputs, and the runtime is left with equal nodes."""
    folded, whole = both(model, kind, head)
    assert calls(folded) == ["layer_0"] * model.num_layers
    assert integer.integer_products(folded) == integer.integer_products(whole)
    assert fused(to_bytes(folded)) == fused(to_bytes(whole))
    batch = batch_of(model, (7, 20, 13))
    np.testing.assert_array_equal(answer(folded, batch), answer(whole, batch))


def test_ranges_of_single_layers_are_inputs_too():
    """With static activations each layer has constants of its own."""
    model = dataclasses.replace(ALBERT, num_layers=3)
    weights, batch = weights_of(model, TWO_LABELS), batch_of(model, (7, 20, 13))
    ranges = calibrate.ranges(weights, [batch])
    folded, whole = both(model, lambda container: integer.static(container, ranges))
    assert calls(folded) == ["layer_0"] * 3
    assert fused(to_bytes(folded)) == fused(to_bytes(whole))
    np.testing.assert_array_equal(answer(folded, batch), answer(whole, batch))


def test_layers_of_other_shapes_are_other_functions():
    """The second layer has no neurons, and the fourth no heads."""
    model = dataclasses.replace(BERT, num_layers=4, pruned_heads=(4, 4, 4, 0), pruned_ffn=(32, 0, 32, 32))
    folded, whole = both(model, integer.per_token)
    assert calls(folded) == ["layer_0", "layer_1", "layer_0", "layer_2"]
    batch = batch_of(model, (7, 20, 13))
    np.testing.assert_array_equal(answer(folded, batch), answer(whole, batch))


def test_weights_are_unpacked_once_for_all_layers():
    """Six kernels of the layer and the pooler's, each looked up in the table of pairs; none inside the function."""
    folded, _ = both(ALBERT, integer.per_token)
    assert sum("two_of_a_byte" in each.input for each in folded.graph.node) == 7
    (function,) = folded.functions
    assert sum(each.op_type == "MatMulInteger" for each in function.node) == 6
    assert not any(each.op_type == "Gather" for each in function.node)


def test_what_a_layer_does_not_change_stays_outside():
    """Y = relu(x) + exp(z), twice: the exponential of the input z is computed by the first layer and kept."""
    graph = Graph()
    x, z = (add_input(graph, name, ["rows"], FLOAT) for name in "xz")
    for _ in range(2):
        start, enters = len(graph.nodes), x
        if "power" not in graph.memo:
            graph.memo["power"] = node(graph, "Exp", z)
        x = node(graph, "Add", node(graph, "Relu", x), graph.memo["power"])
        graph.layers.append(Layer(start, len(graph.nodes), enters, x))
    add_output(graph, node(graph, "Identity", x), "y", ["rows"])
    model = finish(graph, "two layers", {}, functions=fold(graph))
    assert [each.op_type for each in model.graph.node] == ["Exp", "layer_0", "layer_0", "Identity"]
    batch = {"x": np.array([-1, 2], np.float32), "z": np.zeros(2, np.float32)}
    (found,) = open_session(to_bytes(model)).run(None, batch)
    np.testing.assert_array_equal(found, [2, 4])
