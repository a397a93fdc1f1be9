"""Which parameter of ours is which variable of google-research's and brightmart's graphs.

Sources: google-research/albert@b772393 and google-research/bert@eedf571, `modeling.py` and `run_pretraining.py`;
brightmart/albert_zh@70db3e3, the same files.
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np

from bertlite_jax.config.pair_tasks import PairTask
from bertlite_jax.convert.weights import renaming
from bertlite_jax.convert.weights.parameters import Flat
from bertlite_jax.convert.weights.renaming import Module
from bertlite_jax.errors import UserError

TfFamily = Literal["albert", "albert_zh", "bert"]
"""albert: groups of layers; albert_zh: brightmart's, one shared layer; bert: numbered layers."""

_HEADS = (
    ("pooler", "bert/pooler/dense", "dense"),
    ("mlm/dense", "cls/predictions/transform/dense", "dense"),
    ("mlm/norm", "cls/predictions/transform/LayerNorm", "norm"),
    ("mlm", "cls/predictions", "output_bias"),
    ("pair", "cls/seq_relationship", "output"),
)
WORDS = "bert/embeddings/word_embeddings"
WORD_PROJECTION = f"{WORDS}_2"
"""Brightmart's projection of the words, before the sum of the embeddings."""
_EMBEDDINGS = (
    ("embeddings/word", WORDS, "table"),
    ("embeddings/position", "bert/embeddings/position_embeddings", "table"),
    ("embeddings/token_type", "bert/embeddings/token_type_embeddings", "table"),
    ("embeddings/norm", "bert/embeddings/LayerNorm", "norm"),
)
_GROUP = "bert/encoder/transformer/group_{i}/inner_group_0"
ALBERT = (
    *_EMBEDDINGS,
    ("projection", "bert/encoder/embedding_hidden_mapping_in", "dense"),
    ("layers/attention/query", f"{_GROUP}/attention_1/self/query", "dense"),
    ("layers/attention/key", f"{_GROUP}/attention_1/self/key", "dense"),
    ("layers/attention/value", f"{_GROUP}/attention_1/self/value", "dense"),
    ("layers/attention/output", f"{_GROUP}/attention_1/output/dense", "dense"),
    ("layers/norms/attention", f"{_GROUP}/LayerNorm", "norm"),
    ("layers/ffn/up", f"{_GROUP}/ffn_1/intermediate/dense", "dense"),
    ("layers/ffn/down", f"{_GROUP}/ffn_1/intermediate/output/dense", "dense"),
    ("layers/norms/ffn", f"{_GROUP}/LayerNorm_1", "norm"),
    *_HEADS,
)


def _of_layers(layer: str) -> tuple[Module, ...]:
    """The table of BERT's graph, whose layers have the scope `layer`."""
    return (
        *_EMBEDDINGS,
        ("projection", WORD_PROJECTION, "matrix"),
        ("layers/attention/query", f"{layer}/attention/self/query", "dense"),
        ("layers/attention/key", f"{layer}/attention/self/key", "dense"),
        ("layers/attention/value", f"{layer}/attention/self/value", "dense"),
        ("layers/attention/output", f"{layer}/attention/output/dense", "dense"),
        ("layers/norms/attention", f"{layer}/attention/output/LayerNorm", "norm"),
        ("layers/ffn/up", f"{layer}/intermediate/dense", "dense"),
        ("layers/ffn/down", f"{layer}/output/dense", "dense"),
        ("layers/norms/ffn", f"{layer}/output/LayerNorm", "norm"),
        *_HEADS,
    )


TABLES: dict[TfFamily, tuple[Module, ...]] = {
    "albert": ALBERT,
    "albert_zh": _of_layers("bert/encoder/layer_shared"),
    "bert": _of_layers("bert/encoder/layer_{i}"),
}
PAIR_TASKS: dict[TfFamily, PairTask] = {"albert": "sop", "albert_zh": "sop", "bert": "nsp"}
"""What the pair heads of the releases were trained on."""

# Their kernels are [in, out] like ours; only the pair head has its weights as [classes, D].
LEAVES: renaming.Leaves = {
    "table": (("embedding", "", False),),
    "matrix": (("kernel", "", False),),
    "dense": (("kernel", "/kernel", False), ("bias", "/bias", False)),
    "norm": (("scale", "/gamma", False), ("bias", "/beta", False)),
    "output_bias": (("bias", "/output_bias", False),),
    "output": (("kernel", "/output_weights", True), ("bias", "/output_bias", False)),
}

# What optimisers store beside the weights. Google's name the slots adam_m and adam_v, also for LAMB; the others are
# those of TensorFlow's own Adam and of other LAMBs.
_SLOTS = ("adam_m", "adam_v", "lamb_m", "lamb_v", "Adam", "Adam_1", "LAMB", "LAMB_1", "Lamb", "Lamb_1")
_KERAS_NORM = re.compile(r"(.*/)layer_normalization(?:_(\d+))?/(gamma|beta)")


def weights_only(variables: Flat) -> Flat:
    """The variables that are weights, by their names in Google's releases.

    What stands before `bert/` in the names of the model, such as TF-Hub's `module/`, is taken off.
    """
    anchors = [name for name in variables if f"/{name}".endswith(f"/{WORDS}")]
    scope = min(anchors, key=len, default="module/").removesuffix(WORDS)
    return {name.removeprefix(scope): variables[name] for name in stored_weights(variables)}


def stored_weights(variables: Flat) -> list[str]:
    """Names of the variables that are weights: no counters, which are scalars, and no slots of an optimiser.

    A slot is named after its weight and a slash.
    """
    return [name for name, value in variables.items() if np.ndim(value) and not _is_slot(name, variables)]


def _is_slot(name: str, variables: Flat) -> bool:
    parts = name.split("/")
    return parts[-1] in _SLOTS or any("/".join(parts[:end]) in variables for end in range(1, len(parts)))


def released_norms(named: Flat, where: str) -> Flat:
    """Norms that Keras layers named `layer_normalization_7`, under the names of the release.

    Keras counts them through the whole graph; within one scope they come in the order of the release's.

    Args:
      named: variables by name.
      where: the checkpoint, for errors.

    Raises:
      UserError: each layer has norms of its own, although the layers share the rest: no release has that; or both
        spellings of a norm are there and differ.
    """
    scopes: dict[str, set[int]] = {}
    for name in named:
        if found := _KERAS_NORM.fullmatch(name):
            scopes.setdefault(found[1], set()).add(int(found[2] or 0))
    apart = [scope for scope in scopes if re.search(r"/group_\d+_\d+/", scope)]
    if apart:
        raise UserError(
            f"convert: {where}: written through Keras layers: every layer has LayerNorms of its own ({apart[0]}"
            f"layer_normalization_{min(scopes[apart[0]])}) beside shared kernels, which neither the release nor our "
            "model has; train with the release's TensorFlow 1.15"
        )

    def released(name: str) -> str:
        if not (found := _KERAS_NORM.fullmatch(name)):
            return name
        place = sorted(scopes[found[1]]).index(int(found[2] or 0))
        return f"{found[1]}LayerNorm{f'_{place}' if place else ''}/{found[3]}"

    return renaming.renamed(named, released, where)


def family_of(named: Flat, where: str) -> TfFamily:
    """The family of a checkpoint: ALBERT's layers are in groups, BERT's are numbered, brightmart's one is shared.

    Raises:
      UserError: the variables are of none of them.
    """
    if any(name.startswith("bert/encoder/transformer/group_") for name in named):
        return "albert"
    if any(name.startswith("bert/encoder/layer_shared/") for name in named):
        return "albert_zh"
    if any(re.match(r"bert/encoder/layer_\d", name) for name in named):
        return "bert"
    if any(name.endswith("/.ATTRIBUTES/VARIABLE_VALUE") for name in named):
        raise UserError(
            f"convert: {where} is a TensorFlow 2 object checkpoint; only those of google-research/albert and bert, "
            "with names such as bert/embeddings/word_embeddings, can be read"
        )
    first_names = ", ".join(sorted(named)[:3]) or "nothing"
    raise UserError(
        f"convert: {where} is no checkpoint of google-research/albert or bert, nor of brightmart/albert_zh: it has "
        f"neither bert/encoder/transformer/group_0 nor bert/encoder/layer_0 or layer_shared, but {first_names}"
    )
