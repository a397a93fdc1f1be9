"""Weights from the checkpoints of google-research/albert and google-research/bert.

Only reading the files themselves needs TensorFlow; everything else is a pure function of arrays by name.

Sources: google-research/albert@b772393 and google-research/bert@eedf571, `modeling.py` and `run_pretraining.py`.
"""

from __future__ import annotations

import os
import pathlib
import re
from typing import Any, Literal

import numpy as np

from bertlite_jax.config import checks
from bertlite_jax.config.model import Model
from bertlite_jax.config.pair_tasks import PairTask
from bertlite_jax.convert.weights import renaming
from bertlite_jax.convert.weights.config_values import bert_shape, check_kinds
from bertlite_jax.convert.weights.folder import Weights, read_json
from bertlite_jax.convert.weights.parameters import OPTIONAL_PARTS, Flat, nest, shapes
from bertlite_jax.convert.weights.renaming import Entry, Module
from bertlite_jax.errors import UserError

TfFamily = Literal["albert", "bert"]
Activation = Literal["auto", "gelu_tanh", "gelu_erf", "relu"]
CONFIGS = ("albert_config.json", "bert_config.json")

_HEADS = (
    ("pooler", "bert/pooler/dense", "dense"),
    ("mlm/dense", "cls/predictions/transform/dense", "dense"),
    ("mlm/norm", "cls/predictions/transform/LayerNorm", "norm"),
    ("mlm", "cls/predictions", "output_bias"),
    ("pair", "cls/seq_relationship", "output"),
)
_EMBEDDINGS = (
    ("embeddings/word", "bert/embeddings/word_embeddings", "table"),
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
_LAYER = "bert/encoder/layer_{i}"
BERT = (
    *_EMBEDDINGS,
    ("layers/attention/query", f"{_LAYER}/attention/self/query", "dense"),
    ("layers/attention/key", f"{_LAYER}/attention/self/key", "dense"),
    ("layers/attention/value", f"{_LAYER}/attention/self/value", "dense"),
    ("layers/attention/output", f"{_LAYER}/attention/output/dense", "dense"),
    ("layers/norms/attention", f"{_LAYER}/attention/output/LayerNorm", "norm"),
    ("layers/ffn/up", f"{_LAYER}/intermediate/dense", "dense"),
    ("layers/ffn/down", f"{_LAYER}/output/dense", "dense"),
    ("layers/norms/ffn", f"{_LAYER}/output/LayerNorm", "norm"),
    *_HEADS,
)
TABLES: dict[TfFamily, tuple[Module, ...]] = {"albert": ALBERT, "bert": BERT}
PAIR_TASKS: dict[TfFamily, PairTask] = {"albert": "sop", "bert": "nsp"}
"""What the pair heads of the releases were trained on."""

# Their kernels are [in, out] like ours; only the pair head has its weights as [classes, D].
_LEAVES: renaming.Leaves = {
    "table": (("embedding", "", False),),
    "dense": (("kernel", "/kernel", False), ("bias", "/bias", False)),
    "norm": (("scale", "/gamma", False), ("bias", "/beta", False)),
    "output_bias": (("bias", "/output_bias", False),),
    "output": (("kernel", "/output_weights", True), ("bias", "/output_bias", False)),
}

# What optimisers store beside the weights. Google's name the slots adam_m and adam_v, also for LAMB; the others are
# those of TensorFlow's own Adam and of other LAMBs.
_SLOTS = ("adam_m", "adam_v", "lamb_m", "lamb_v", "Adam", "Adam_1", "LAMB", "LAMB_1", "Lamb", "Lamb_1")
_COUNTERS = ("global_step", "beta1_power", "beta2_power")


# --- From arrays -----------------------------------------------------------------------------------------------------


def from_variables(
    variables: Flat, config: dict[str, Any], where: str, *, activation: Activation = "auto", config_name: str = ""
) -> Weights:
    """Weights from a checkpoint's variables.

    Heads that the checkpoint lacks are absent, as in `huggingface.folder.from_hf`.

    Args:
      variables: arrays by the names of the checkpoint; optimiser slots, counters and the prefix `module/` of TF-Hub are
        ignored.
      config: what albert_config.json or bert_config.json states.
      where: named in errors, usually the checkpoint.
      activation: what `hidden_act` means; see `model_of`.
      config_name: file that `config` was read from, for errors.

    Raises:
      UserError: a model of another kind; or lists every variable that is missing, unknown or wrongly shaped.
    """
    named = weights_only(variables)
    family = family_of(named, where)
    model = model_of(config, family, named, config_name or where, activation)
    params = nest(to_ours(named, family, model, where))
    pair_task = PAIR_TASKS[family] if model.pair_classes else "none"
    return Weights(params, model, pair_task=pair_task)


def weights_only(variables: Flat) -> Flat:
    """The variables that are weights, by their names in Google's releases."""
    named = {name.removeprefix("module/"): value for name, value in variables.items()}
    return {
        name: value for name, value in named.items() if name not in _COUNTERS and name.rsplit("/", 1)[-1] not in _SLOTS
    }


def family_of(named: Flat, where: str) -> TfFamily:
    """The family of a checkpoint: ALBERT's layers are in groups, BERT's are numbered.

    Raises:
      UserError: the variables are of neither.
    """
    if any(name.startswith("bert/encoder/transformer/group_") for name in named):
        return "albert"
    if any(name.startswith("bert/encoder/layer_") for name in named):
        return "bert"
    if "_CHECKPOINTABLE_OBJECT_GRAPH" in named:
        raise UserError(
            f"convert: {where} is a TensorFlow 2 object checkpoint; only those of google-research/albert and bert, "
            "with names such as bert/embeddings/word_embeddings, can be read"
        )
    first_names = ", ".join(sorted(named)[:3]) or "nothing"
    raise UserError(
        f"convert: {where} is no checkpoint of google-research/albert or bert: it has neither "
        f"bert/encoder/transformer/group_0 nor bert/encoder/layer_0, but {first_names}"
    )


def model_of(config: dict[str, Any], family: TfFamily, named: Flat, where: str, activation: Activation) -> Model:
    """The shape that a config states, with the heads that the variables have.

    Args:
      config: keys of `AlbertConfig` or `BertConfig`; missing ones get the default of that class.
      family: whose config.
      named: variables by name.
      where: the config's file, for errors.
      activation: what `hidden_act` "gelu" means. Google's code has had two forms of it. ALBERT's is the tanh form.
        BERT was released in October 2018 with the erf form and got the tanh form in February 2019, so `auto` takes erf
        for BERT, as `transformers` does for all its weights. For a BERT that you trained with today's code choose
        gelu_tanh. The two differ by 4.7e-4 at most.

    Raises:
      UserError: a setting that our model does not have.
    """
    read = _DEFAULTS[family] | config
    if "vocab_size" not in read:
        raise UserError(f"convert: {where}: no vocab_size; is it albert_config.json or bert_config.json?")
    for key, value in (("inner_group_num", 1), ("ln_type", "postln")):
        if read.get(key, value) != value:
            raise UserError(f"convert: {where}: {key} is {read[key]}; our model supports only {value}")
    check_kinds(read, {"vocab_size": 30_000, **_DEFAULTS[family]}, where)
    pair = named.get("cls/seq_relationship/output_weights")
    model = Model(
        **bert_shape(read, shared=family == "albert"),
        activation=_activation(read["hidden_act"], family, activation, where),
        pooler="bert/pooler/dense/kernel" in named,
        pair_classes=0 if pair is None else len(pair),
    )
    checks.check_model(model)
    return model


_COMMON = {"hidden_act": "gelu", "max_position_embeddings": 512, "initializer_range": 0.02}
_DEFAULTS: dict[TfFamily, dict[str, Any]] = {
    "albert": _COMMON
    | {
        "embedding_size": 128,
        "hidden_size": 4096,
        "num_hidden_layers": 12,
        "num_hidden_groups": 1,
        "num_attention_heads": 64,
        "intermediate_size": 16_384,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "type_vocab_size": 2,
    },
    "bert": _COMMON
    | {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "type_vocab_size": 16,
    },
}


def _activation(name: str, family: TfFamily, wanted: Activation, where: str) -> Any:
    if wanted != "auto":
        return wanted
    known = {"gelu": "gelu_tanh" if family == "albert" else "gelu_erf", "relu": "relu"}
    if name not in known:
        raise UserError(f"convert: {where}: hidden_act is {name}; our model has gelu and relu")
    return known[name]


def to_ours(named: Flat, family: TfFamily, model: Model, where: str) -> Flat:
    """The variables under our flat names, layers or groups stacked, f32.

    Raises:
      UserError: lists every variable that is missing, unknown or wrongly shaped.
    """
    return renaming.to_ours(entries(family, model), named, shapes(model), where, OPTIONAL_PARTS)


def entries(family: TfFamily, model: Model) -> list[Entry]:
    """Every variable of the whole model."""
    return renaming.list_entries(TABLES[family], _LEAVES, shapes(model))


# --- From files ------------------------------------------------------------------------------------------------------


def from_tf(
    checkpoint: os.PathLike[str] | str,
    config: os.PathLike[str] | str | None = None,
    *,
    activation: Activation = "auto",
) -> Weights:
    """Reads a checkpoint of google-research/albert or google-research/bert. Needs TensorFlow.

    Args:
      checkpoint: the prefix, such as albert_base/model.ckpt-best, or one of its files, or their folder.
      config: albert_config.json or bert_config.json; None: the one beside the checkpoint.
      activation: what `hidden_act` means; see `model_of`.

    Returns:
      f32 arrays and their shape, without a tokenizer (`adoption.import_tf` adds that).

    Raises:
      UserError: missing or damaged files, TensorFlow is missing, and all that `from_variables` refuses.
    """
    prefix = checkpoint_prefix(checkpoint)
    place = pathlib.Path(config) if config is not None else config_beside(prefix)
    return from_variables(
        read_variables(prefix), read_json(place), str(prefix), activation=activation, config_name=str(place)
    )


def checkpoint_prefix(checkpoint: os.PathLike[str] | str) -> pathlib.Path:
    """The common prefix of a checkpoint's files: `x/model.ckpt-5` for x/model.ckpt-5.index and its data.

    For a folder of several checkpoints it is that of the newest, which the file `checkpoint` names.
    """
    path = pathlib.Path(checkpoint)
    if path.is_dir():
        path = _in_folder(path)
    prefix = path.with_name(re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name))
    if not prefix.with_name(f"{prefix.name}.index").is_file():
        raise UserError(
            f"convert: {prefix}.index does not exist; name a TensorFlow checkpoint, its .index or its folder"
        )
    return prefix


def _in_folder(folder: pathlib.Path) -> pathlib.Path:
    indices = sorted(folder.glob("*.index"))
    if len(indices) == 1:
        return indices[0]
    if not indices:
        raise UserError(f"convert: {folder} has no TensorFlow checkpoint (no .index file)")
    state = folder / "checkpoint"
    text = state.read_text(encoding="utf-8") if state.is_file() else ""
    newest = re.search(r'^model_checkpoint_path: "(.+)"', text, re.MULTILINE)
    if not newest:
        names = ", ".join(path.stem for path in indices[:8])
        raise UserError(f"convert: {folder} has several checkpoints: {names}; name one of them")
    # The path was written where the model was trained; the files are here.
    return folder / pathlib.PurePosixPath(newest[1]).name


def config_beside(prefix: pathlib.Path) -> pathlib.Path:
    """albert_config.json or bert_config.json in the checkpoint's folder."""
    present = [prefix.parent / name for name in CONFIGS if (prefix.parent / name).is_file()]
    if len(present) != 1:
        which = f"both {' and '.join(CONFIGS)}" if present else f"neither {' nor '.join(CONFIGS)}"
        raise UserError(f"convert: {prefix.parent} has {which}; pass --config FILE")
    return present[0]


def read_variables(prefix: pathlib.Path) -> Flat:
    """All weights of a checkpoint by name; the optimiser's, two thirds of most files, are not read."""
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        raise UserError(
            f'convert: {prefix} needs TensorFlow to be read; pip install "bertlite_jax[tensorflow]"'
        ) from error
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        stored = {name: np.empty(0) for name in reader.get_variable_to_shape_map()}
        wanted = weights_only(stored)
        return {name: reader.get_tensor(name) for name in stored if name.removeprefix("module/") in wanted}
    # TensorFlow's reader raises some errors of its C++ part as Python's built-in ones.
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise UserError(f"convert: {prefix} is damaged or incomplete: {reason}") from error
