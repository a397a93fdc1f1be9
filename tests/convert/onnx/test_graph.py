"""A graph is built value by value; equal tensors are written once, and a file is complete or absent."""

import numpy as np
import onnx
import pytest

from bertlite_jax.convert.onnx.graph import (
    FLOAT,
    Graph,
    add_input,
    add_output,
    constant,
    finish,
    node,
    nodes,
    save_onnx,
    size_bytes,
    tensor,
)
from bertlite_jax.errors import UserError


def product() -> Graph:
    """Y = x W + 0.5 for x [batch, 3] and W [3, 4]."""
    graph = Graph()
    x = add_input(graph, "x", ["batch", 3], FLOAT)
    y = node(graph, "MatMul", x, tensor(graph, "w", np.ones((3, 4), np.float32)), name="up")
    y = node(graph, "Add", y, constant(graph, 0.5), name="up")
    add_output(graph, y, "y", ["batch", 4])
    return graph


def test_a_tensor_is_written_once_whoever_asks():
    graph = Graph()
    assert tensor(graph, "w", np.ones(3)) == tensor(graph, "w", np.ones(3)) == "w"
    assert size_bytes(graph) == 24


@pytest.mark.parametrize("other", [np.zeros(3), np.ones(4), np.ones(3, np.float32)])
def test_one_name_cannot_stand_for_two_arrays(other: np.ndarray):
    graph = Graph()
    tensor(graph, "w", np.ones(3))
    with pytest.raises(ValueError, match="another array has its name"):
        tensor(graph, "w", other)


def test_nodes_are_named_after_what_they_belong_to_and_each_name_is_used_once():
    graph = Graph()
    assert node(graph, "Relu", "x", name="layers.3") == "layers.3/Relu"
    assert node(graph, "Relu", "x", name="layers.3") == "layers.3/Relu_2"
    assert nodes(graph, "Split", "x", outputs=2, name="span") == ("span/Split:0", "span/Split:1")


def test_constants_keep_their_number_of_axes():
    graph = Graph()
    names = [constant(graph, value, np.int64) for value in (0, [0], [0, -1])]
    model = onnx.helper.make_graph(
        [], "g", [], [], [onnx.numpy_helper.from_array(graph.initializers[n]) for n in names]
    )
    assert [list(each.dims) for each in model.initializer] == [[], [1], [2]]
    assert len(set(names)) == 3


def test_a_model_says_its_opset_and_carries_its_metadata():
    model = finish(product(), "g", {"labels": '["a"]'})
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    assert {each.key: each.value for each in model.metadata_props} == {"labels": '["a"]'}


def test_a_graph_whose_shapes_do_not_fit_is_not_finished():
    graph = product()
    graph.initializers["w"] = np.ones((5, 4), np.float32)
    with pytest.raises(onnx.shape_inference.InferenceError):
        finish(graph, "g", {})


def test_more_than_a_file_can_hold_is_refused_before_it_is_built():
    graph = product()
    tensor(graph, "huge", np.broadcast_to(np.float32(0), (2**29,)))  # 2.1 GB that take no memory
    with pytest.raises(UserError, match="an ONNX file holds at most"):
        finish(graph, "g", {})


def test_a_file_is_replaced_only_when_asked(tmp_path):
    model, path = finish(product(), "g", {}), tmp_path / "onnx" / "model.onnx"
    assert save_onnx(model, path) == path.stat().st_size
    with pytest.raises(UserError, match="exists"):
        save_onnx(model, path)
    save_onnx(model, path, overwrite=True)
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]
    assert onnx.load(path) == model
