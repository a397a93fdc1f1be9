"""The encoder as ONNX nodes, over an arithmetic that decides in which numbers products are made.

Letters: B rows, L tokens, E embedding, D hidden, H heads, K width of a head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bertlite_jax.convert.onnx_graph import Graph


class Site(NamedTuple):
    """One application of one stored dense layer.

    Attributes:
      path: of the parameters without their leaf, such as `layers/ffn/up` or `pooler`.
      index: which one of the stacked parameters; None where they are not stacked.
      layer: number of the layer that applies it; None outside the layers.
    """

    path: str
    index: int | None = None
    layer: int | None = None

    @property
    def name(self) -> str:
        """One for each application: `layers.3.ffn.up`."""
        return _numbered(self.path, self.layer)

    @property
    def weight(self) -> str:
        """One for each stored tensor: `layers.0.ffn.up` wherever the first group is applied."""
        return _numbered(self.path, self.index)


def _numbered(path: str, number: int | None) -> str:
    first, *rest = path.split("/")
    return ".".join([first, *([] if number is None else [str(number)]), *rest])


class Arithmetic(NamedTuple):
    """In which numbers the products with weights are made; all values between them are float32.

    Attributes:
      dense: (graph, x, site) -> y. x [B, L, In] or [B, In]; times the site's kernel, plus its bias.
      rows: (graph, ids, path) -> x. Rows of an embedding table, `path` such as `embeddings/word/embedding`.
      decode: (graph, x) -> logits. x [B, L, E] times the transposed word table, plus `mlm/bias`: [B, L, V].
    """

    dense: Callable[[Graph, str, Site], str]
    rows: Callable[[Graph, str, str], str]
    decode: Callable[[Graph, str], str]
