"""Products in float32, with kernels and tables unchanged."""

from __future__ import annotations

import numpy as np

from bertlite_jax.convert.onnx.arithmetic import Arithmetic, Site
from bertlite_jax.convert.onnx.graph import Graph, node, tensor
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights


def float32(weights: Weights) -> Arithmetic:
    """Arithmetic in float32 with the parameters themselves (`parameters.exported`).

    The word table is in the file once: Gather reads its rows, and Gemm multiplies with its transpose.
    """
    flat = parameters.exported(weights.params, weights.model)
    flat = {path: np.asarray(value, np.float32) for path, value in flat.items()}

    def stored(graph: Graph, site: Site, leaf: str) -> str:
        array = parameters.of_place(flat, f"{site.path}/{leaf}", site.index)
        return tensor(graph, f"{site.weight}.{leaf}", array)

    def dense(graph: Graph, x: str, site: Site) -> str:
        kernel, bias = stored(graph, site, "kernel"), stored(graph, site, "bias")
        return node(graph, "Gemm", x, kernel, bias, name=site.name)

    def rows(graph: Graph, ids: str, path: str) -> str:
        name = path.replace("/", ".")
        return node(graph, "Gather", tensor(graph, name, flat[path]), ids, name=name.removesuffix(".embedding"))

    def decode(graph: Graph, x: str) -> str:
        table = tensor(graph, "embeddings.word.embedding", flat["embeddings/word/embedding"])
        bias = tensor(graph, "mlm.bias", flat["mlm/bias"])
        return node(graph, "Gemm", x, table, bias, name="mlm.logits", transB=1)

    return Arithmetic(dense, rows, decode)
