"""Names for the products with weights, and the number formats they are computed in; used to write the encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bertlite_jax.config.model import Model
from bertlite_jax.convert.onnx.graph import Graph, constant, node, tensor
from bertlite_jax.convert.weights.parameters import Flat, of_place


@dataclasses.dataclass(frozen=True)
class Site:
    """One application of one stored dense layer.

    Attributes:
      path: of the parameters without their leaf, such as `layers/ffn/up` or `pooler`.
      index: position in the stacked parameters; None where they are not stacked.
      layer: number of the layer that applies it; None outside the layers.
    """

    path: str
    index: int | None = None
    layer: int | None = None

    @property
    def name(self) -> str:
        """A name for each application, such as `layers.3.ffn.up`."""
        return _numbered(self.path, self.layer)

    @property
    def weight(self) -> str:
        """A name for each stored tensor: `layers.0.ffn.up` wherever the first group is applied."""
        return _numbered(self.path, self.index)


def _numbered(path: str, number: int | None) -> str:
    first, *rest = path.split("/")
    return ".".join([first, *([] if number is None else [str(number)]), *rest])


class Arithmetic(NamedTuple):
    """The number format of the products with weights; all values between them are float32.

    Attributes:
      dense: (graph, x, site) -> y. x [M, In], the tokens of all rows below each other or one state a row; times the
        site's kernel, plus its bias.
      rows: (graph, ids, path) -> x. Rows of an embedding table, [...] -> [..., E]; `path` such as
        `embeddings/word/embedding`.
      decode: (graph, x) -> logits. x [M, E] times the transposed word table, plus `mlm/bias`: [M, V].
      folded: whether the file has equal layers once, for weights so small that nodes count (`repeated_layers`).
    """

    dense: Callable[[Graph, str, Site], str]
    rows: Callable[[Graph, str, str], str]
    decode: Callable[[Graph, str], str]
    folded: bool = False


class Draft(NamedTuple):
    """A model that is being written.

    Attributes:
      graph: what is written so far. Its memo has the value `shape`, [B, L], once the ids are declared.
      flat: parameters by flat name, the vocabulary trimmed. Only the norms and a projection of the
        words alone are read here; the arithmetic has its own.
      model: their shape.
      arithmetic: of the products.
    """

    graph: Graph
    flat: Flat
    model: Model
    arithmetic: Arithmetic


def stored(draft: Draft, site: Site, leaf: str) -> str:
    """The initialiser of one parameter, cut out of its stack and named after `site.weight` and `leaf`."""
    array = of_place(draft.flat, f"{site.path}/{leaf}", site.index)
    return tensor(draft.graph, f"{site.weight}.{leaf}", array)


def dense(draft: Draft, x: str, site: Site) -> str:
    """X [M, In] times the site's kernel plus its bias, in the draft's arithmetic."""
    return draft.arithmetic.dense(draft.graph, x, site)


def layer_norm(draft: Draft, x: str, site: Site) -> str:
    """LayerNorm over the last axis of x [..., D]."""
    scale, bias = stored(draft, site, "scale"), stored(draft, site, "bias")
    epsilon = draft.model.norm_epsilon
    return node(draft.graph, "LayerNormalization", x, scale, bias, name=site.name, axis=-1, epsilon=epsilon)


def spread(draft: Draft, x: str, *widths: int) -> str:
    """The rows of tokens x [M, ...] as [B, L, *widths]; M is B L."""
    graph = draft.graph
    key = ("shape", widths)
    if key not in graph.memo:
        tail = constant(graph, widths, np.int64)
        graph.memo[key] = node(graph, "Concat", graph.memo["shape"], tail, name="shape", axis=0)
    return node(graph, "Reshape", x, graph.memo[key], name="spread")
