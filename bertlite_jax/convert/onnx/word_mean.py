"""A mean over the words of a text as an ONNX file, with the inputs of an encoder's.

Letters: B texts, L tokens, V vocabulary, C outputs.
"""

from __future__ import annotations

import numpy as np
import onnx
from jaxtyping import Float

from bertlite_jax.convert.onnx.graph import Graph, add_input, add_output, finish, node, tensor
from bertlite_jax.convert.onnx.heads import mean


def build_word_mean(table: Float[np.ndarray, "V C"], bias: Float[np.ndarray, " C"]) -> onnx.ModelProto:
    """Logits [B, C] of `input_ids` and `attention_mask`, int64 [B, L]: the mean of the words' rows, and the bias."""
    graph = Graph()
    ids, mask = (add_input(graph, name, ["batch", "sequence"]) for name in ("input_ids", "attention_mask"))
    rows = node(graph, "Gather", tensor(graph, "words", table.astype(np.float32)), ids, name="words")
    total = node(graph, "Add", mean(graph, rows, mask), tensor(graph, "bias", bias.astype(np.float32)), name="logits")
    add_output(graph, total, "logits", ["batch", table.shape[1]])
    return finish(graph, "word_mean", {"output": "classify"})
