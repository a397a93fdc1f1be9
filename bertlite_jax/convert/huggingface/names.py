"""Which parameter of ours is which tensor of `transformers`: one table for each family, read in both directions.

Our parameters are nested dictionaries whose layers are stacked along a leading axis and whose kernels are [in, out].
PyTorch has one tensor for each layer (or group of layers) and stores kernels as [out, in]. The tables name every pair
of modules once; everything else (transposition, stacking, shapes) follows from the kind of module.

A task head takes the place of the pretraining heads: `table(family, head)`. Sources: the state dictionaries of
transformers 5.23, `models/{albert,bert,distilbert}/modeling_*.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.weights import renaming
from bertlite_jax.convert.weights.parameters import OPTIONAL_PARTS, Flat, check_shapes, shapes, trim_vocabulary
from bertlite_jax.convert.weights.renaming import Entry, Module

Family = Literal["albert", "bert", "distilbert"]

_ALBERT_LAYER = "albert.encoder.albert_layer_groups.{i}.albert_layers.0"
ALBERT = (
    ("embeddings/word", "albert.embeddings.word_embeddings", "embedding"),
    ("embeddings/position", "albert.embeddings.position_embeddings", "embedding"),
    ("embeddings/token_type", "albert.embeddings.token_type_embeddings", "embedding"),
    ("embeddings/norm", "albert.embeddings.LayerNorm", "norm"),
    ("projection", "albert.encoder.embedding_hidden_mapping_in", "dense"),
    ("layers/attention/query", f"{_ALBERT_LAYER}.attention.query", "dense"),
    ("layers/attention/key", f"{_ALBERT_LAYER}.attention.key", "dense"),
    ("layers/attention/value", f"{_ALBERT_LAYER}.attention.value", "dense"),
    ("layers/attention/output", f"{_ALBERT_LAYER}.attention.dense", "dense"),
    ("layers/norms/attention", f"{_ALBERT_LAYER}.attention.LayerNorm", "norm"),
    ("layers/ffn/up", f"{_ALBERT_LAYER}.ffn", "dense"),
    ("layers/ffn/down", f"{_ALBERT_LAYER}.ffn_output", "dense"),
    ("layers/norms/ffn", f"{_ALBERT_LAYER}.full_layer_layer_norm", "norm"),
    ("pooler", "albert.pooler", "dense"),
    ("mlm", "predictions", "bias"),
    ("mlm/dense", "predictions.dense", "dense"),
    ("mlm/norm", "predictions.LayerNorm", "norm"),
    ("pair", "sop_classifier.classifier", "dense"),
)

_BERT_LAYER = "bert.encoder.layer.{i}"
BERT = (
    ("embeddings/word", "bert.embeddings.word_embeddings", "embedding"),
    ("embeddings/position", "bert.embeddings.position_embeddings", "embedding"),
    ("embeddings/token_type", "bert.embeddings.token_type_embeddings", "embedding"),
    ("embeddings/norm", "bert.embeddings.LayerNorm", "norm"),
    ("layers/attention/query", f"{_BERT_LAYER}.attention.self.query", "dense"),
    ("layers/attention/key", f"{_BERT_LAYER}.attention.self.key", "dense"),
    ("layers/attention/value", f"{_BERT_LAYER}.attention.self.value", "dense"),
    ("layers/attention/output", f"{_BERT_LAYER}.attention.output.dense", "dense"),
    ("layers/norms/attention", f"{_BERT_LAYER}.attention.output.LayerNorm", "norm"),
    ("layers/ffn/up", f"{_BERT_LAYER}.intermediate.dense", "dense"),
    ("layers/ffn/down", f"{_BERT_LAYER}.output.dense", "dense"),
    ("layers/norms/ffn", f"{_BERT_LAYER}.output.LayerNorm", "norm"),
    ("pooler", "bert.pooler.dense", "dense"),
    ("mlm", "cls.predictions", "bias"),
    ("mlm/dense", "cls.predictions.transform.dense", "dense"),
    ("mlm/norm", "cls.predictions.transform.LayerNorm", "norm"),
    ("pair", "cls.seq_relationship", "dense"),
)

_DISTILBERT_LAYER = "distilbert.transformer.layer.{i}"
DISTILBERT = (
    ("embeddings/word", "distilbert.embeddings.word_embeddings", "embedding"),
    ("embeddings/position", "distilbert.embeddings.position_embeddings", "embedding"),
    ("embeddings/norm", "distilbert.embeddings.LayerNorm", "norm"),
    ("layers/attention/query", f"{_DISTILBERT_LAYER}.attention.q_lin", "dense"),
    ("layers/attention/key", f"{_DISTILBERT_LAYER}.attention.k_lin", "dense"),
    ("layers/attention/value", f"{_DISTILBERT_LAYER}.attention.v_lin", "dense"),
    ("layers/attention/output", f"{_DISTILBERT_LAYER}.attention.out_lin", "dense"),
    ("layers/norms/attention", f"{_DISTILBERT_LAYER}.sa_layer_norm", "norm"),
    ("layers/ffn/up", f"{_DISTILBERT_LAYER}.ffn.lin1", "dense"),
    ("layers/ffn/down", f"{_DISTILBERT_LAYER}.ffn.lin2", "dense"),
    ("layers/norms/ffn", f"{_DISTILBERT_LAYER}.output_layer_norm", "norm"),
    ("mlm", "vocab_projector", "bias"),
    ("mlm/dense", "vocab_transform", "dense"),
    ("mlm/norm", "vocab_layer_norm", "norm"),
)

TABLES: dict[Family, tuple[Module, ...]] = {"albert": ALBERT, "bert": BERT, "distilbert": DISTILBERT}

HEAD_MODULES = {"classify": "classifier", "choose": "classifier", "tag": "classifier", "span": "qa_outputs"}
"""The last layer of the task classes, by the head's kind; it is the same in all families."""

PRETRAINING_HEADS = ("mlm", "pair")

_LEAVES: renaming.Leaves = {
    "embedding": (("embedding", ".weight", False),),
    "dense": (("kernel", ".weight", True), ("bias", ".bias", False)),
    "norm": (("scale", ".weight", False), ("bias", ".bias", False)),
    "bias": (("bias", ".bias", False),),
}


def table(family: Family, head: Head | None = None) -> tuple[Module, ...]:
    """The modules of the pretraining classes, or of the task class with `head`.

    A task class has no pretraining heads, and a pooler only where the head reads it. DistilBERT has no pooler in its
    base model; the one of its task classes is called `pre_classifier`.
    """
    if head is None:
        return TABLES[family]
    left_out = PRETRAINING_HEADS if head.pooled else (*PRETRAINING_HEADS, "pooler")
    rows = [row for row in TABLES[family] if row[0].split("/")[0] not in left_out]
    if family == "distilbert" and head.pooled:
        rows.append(("pooler", "pre_classifier", "dense"))
    return (*rows, ("head/output", HEAD_MODULES[head.kind], "dense"))


def family_shapes(family: Family, model: Model, head: Head | None = None) -> dict[str, tuple[int, ...]]:
    """Our shapes as the family's classes need them: the vocabulary trimmed, and two parts that our model may lack.

    ALBERT classes always have the projection; BERT and ALBERT classes always have a token-type table. Where our model
    lacks them, `complete` adds an identity and a row of zeros.
    """
    needed = shapes(dataclasses.replace(model, vocab_multiple=1), head)
    if family == "albert":
        needed["projection/kernel"] = (model.embed_size, model.hidden_size)
        needed["projection/bias"] = (model.hidden_size,)
    if family != "distilbert":
        needed["embeddings/token_type/embedding"] = (max(1, model.token_types), model.embed_size)
    return needed


def complete(flat: Flat, family: Family, model: Model) -> Flat:
    """Adds the parts that the family's classes always have and our model lacks; neither changes any output."""
    flat = dict(flat)
    if family == "albert" and not model.projected:
        flat["projection/kernel"] = np.eye(model.hidden_size, dtype=np.float32)
        flat["projection/bias"] = np.zeros(model.hidden_size, np.float32)
    if family != "distilbert" and model.token_types == 0:
        flat["embeddings/token_type/embedding"] = np.zeros((1, model.embed_size), np.float32)
    return flat


def reduce(flat: Flat, family: Family, model: Model) -> tuple[Flat, Model]:
    """The inverse of `complete`: drops an identity projection and a single row of zero token types.

    A projection between equal widths that was trained stays, as `Model.projection` "always".
    """
    flat = dict(flat)
    if family == "albert" and not model.projected:
        kernel, bias = flat["projection/kernel"], flat["projection/bias"]
        if np.array_equal(kernel, np.eye(model.hidden_size)) and not bias.any():
            del flat["projection/kernel"], flat["projection/bias"]
        else:
            model = dataclasses.replace(model, projection="always")
    table = flat.get("embeddings/token_type/embedding")
    if table is not None and len(table) == 1 and not table.any():
        del flat["embeddings/token_type/embedding"]
        model = dataclasses.replace(model, token_types=0)
    return flat, model


def fold_words(flat: Flat, model: Model) -> tuple[Flat, Model]:
    """The same function with the projection of the words multiplied into their table: [V, E] becomes [V, D].

    The masked-LM head goes back through the projection and then to the table, so it is tied to the product as well.
    """
    flat = dict(flat)
    words = "embeddings/word/embedding"
    flat[words] = flat[words].astype(np.float32) @ flat.pop("projection/kernel").astype(np.float32)
    return flat, folded_shape(model)


def folded_shape(model: Model) -> Model:
    """The shape that `fold_words` leaves; other models stay as they are."""
    if not model.projects_words:
        return model
    return dataclasses.replace(
        model, embed_size=model.hidden_size, embedding_order="sum_then_project", projection="auto"
    )


def unshare(flat: Flat, model: Model) -> tuple[Flat, Model]:
    """The same function without layer sharing: every layer gets what it applies.

    All stacks become [N, ...], and low-rank pairs are multiplied into the kernels; the rest stays as it is. Layers that
    shared everything are written as groups of one layer each, so that the classes stay the same; others as unshared.
    """
    flat = dict(flat)
    pairs = {path: flat.pop(path) for path in list(flat) if path.startswith("layers/low_rank/")}
    for path in [path for path in flat if path.startswith("layers/")]:
        part = path.split("/")[1]
        places = [model.stack_place(part, layer) for layer in range(model.num_layers)]
        flat[path] = flat[path][[place for place in places if place is not None]]  # Every layer has these parts.
    for name in ("up", "down") if pairs else ():
        left, right = pairs[f"layers/low_rank/{name}_in/kernel"], pairs[f"layers/low_rank/{name}_out/addition"]
        flat[f"layers/ffn/{name}/kernel"][list(model.sharing_layers)] += left @ right
    return flat, unshared_shape(model)


def unshared_shape(model: Model) -> Model:
    """The shape that `unshare` leaves."""
    if model.share != "all":
        return dataclasses.replace(model, share="none", share_groups=1)
    return dataclasses.replace(
        model, share_groups=model.num_layers, own_norms=False, low_rank=0, own_first=0, own_last=0
    )


def entries(family: Family, model: Model, head: Head | None = None) -> list[Entry]:
    """Every tensor that a checkpoint of this family, shape and head has, without tied copies."""
    return renaming.list_entries(table(family, head), _LEAVES, family_shapes(family, model, head))


def to_theirs(flat: Flat, family: Family, model: Model, head: Head | None = None) -> Flat:
    """Our parameters under their names, f32, contiguous.

    Args:
      flat: parameters by flat name, the vocabulary padded or trimmed; pretraining heads may be missing as a whole.
      family: whose names.
      model: the shape, one that the family can hold (`config.check_family`).
      head: of a task model.

    Raises:
      UserError: lists every parameter that is missing, unknown or wrongly shaped.
    """
    trimmed = dataclasses.replace(model, vocab_multiple=1)
    flat = trim_vocabulary(flat, model)
    check_shapes(flat, trimmed, "parameters", head)
    flat = complete(flat, family, model)
    tensors = {}
    for entry in entries(family, model, head):
        if entry.ours not in flat:
            continue
        value = flat[entry.ours] if entry.index is None else flat[entry.ours][entry.index]
        # safetensors writes the buffer as it is in memory, so a transposed view would come out scrambled.
        tensors[entry.theirs] = np.ascontiguousarray(value.T if entry.transposed else value, dtype=np.float32)
    return tensors


def to_ours(tensors: Flat, family: Family, model: Model, where: str, head: Head | None = None) -> Flat:
    """Their tensors under our names, stacked, f32; the inverse of `to_theirs`.

    Args:
      tensors: by their canonical names (`foreign_names.canonical_names`).
      family: whose names.
      model: the shape that their config states; `pooler` and `pair_classes` as the tensors have them.
      where: named in errors, usually the folder.
      head: of a task model; its class needs every part that it has.

    Raises:
      UserError: lists every tensor that is missing, unknown or wrongly shaped.
    """
    optional = () if head else OPTIONAL_PARTS
    return renaming.to_ours(entries(family, model, head), tensors, family_shapes(family, model, head), where, optional)


def base_names(tensors: Flat, family: Family) -> Flat:
    """Names as the family's base class writes them, without the prefix; `foreign_names.canonical_names` restores it."""
    return {name.removeprefix(f"{family}."): value for name, value in tensors.items()}
