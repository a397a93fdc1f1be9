"""The encoder and a head as one ONNX model, written straight from the parameters.

Hidden states are matrices [M, D] of all tokens, so that each dense layer is one Gemm with its bias. ONNX Runtime
replaces some patterns of nodes by its own operators when it loads a file. On CPUs its Gelu and its FusedMatMul (a
product that includes the scale) are faster than the nodes that they replace. Its SkipLayerNormalization, BiasGelu and
FastGelu are slower (BERT-base, one row of 128 tokens, all layers: 11.8 ms for 2.2, 10.2 for 3.2), so their patterns are
avoided here: the first two need three axes and a separate bias; for the last see `heads.activation`.

Letters: B rows, L tokens, M = B L, E embedding, D hidden, H heads, K width of a head, V vocabulary.
Sources: model/encoder.py, which this reproduces; microsoft/onnxruntime:onnxruntime/core/optimizer (gelu_fusion.cc,
bias_gelu_fusion.cc, skip_layer_norm_fusion.cc, matmul_scale_fusion.cc) for the patterns.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Literal

import numpy as np
import onnx

import bertlite_jax
from bertlite_jax.config.model import Model
from bertlite_jax.convert.huggingface.sentence_transformers import sentence_of
from bertlite_jax.convert.onnx import repeated_layers
from bertlite_jax.convert.onnx.arithmetic import Arithmetic, Draft, Site, dense, layer_norm, spread, stored
from bertlite_jax.convert.onnx.graph import FLOAT, Graph, Layer, add_input, constant, finish, node
from bertlite_jax.convert.onnx.heads import activation, fill_mask, hidden_states, sentence, task
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights, sentence_length
from bertlite_jax.errors import UserError

__all__ = ["FAR", "Arithmetic", "Output", "Site", "build_onnx", "choose_output"]

Output = Literal["auto", "states", "fill-mask", "sentence"]

FAR = -1e9
"""Added to the scores of padding. It is finite, so that the softmax of a row of padding is defined."""


def build_onnx(weights: Weights, arithmetic: Arithmetic, output: Output = "auto") -> onnx.ModelProto:
    """The model as ONNX: opset 17, any number of rows and any length up to `max_positions`.

    Inputs, int64: `input_ids`, `attention_mask` (1 for tokens, 0 for padding) and, if the model has token types,
    `token_type_ids`; [batch, sequence], or [batch, choices, sequence] for multiple choice. Outputs, float32:

        states      last_hidden_state [B, L, D] and, if there is a pooler, pooler_output [B, D]
        fill-mask   logits [B, L, V]
        sentence    sentence_embedding [B, D], as `weights.sentence` says, and token_embeddings [B, L, D]
        classify    logits [B, C]           choose   logits [B, choices]
        tag         logits [B, L, C]        span     start_logits and end_logits, each [B, L]

    Args:
      weights: parameters, shape and head.
      arithmetic: of the products with weights, such as `float32.float32(weights)`.
      output: auto is the task head's answer if there is one, else fill-mask, else states.

    Raises:
      UserError: the weights do not have this output (`choose_output`), or are too large for a file.
    """
    graph = draw(weights, arithmetic, output)
    functions = repeated_layers.fold(graph) if arithmetic.folded else []
    return finish(graph, "bertlite", _metadata(weights, output), functions=functions)


def draw(weights: Weights, arithmetic: Arithmetic, output: Output = "auto") -> Graph:
    """The graph that `build_onnx` turns into a model: all nodes, and the parameters that they read, not copied."""
    output, head = choose_output(weights, output), weights.head
    model = weights.model.exported
    flat = parameters.exported(weights.params, weights.model)
    parameters.check_shapes(flat, model, "parameters", head)
    draft = Draft(Graph(), flat, model, arithmetic)
    ids, mask, types = _inputs(draft, choices=output == "auto" and head is not None and head.kind == "choose")
    states = _encoder(draft, ids, mask, types)
    if output == "auto" and head:
        task(draft, states, head)
    elif output == "sentence":
        sentence(draft, states, mask, sentence_of(weights, "onnx"))
    elif output == "fill-mask":
        fill_mask(draft, states)
    else:
        hidden_states(draft, states, head)
    return draft.graph


def choose_output(weights: Weights, output: Output) -> Output:
    """Resolves `auto`: with a task head it stays `auto`, else it becomes fill-mask or states.

    Raises:
      UserError: fill-mask for weights without that head, sentence for weights whose vectors cannot be exported, or the
        answer of a conditioned span head.
    """
    if output == "sentence":
        sentence_of(weights, "onnx")
    if output == "auto":
        parameters.refuse_conditioned(weights.head, "onnx")
    if output == "auto" and weights.head is None:
        return "fill-mask" if "mlm" in weights.params else "states"
    if output == "fill-mask" and "mlm" not in weights.params:
        raise UserError("convert: onnx: these weights have no masked-LM head; use --output states, sentence or auto")
    return output


def _metadata(weights: Weights, output: Output) -> dict[str, str]:
    """Metadata for somebody who has only the file; values other than texts are JSON."""
    output, head = choose_output(weights, output), weights.head
    facts = {
        "bertlite_version": bertlite_jax.__version__,
        "output": head.kind if head and output == "auto" else output,
        "model": json.dumps(dataclasses.asdict(weights.model.exported)),
    }
    if head:
        facts |= {"labels": json.dumps(head.labels, ensure_ascii=False), "problem": head.problem}
    if output == "sentence":
        how = sentence_of(weights, "onnx")
        settings = {"pooling": how.pooling, "normalize": how.normalize, "max_length": sentence_length(weights)}
        facts["sentence"] = json.dumps(settings)
    return facts


# --- The encoder ---------------------------------------------------------------------------------------------------


def _inputs(draft: Draft, choices: bool) -> tuple[str, str, str]:
    """Declares the inputs; returns ids, mask and token types ("" if none), all [B, L], with choices as rows."""
    shape = ["batch", "choices", "sequence"] if choices else ["batch", "sequence"]
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * bool(draft.model.token_types)
    values = [add_input(draft.graph, name, shape) for name in names]
    if choices:
        last = node(draft.graph, "Shape", "input_ids", name="sequence", start=-1)
        rows = node(draft.graph, "Concat", constant(draft.graph, [-1], np.int64), last, name="rows", axis=0)
        values = [node(draft.graph, "Reshape", value, rows, name=f"{value}.rows") for value in values]
    return values[0], values[1], values[2] if draft.model.token_types else ""


def _encoder(draft: Draft, ids: str, mask: str, types: str) -> str:
    """Hidden states of the last layer, [M, D]."""
    draft.graph.memo["shape"] = node(draft.graph, "Shape", ids, name="shape")
    x = _embed(draft, ids, types)
    far = _far(draft, mask)
    for layer in range(draft.model.num_layers):
        start, enters = len(draft.graph.nodes), x
        x = _block(draft, x, far, layer)
        draft.graph.layers.append(Layer(start, len(draft.graph.nodes), enters, x))
    return layer_norm(draft, x, Site("final_norm")) if draft.model.norm == "pre" else x


def _embed(draft: Draft, ids: str, types: str) -> str:
    """Rows of the tables, summed and normalised, projected before or after: [B, L] -> [M, D]."""
    graph, c, rows = draft.graph, draft.model, draft.arithmetic.rows
    zero, one = constant(graph, 0, np.int64), constant(graph, 1, np.int64)
    length = node(graph, "Gather", graph.memo["shape"], one, name="length")
    positions = node(graph, "Range", zero, length, one, name="positions")
    x = rows(graph, ids, "embeddings/word/embedding")
    if c.projects_words:
        x = node(graph, "MatMul", x, stored(draft, Site("projection"), "kernel"), name="projection")
    if types:
        if c.token_types == 1:
            # The second text of a pair comes as 1, and ONNX Runtime refuses rows that the table lacks.
            types = node(graph, "Min", types, zero, name="token_types")
        x = node(graph, "Add", x, rows(graph, types, "embeddings/token_type/embedding"), name="embeddings")
    x = node(graph, "Add", x, rows(graph, positions, "embeddings/position/embedding"), name="embeddings")
    x = node(graph, "Reshape", x, constant(graph, [-1, c.sum_size], np.int64), name="embeddings")
    x = layer_norm(draft, x, Site("embeddings/norm"))
    return dense(draft, x, Site("projection")) if c.projected and not c.projects_words else x


def _far(draft: Draft, mask: str) -> str:
    """The bias of the scores: 0 at tokens, FAR at padding; [B, L] -> [B, 1, 1, L]."""
    graph = draft.graph
    wide = node(graph, "Unsqueeze", mask, constant(graph, [1, 2], np.int64), name="mask")
    real = node(graph, "Cast", wide, name="mask", to=FLOAT)
    padding = node(graph, "Sub", constant(graph, 1.0), real, name="mask")
    return node(graph, "Mul", padding, constant(graph, FAR), name="mask")


def _site(model: Model, part: str, name: str, layer: int) -> Site:
    """The site of `layers/part/name` that layer number `layer` applies."""
    return Site(f"layers/{part}/{name}", model.stack_place(part, layer), layer)


def _block(draft: Draft, x: str, far: str, layer: int) -> str:
    """One layer, [M, D] -> [M, D]."""
    if draft.model.depth_vector:
        vector = stored(draft, Site("layers/depth", layer, layer), "bias")
        x = node(draft.graph, "Add", x, vector, name=f"layers.{layer}.depth")
    for part, apply in (("attention", _attention), ("ffn", _feed_forward)):
        norm = _site(draft.model, "norms", part, layer)
        name = f"layers.{layer}.{part}.sum"
        if draft.model.norm == "post":
            x = layer_norm(draft, node(draft.graph, "Add", apply(draft, x, far, layer), x, name=name), norm)
        else:
            x = node(draft.graph, "Add", apply(draft, layer_norm(draft, x, norm), far, layer), x, name=name)
    return x


def _attention(draft: Draft, x: str, far: str, layer: int) -> str:
    """Multi-head attention and its output product, [M, D] -> [M, D]; the output's bias [D] where there are no heads.

    The scores are scaled, not the queries: ONNX Runtime fuses that into the product (FusedMatMul's alpha).
    """
    graph, c = draft.graph, draft.model
    name, count = f"layers.{layer}.attention", c.heads_in(layer)
    if not count:
        return stored(draft, _site(c, "attention", "output", layer), "bias")

    def heads(part: str, order: list[int]) -> str:
        y = spread(draft, dense(draft, x, _site(c, "attention", part, layer)), count, c.head_size)
        return node(graph, "Transpose", y, name=f"{name}.{part}", perm=order)

    q_BHLK, k_BHKL, v_BHLK = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
    scores = node(graph, "MatMul", q_BHLK, k_BHKL, name=f"{name}.scores")
    scores = node(graph, "Mul", scores, constant(graph, 1 / math.sqrt(c.head_size)), name=f"{name}.scores")
    scores = node(graph, "Add", scores, far, name=f"{name}.scores")
    weights = node(graph, "Softmax", scores, name=f"{name}.weights", axis=-1)
    mixed = node(graph, "MatMul", weights, v_BHLK, name=f"{name}.mixed")
    mixed = node(graph, "Transpose", mixed, name=f"{name}.mixed", perm=[0, 2, 1, 3])
    mixed = node(graph, "Reshape", mixed, constant(graph, [-1, count * c.head_size], np.int64), name=f"{name}.mixed")
    return dense(draft, mixed, _site(c, "attention", "output", layer))


def _feed_forward(draft: Draft, x: str, far: str, layer: int) -> str:
    """Dense, activation, dense: [M, D] -> [M, D]; the last bias [D] where there are no neurons between them."""
    del far
    if not draft.model.ffn_size_in(layer):
        return stored(draft, _site(draft.model, "ffn", "down", layer), "bias")
    x = _widened(draft, x, "up", layer)
    x = activation(draft.graph, x, draft.model.activation, f"layers.{layer}.ffn.activation")
    return _widened(draft, x, "down", layer)


def _widened(draft: Draft, x: str, name: str, layer: int) -> str:
    """A feed-forward product, and the layer's own low-rank pair beside it if it has one; the pair in float32."""
    y = dense(draft, x, _site(draft.model, "ffn", name, layer))
    place = draft.model.stack_place("low_rank", layer)
    if place is None:
        return y
    left, right = (Site(f"layers/low_rank/{name}_{side}", place, layer) for side in ("in", "out"))
    narrow = node(draft.graph, "MatMul", x, stored(draft, left, "kernel"), name=left.name)
    return node(draft.graph, "Gemm", narrow, stored(draft, right, "addition"), y, name=right.name)
