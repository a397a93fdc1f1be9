"""Layers of the same nodes, written once: as a function of the file that every layer calls.

The twelve layers of ALBERT-base have twelve times the same hundred nodes: 0.16 MB, most of it names. Runtimes replace
each call by the nodes of the function when they load the file: they optimise and run what they would have without it.

Source: onnx/onnx:docs/IR.md, "Functions"; part of IR version 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import helper

from bertlite_jax.convert.onnx.graph import OPSET, Graph

DOMAIN = "bertlite"
"""Of the functions' names; ONNX's own operators have another."""

_Nodes = Sequence[onnx.NodeProto]


def fold(graph: Graph) -> list[onnx.FunctionProto]:
    """Replaces the nodes of each layer in `graph.layers` by one call of a function.

    Layers share a function if their nodes differ in nothing but names; its inputs are all that a layer reads. Nodes
    that do not depend on a layer's input, such as those that unpack weights, stay outside and come before the call.
    Nodes lose their names, which those of their outputs repeat. Values inside a function are numbered.

    Args:
      graph: complete. Its nodes are replaced, and it has no `layers` afterwards.

    Returns:
      The functions, for `finish`.
    """
    functions: dict[tuple[str, ...], onnx.FunctionProto] = {}
    folded: list[onnx.NodeProto] = []
    end = 0
    for layer in graph.layers:
        before, body = _split(graph.nodes[layer.start : layer.stop], layer.enters)
        reads = _reads(body, layer.enters)
        made = [name for each in body for name in each.output]
        short = {name: str(place) for place, name in enumerate([*reads, *made])}
        nodes, result = [_renamed(each, short) for each in body], short[layer.leaves]
        form = (*map(str, nodes), result)
        if form not in functions:
            name, inputs = f"layer_{len(functions)}", [short[each] for each in reads]
            opsets = [helper.make_opsetid("", OPSET)]
            functions[form] = helper.make_function(DOMAIN, name, inputs, [result], nodes, opsets)
        folded += [*graph.nodes[end : layer.start], *before]
        folded.append(helper.make_node(functions[form].name, reads, [layer.leaves], domain=DOMAIN))
        end = layer.stop
    graph.nodes[:] = [*folded, *graph.nodes[end:]]
    for each in graph.nodes:
        each.ClearField("name")
    graph.layers.clear()
    return list(functions.values())


def _split(nodes: _Nodes, enters: str) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """The nodes that do not depend on the value `enters`, and those that do; each in their order."""
    before, body, dependent = [], [], {enters}
    for each in nodes:
        if dependent.isdisjoint(each.input):
            before.append(each)
        else:
            body.append(each)
            dependent.update(each.output)
    return before, body


def _reads(body: _Nodes, enters: str) -> list[str]:
    """`enters`, and the other values that the nodes read and do not make, in the order of their first use."""
    made = {name for each in body for name in each.output}
    read = [name for each in body for name in each.input if name and name not in made]
    return list(dict.fromkeys([enters, *read]))


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """A copy of the node without a name, and with other names for its values."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.ClearField("name")
    for values in (copy.input, copy.output):
        values[:] = [names.get(name, name) for name in values]
    return copy
