"""Weights from the checkpoints of google-research/albert, google-research/bert and brightmart/albert_zh.

Only reading the files themselves needs TensorFlow; everything else is a pure function of arrays by name.

Sources: see `tensorflow_names`, which has the names of the variables, and `tensorflow_heads`.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from bertlite_jax.config import checks
from bertlite_jax.config.model import Model
from bertlite_jax.convert import tensorflow_heads, tensorflow_names
from bertlite_jax.convert.tensorflow_names import LEAVES, PAIR_TASKS, TABLES, TfFamily, family_of, weights_only
from bertlite_jax.convert.weights import parameters, renaming
from bertlite_jax.convert.weights.config_values import bert_shape, check_kinds, check_sizes
from bertlite_jax.convert.weights.folder import Weights, read_json
from bertlite_jax.convert.weights.head_choice import HeadChoice
from bertlite_jax.convert.weights.parameters import Flat
from bertlite_jax.convert.weights.renaming import Entry
from bertlite_jax.errors import UserError

Activation = Literal["auto", "gelu_tanh", "gelu_erf", "relu"]
CONFIGS = ("albert_config.json", "bert_config.json")


# --- From arrays -----------------------------------------------------------------------------------------------------


def from_variables(
    variables: Flat,
    config: dict[str, Any],
    where: str,
    *,
    activation: Activation = "auto",
    config_name: str = "",
    head: HeadChoice = "auto",
    labels: Sequence[str] = (),
) -> Weights:
    """Weights from a checkpoint's variables.

    Heads that the checkpoint lacks are absent, as in `huggingface.folder.from_hf`.

    Args:
      variables: arrays by the names of the checkpoint; optimiser slots, counters and a scope around the model, such as
        TF-Hub's `module/`, are ignored.
      config: what albert_config.json or bert_config.json states.
      where: named in errors, usually the checkpoint.
      activation: what `hidden_act` means; see `model_of`.
      config_name: file that `config` was read from, for errors.
      head: what a task head is for; see `tensorflow_heads.read_head`.
      labels: names of the outputs of a task head.

    Raises:
      UserError: a model of another kind; or lists every variable that is missing, unknown or wrongly shaped, or has
        values that are not finite floats.
    """
    named = tensorflow_names.released_norms(weights_only(variables), where)
    family = family_of(named, where)
    named, others = tensorflow_heads.split(named)
    model = model_of(config, family, named, config_name or where, activation)
    found = tensorflow_heads.read_head(others, model.hidden_size, where, head, labels)
    if found is None:
        flat = to_ours(named, family, model, where)
        parameters.check_finite(flat, where)
        return Weights(parameters.nest(flat), model, pair_task=PAIR_TASKS[family] if model.pair_classes else "none")
    task_head = found.head
    if task_head.pooled and not model.pooler:
        raise UserError(
            f"convert: {where}: a head for {task_head.kind} reads the pooler, and there is none (bert/pooler/dense); "
            "--head tag reads a tagger's head, --head none the encoder alone"
        )
    model = dataclasses.replace(model, pooler=task_head.pooled, pair_classes=0)
    checks.check_head(task_head, model)
    unread = ("cls/",) if task_head.pooled else ("cls/", "bert/pooler/")
    flat = to_ours({name: value for name, value in named.items() if not name.startswith(unread)}, family, model, where)
    flat |= found.params
    parameters.check_shapes(flat, model, where, task_head)
    parameters.check_finite(flat, where)
    return Weights(parameters.nest(flat), model, task_head)


def model_of(config: dict[str, Any], family: TfFamily, named: Flat, where: str, activation: Activation) -> Model:
    """The shape that a config states, with the heads that the variables have.

    Args:
      config: keys of `AlbertConfig` or `BertConfig`; missing ones get the default of that class.
      family: whose config.
      named: variables by name.
      where: the config's file, for errors.
      activation: what `hidden_act` "gelu" means. Google's code has had two forms of it. ALBERT's is the tanh form, and
        so is brightmart's. BERT was released in October 2018 with the erf form and got the tanh form in February 2019,
        so `auto` takes erf for BERT, as `transformers` does for all its weights. For a BERT that you trained with
        today's code choose gelu_tanh. The two differ by 4.7e-4 at most.

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
    check_sizes(read, where)
    # Brightmart's layers are in one group, and the tables tell how wide the words are.
    single = {"embedding_size": read["hidden_size"], "num_hidden_groups": 1} if family == "albert_zh" else {}
    shape = bert_shape(read | single, shared=family != "bert")
    if (words := named.get(tensorflow_names.WORD_PROJECTION)) is not None:
        projection = "always" if len(words) == shape["hidden_size"] else "auto"
        shape |= {"embed_size": len(words), "embedding_order": "project_then_sum", "projection": projection}
    pair = named.get("cls/seq_relationship/output_weights")
    model = Model(
        **shape,
        activation=_activation(read["hidden_act"], family, activation, where),
        pooler="bert/pooler/dense/kernel" in named,
        pair_classes=0 if pair is None else len(pair),
    )
    checks.check_model(model)
    return model


_COMMON = {"hidden_act": "gelu", "max_position_embeddings": 512, "initializer_range": 0.02}
_BERT = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "type_vocab_size": 16,
}
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
    "albert_zh": _COMMON | _BERT,
    "bert": _COMMON | _BERT,
}


def _activation(name: str, family: TfFamily, wanted: Activation, where: str) -> Any:
    if wanted != "auto":
        return wanted
    known = {"gelu": "gelu_erf" if family == "bert" else "gelu_tanh", "relu": "relu"}
    if name not in known:
        raise UserError(f"convert: {where}: hidden_act is {name}; our model has gelu and relu")
    return known[name]


def to_ours(named: Flat, family: TfFamily, model: Model, where: str) -> Flat:
    """The variables under our flat names, layers or groups stacked, f32.

    Raises:
      UserError: lists every variable that is missing, unknown or wrongly shaped.
    """
    return renaming.to_ours(entries(family, model), named, parameters.shapes(model), where, parameters.OPTIONAL_PARTS)


def entries(family: TfFamily, model: Model) -> list[Entry]:
    """Every variable of the whole model."""
    return renaming.list_entries(TABLES[family], LEAVES, parameters.shapes(model))


# --- From files ------------------------------------------------------------------------------------------------------


def from_tf(
    checkpoint: os.PathLike[str] | str,
    config: os.PathLike[str] | str | None = None,
    *,
    activation: Activation = "auto",
    head: HeadChoice = "auto",
    labels: Sequence[str] = (),
) -> Weights:
    """Reads a checkpoint of google-research/albert, google-research/bert or brightmart/albert_zh. Needs TensorFlow.

    Args:
      checkpoint: the prefix, such as albert_base/model.ckpt-best, or one of its files, or their folder.
      config: albert_config.json or bert_config.json; None: the one beside the checkpoint.
      activation: what `hidden_act` means; see `model_of`.
      head: what a task head is for; see `tensorflow_heads.read_head`.
      labels: names of the outputs of a task head.

    Returns:
      f32 arrays and their shape, without a tokenizer (`adoption.import_tf` adds that).

    Raises:
      UserError: missing or damaged files, TensorFlow is missing, and all that `from_variables` refuses.
    """
    prefix = checkpoint_prefix(checkpoint)
    place = pathlib.Path(config) if config is not None else config_beside(prefix)
    return from_variables(
        read_variables(prefix),
        read_json(place),
        str(prefix),
        activation=activation,
        config_name=str(place),
        head=head,
        labels=labels,
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
    """albert_config.json or bert_config.json in the checkpoint's folder, else the only file *config*.json."""
    present = [prefix.parent / name for name in CONFIGS if (prefix.parent / name).is_file()]
    present = present or sorted(prefix.parent.glob("*config*.json"))
    if len(present) != 1:
        found = f"several configs ({', '.join(path.name for path in present)})"
        which = found if present else f"neither {' nor '.join(CONFIGS)}"
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
        shapes = reader.get_variable_to_shape_map()
        # Nothing is read for these: they only have names and shapes.
        stored = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
        return {name: reader.get_tensor(name) for name in tensorflow_names.stored_weights(stored)}
    # TensorFlow's reader raises some errors of its C++ part as Python's built-in ones.
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise UserError(f"convert: {prefix} is damaged or incomplete: {reason}") from error
