"""The heads of model/heads.py and model/task_heads.py as ONNX nodes: hidden states become a model's outputs.

Every function takes the hidden states of all tokens below each other, [M, D].

Letters: B rows, L tokens, M = B L, D hidden, E embedding, V vocabulary, C outputs of a task head.
"""

from __future__ import annotations

import math

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert.onnx.arithmetic import Draft, Site, dense, layer_norm, spread, stored
from bertlite_jax.convert.onnx.graph import FLOAT, Graph, add_output, constant, node, nodes
from bertlite_jax.convert.weights.folder import Sentence


def hidden_states(draft: Draft, hidden: str, head: Head | None) -> None:
    """Outputs last_hidden_state [B, L, D] and, if the model has a pooler, pooler_output [B, D]."""
    width = draft.model.hidden_size
    pooled = _pooled(draft, hidden, head) if "pooler/kernel" in draft.flat else ""
    add_output(draft.graph, spread(draft, hidden, width), "last_hidden_state", ["batch", "sequence", width])
    if pooled:
        add_output(draft.graph, pooled, "pooler_output", ["batch", width])


def sentence(draft: Draft, hidden: str, mask: str, settings: Sentence) -> None:
    """Outputs sentence_embedding [B, D] and token_embeddings [B, L, D].

    The vector is the mean over the tokens (zeros for a row without any) or the state of the first one, divided by its
    length if `settings.normalize` is set. Source: huggingface/sentence-transformers:
    sentence_transformer/modules/pooling.py and base/modules/normalize.py.
    """
    graph, width = draft.graph, draft.model.hidden_size
    hidden = spread(draft, hidden, width)
    if settings.pooling == "cls":
        vector = node(graph, "Gather", hidden, constant(graph, 0, np.int64), name="cls", axis=1)
    else:
        vector = mean(graph, hidden, mask)
    if settings.normalize:
        length = node(graph, "ReduceL2", vector, name="length", axes=[1], keepdims=1)
        least = node(graph, "Max", length, constant(graph, 1e-12), name="length")
        vector = node(graph, "Div", vector, least, name="unit")
    add_output(graph, vector, "sentence_embedding", ["batch", width])
    add_output(graph, hidden, "token_embeddings", ["batch", "sequence", width])


def mean(graph: Graph, hidden: str, mask: str) -> str:
    """The mean over the real tokens: [B, L, D] -> [B, D]."""
    real = node(graph, "Cast", node(graph, "Unsqueeze", mask, constant(graph, [2], np.int64), name="mean"), to=FLOAT)
    tokens = constant(graph, [1], np.int64)
    total = node(graph, "ReduceSum", node(graph, "Mul", hidden, real, name="mean"), tokens, name="mean", keepdims=0)
    count = node(graph, "ReduceSum", real, tokens, name="count", keepdims=0)
    return node(graph, "Div", total, node(graph, "Max", count, constant(graph, 1e-9), name="count"), name="mean")


def fill_mask(draft: Draft, hidden: str) -> None:
    """Outputs logits [B, L, V]."""
    x = dense(draft, hidden, Site("mlm/dense"))
    x = activation(draft.graph, x, draft.model.activation, "mlm.activation")
    x = layer_norm(draft, x, Site("mlm/norm"))
    if draft.model.projects_words:
        kernel = stored(draft, Site("projection"), "kernel")
        x = node(draft.graph, "Gemm", x, kernel, name="mlm.projection", transB=1)
    logits = spread(draft, draft.arithmetic.decode(draft.graph, x), draft.model.vocab_size)
    add_output(draft.graph, logits, "logits", ["batch", "sequence", draft.model.vocab_size])


def task(draft: Draft, hidden: str, head: Head) -> None:
    """The outputs of the head's kind (see `build_onnx`); always raw logits."""
    graph = draft.graph
    x = _pooled(draft, hidden, head) if head.pooled else hidden
    for number in range(len(head.hidden)):
        x = dense(draft, x, Site(f"head/hidden_{number}"))
        x = node(graph, "Tanh" if head.activation == "tanh" else "Relu", x, name=f"head.hidden_{number}")
    x = dense(draft, x, Site("head/output"))
    if head.kind == "classify":
        add_output(graph, x, "logits", ["batch", head.outputs])
    elif head.kind == "tag":
        add_output(graph, spread(draft, x, head.outputs), "logits", ["batch", "sequence", head.outputs])
    elif head.kind == "choose":
        shape = node(graph, "Shape", "input_ids", name="choices", start=0, end=2)
        add_output(graph, node(graph, "Reshape", x, shape, name="choices"), "logits", ["batch", "choices"])
    else:
        x = spread(draft, x, head.outputs)
        for part, name in zip(nodes(graph, "Split", x, outputs=2, name="span", axis=-1), ("start", "end"), strict=True):
            value = node(graph, "Squeeze", part, constant(graph, [-1], np.int64), name=f"span.{name}")
            add_output(graph, value, f"{name}_logits", ["batch", "sequence"])


def _pooled(draft: Draft, hidden: str, head: Head | None) -> str:
    """Dense and activation on the state of the first token, [CLS]: [M, D] -> [B, D]."""
    hidden = spread(draft, hidden, draft.model.hidden_size)
    first = node(draft.graph, "Gather", hidden, constant(draft.graph, 0, np.int64), name="cls", axis=1)
    x = dense(draft, first, Site("pooler"))
    return node(draft.graph, "Relu" if head and head.activation == "relu" else "Tanh", x, name="pooler")


def activation(graph: Graph, x: str, kind: str, name: str) -> str:
    """The activation named in `Model.activation`, in the form that ONNX Runtime computes fastest on a CPU.

    gelu_erf has its usual form, which is fused to Gelu. gelu_tanh is written as x times a sigmoid, which is the same
    function, since (1 + tanh z) / 2 is sigmoid(2 z): the textbook form would be fused to FastGelu, which is slower than
    these six nodes (1.07 ms against 0.81; [128, 3072], one thread).
    """
    if kind == "relu":
        return node(graph, "Relu", x, name=name)
    if kind == "gelu_erf":
        scaled = node(graph, "Div", x, constant(graph, math.sqrt(2.0)), name=name)
        share = node(graph, "Add", node(graph, "Erf", scaled, name=name), constant(graph, 1.0), name=name)
        return node(graph, "Mul", node(graph, "Mul", x, share, name=name), constant(graph, 0.5), name=name)
    slope = 2 * math.sqrt(2.0 / math.pi)
    inner = node(graph, "Mul", node(graph, "Mul", x, x, name=name), constant(graph, 0.044715 * slope), name=name)
    inner = node(graph, "Mul", node(graph, "Add", inner, constant(graph, slope), name=name), x, name=name)
    return node(graph, "Mul", x, node(graph, "Sigmoid", inner, name=name), name=name)
