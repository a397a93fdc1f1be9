"""A graph of ONNX nodes, built one value at a time with `onnx.helper`.

Values are passed around by name. Opset 17 is the first with LayerNormalization; IR version 8 belongs to it, and every
ONNX Runtime since 1.12 reads both.

Source: onnx/onnx:docs/IR.md and docs/Operators.md.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bertlite_jax.errors import UserError
from bertlite_jax.host.whole_files import new_file

try:
    import onnx
    from onnx import helper, numpy_helper
except ModuleNotFoundError as error:
    raise UserError("convert: ONNX files need the package onnx; pip install onnx") from error

OPSET = 17
IR_VERSION = 8
LARGEST_FILE = 2**31 - 1
"""The most bytes that a protobuf message can have."""

FLOAT = onnx.TensorProto.FLOAT
INT64 = onnx.TensorProto.INT64
INT32 = onnx.TensorProto.INT32


class Layer(NamedTuple):
    """The nodes of one layer, [start, stop) in a graph, and the value that they change: its name before and after."""

    start: int
    stop: int
    enters: str
    leaves: str


@dataclasses.dataclass
class Graph:
    """What has been built so far.

    Attributes:
      nodes: in an order in which they can run.
      initializers: arrays by name.
      inputs: declared input values.
      outputs: declared output values.
      memo: names of values that are computed once and used in several places, by a key of the caller's choice.
      taken: how often each name has been requested.
      layers: the nodes of each of the encoder's layers, first to last.
    """

    nodes: list[onnx.NodeProto] = dataclasses.field(default_factory=list)
    initializers: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    inputs: list[onnx.ValueInfoProto] = dataclasses.field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = dataclasses.field(default_factory=list)
    memo: dict[Hashable, str] = dataclasses.field(default_factory=dict)
    taken: dict[str, int] = dataclasses.field(default_factory=dict)
    layers: list[Layer] = dataclasses.field(default_factory=list)


def tensor(graph: Graph, name: str, array: np.ndarray) -> str:
    """Adds an initialiser, unless it is there already; returns its name.

    Raises:
      ValueError: another array has this name.
    """
    known = graph.initializers.get(name)
    if known is None:
        graph.initializers[name] = array
        return name
    if known is not array and not (known.dtype == array.dtype and np.array_equal(known, array)):
        raise ValueError(f"the initialiser {name} is {known.dtype} {known.shape}, and another array has its name")
    return name


def constant(graph: Graph, value: Any, dtype: type = np.float32) -> str:
    """Adds a small initialiser named after its values, such as `int64[0,-1]`; returns the name."""
    array = np.asarray(value, dtype)
    text = np.array2string(array, separator=",", threshold=2**31, max_line_width=2**31, floatmode="unique")
    return tensor(graph, f"{array.dtype.name}{text if array.ndim else f'({text})'}".replace(" ", ""), array)


def node(graph: Graph, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
    """Adds a node with one output; returns the output's name.

    Args:
      graph: is added to.
      op: operator, such as `MatMul`.
      inputs: names of values; "" for an optional one that is left out.
      name: what it belongs to, such as `layers.3.ffn.up`; node and output are named `layers.3.ffn.up/MatMul`, with a
        number appended where that name is taken.
      attributes: the operator's, and `domain` for an operator that is not ONNX's own.
    """
    return nodes(graph, op, *inputs, outputs=1, name=name, **attributes)[0]


def nodes(graph: Graph, op: str, *inputs: str, outputs: int, name: str = "", **attributes: Any) -> tuple[str, ...]:
    """Adds a node with several outputs, such as DynamicQuantizeLinear; returns their names."""
    full_name = _unused(graph, f"{name}/{op}" if name else op)
    names = (full_name,) if outputs == 1 else tuple(f"{full_name}:{i}" for i in range(outputs))
    graph.nodes.append(helper.make_node(op, list(inputs), list(names), name=full_name, **attributes))
    return names


def _unused(graph: Graph, name: str) -> str:
    times = graph.taken[name] = graph.taken.get(name, 0) + 1
    return name if times == 1 else f"{name}_{times}"


def add_input(graph: Graph, name: str, shape: Sequence[int | str], kind: int = INT64) -> str:
    """Declares an input; a name in the shape is a dimension that varies. Returns `name`."""
    graph.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
    return name


def add_output(graph: Graph, value: str, name: str, shape: Sequence[int | str], kind: int = FLOAT) -> None:
    """Declares an output: renames the value `value` to `name` everywhere."""
    for each_node in graph.nodes:
        for names in (each_node.input, each_node.output):
            names[:] = [name if each == value else each for each in names]
    graph.outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))


def finish(
    graph: Graph,
    name: str,
    metadata: dict[str, str],
    opsets: dict[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """The model, after ONNX's checks of structure, types and shapes.

    Args:
      graph: complete.
      name: of the graph.
      metadata: key and value texts that travel in the file (`metadata_props`).
      opsets: versions of further operator domains, such as `{"com.microsoft": 1}`, whose nodes are not checked.
      functions: that nodes of the graph call.

    Raises:
      UserError: the model is larger than a protobuf file can be.
    """
    size = size_bytes(graph)
    if size > LARGEST_FILE:
        raise UserError(
            f"convert: onnx: {size / 1e9:.1f} GB of tensors; an ONNX file holds at most 2.1 GB. Write the model as a "
            "folder of transformers (to-hf), or choose a smaller one"
        )
    tensors = [numpy_helper.from_array(np.asarray(array, order="C"), at) for at, array in graph.initializers.items()]
    proto = helper.make_graph(graph.nodes, name, graph.inputs, graph.outputs, tensors)
    versions = {"": OPSET, **(opsets or {}), **{each.domain: 1 for each in functions}}
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in versions.items()],
        ir_version=IR_VERSION,
        producer_name="bertlite_jax",
        functions=functions,
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def size_bytes(graph: Graph) -> int:
    """Bytes of all initialisers, that is of the file without its nodes."""
    return sum(array.nbytes for array in graph.initializers.values())


def save_onnx(model: onnx.ModelProto, path: os.PathLike[str] | str, *, overwrite: bool = False) -> int:
    """Writes the file, complete or not at all; returns its size in bytes."""
    with new_file(path, overwrite) as temporary:
        return temporary.write_bytes(to_bytes(model))


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The contents of the model's file; the same bytes for the same model."""
    return model.SerializeToString(deterministic=True)
