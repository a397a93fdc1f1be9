"""`config.json` of `transformers` from our `Model`, and back."""

from __future__ import annotations

from typing import Any

from bertlite_jax.config.model import Head, Model
from bertlite_jax.config.pair_tasks import PAIR_LABELS
from bertlite_jax.convert.huggingface import heads
from bertlite_jax.convert.huggingface.names import Family
from bertlite_jax.convert.weights.config_values import bert_shape, check_kinds, check_sizes
from bertlite_jax.errors import UserError

ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu_erf": "gelu", "relu": "relu"}
"""Our name to theirs. Their plain `gelu` is the erf form, which Google's code of 2019 is not."""

_ACTIVATIONS_READ = {theirs: ours for ours, theirs in ACTIVATIONS.items()} | {
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python": "gelu_erf",
}

_DISTILBERT_EPSILON = 1e-12


def choose_family(model: Model, tokenizer_kind: str | None = None, head: Head | None = None) -> Family:
    """The class family that can hold this model exactly.

    All layers shared (in groups): ALBERT. E == D and not all shared: DistilBERT where there are neither token types
    nor a pooler (or the head's pooler is DistilBERT's, with a ReLU), BERT otherwise. A model with a byte-level
    vocabulary (Bort) is a BERT too. Layers that share only a part, or all but parts of single layers, are to be written
    unshared (`names.unshare`).

    Raises:
      UserError: no class of `transformers` can hold the model, or its head.
    """
    if model.projects_words:
        raise UserError(
            'convert: to-hf: no class of transformers has embedding_order = "project_then_sum"; to-hf multiplies the '
            "projection into the word table first"
        )
    if model.pruned:
        raise UserError(
            "convert: to-hf: no class of transformers has heads and widths that differ between layers, as pruning has "
            "left them; write the model with bertlite convert onnx, whose files have them"
        )
    if model.norm == "pre":
        raise UserError('convert: to-hf: no class of transformers holds norm = "pre"; train with norm = "post"')
    if model.depth_vector:
        raise UserError(
            "convert: to-hf: no class of transformers adds a vector to the hidden states before a layer, as "
            "model.depth_vector does; ONNX and INT8 files have it"
        )
    family = _family_of_shape(model, tokenizer_kind, head)
    if head:
        heads.check_head(head, family)
    elif family == "bert" and model.pair_classes not in (0, 2):
        raise UserError(
            f"convert: to-hf: BertForPreTraining has a pair head of 2 classes, and this model's has "
            f"{model.pair_classes}; only ALBERT models can be exported with another number"
        )
    return family


def _family_of_shape(model: Model, tokenizer_kind: str | None, head: Head | None) -> Family:
    if model.share == "all":
        return "albert"
    if model.share != "none" and model.projected:
        raise UserError(
            f'convert: to-hf: no class of transformers holds share = "{model.share}" with a projection; share = "all" '
            "(as ALBERT) can be exported, and without a projection any other (as BERT, unshared)"
        )
    if model.projected:
        raise UserError(
            f"convert: to-hf: no class of transformers holds unshared layers with a projection (embed_size = "
            f'{model.embed_size}, hidden_size = {model.hidden_size}); models with share = "all" or with equal widths '
            "can be exported"
        )
    plain = _pools_like_distilbert(model, head) and model.norm_epsilon == _DISTILBERT_EPSILON
    return "distilbert" if plain and tokenizer_kind != "bpe" else "bert"


def _pools_like_distilbert(model: Model, head: Head | None) -> bool:
    pooler = head.activation == "tanh" if head and head.pooled else model.pooler
    return model.token_types == 0 and not pooler


def check_family(model: Model, family: Family, head: Head | None = None) -> None:
    """Raises UserError where the family that the caller chose cannot hold the model, or its head."""
    fits = choose_family(model, None, head)
    plain = _pools_like_distilbert(model, head)
    if family == fits:
        return
    if head and "distilbert" in (family, fits):
        heads.check_head(head, family)
    if family == "bert" and fits == "distilbert":
        return
    if family == "distilbert" and plain and fits == "bert":
        raise UserError(
            f"convert: to-hf: DistilBERT's LayerNorm epsilon is {_DISTILBERT_EPSILON} and this model's is "
            f"{model.norm_epsilon}; export it as bert"
        )
    raise UserError(f"convert: to-hf: this model cannot be exported as {family}; it fits {fits}")


def architecture_of(model: Model, family: Family, head: Head | None = None, mlm: bool = True) -> str:
    """Name of the class that has exactly this model's heads.

    Args:
      model: what is exported.
      family: whose classes.
      head: of a task model.
      mlm: whether there is a masked-LM head; a task model has none in any case.
    """
    stem = heads.STEMS[family]
    if head:
        return stem + heads.TASK_CLASSES[head.kind]
    if mlm:
        return stem + ("ForPreTraining" if model.pair_classes else "ForMaskedLM")
    return stem + ("ForNextSentencePrediction" if model.pair_classes and family == "bert" else "Model")


def to_config(
    model: Model,
    family: Family,
    special_ids: dict[str, int],
    pair_task: str,
    head: Head | None = None,
    mlm: bool = True,
) -> dict[str, Any]:
    """The contents of `config.json`.

    Args:
      model: the shape; `choose_family` accepted it.
      family: whose classes.
      special_ids: ids of `pad`, `cls` and `sep`.
      pair_task: stored as `pair_task`, and names the classes of a pair head of more than two.
      head: as for `architecture_of`.
      mlm: as for `architecture_of`.
    """
    config = {"architectures": [architecture_of(model, family, head, mlm)]}
    config |= _shape_settings(model, family, special_ids, pair_task)
    return config | (heads.head_settings(head, family) if head else {})


def _shape_settings(model: Model, family: Family, special_ids: dict[str, int], pair_task: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_type": family,
        "dtype": "float32",
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.max_positions,
        "initializer_range": model.init_std,
        "pad_token_id": special_ids["pad"],
        "tie_word_embeddings": True,
    }
    activation = ACTIVATIONS[model.activation]
    if family == "distilbert":
        return config | {
            "dim": model.hidden_size,
            "n_layers": model.num_layers,
            "n_heads": model.num_heads,
            "hidden_dim": model.ffn_size,
            "activation": activation,
            "dropout": model.hidden_dropout,
            "attention_dropout": model.attention_dropout,
            "sinusoidal_pos_embds": False,
        }
    config |= {
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "intermediate_size": model.ffn_size,
        "hidden_act": activation,
        "hidden_dropout_prob": model.hidden_dropout,
        "attention_probs_dropout_prob": model.attention_dropout,
        "type_vocab_size": max(1, model.token_types),
        "layer_norm_eps": model.norm_epsilon,
    }
    if model.pair_classes:
        config["pair_task"] = pair_task
    if model.pair_classes not in (0, 2):
        labels = PAIR_LABELS.get(pair_task, ())
        names = {str(i): labels[i] if i < len(labels) else f"LABEL_{i}" for i in range(model.pair_classes)}
        config |= {"id2label": names, "label2id": {name: int(i) for i, name in names.items()}}
    if family == "albert":
        config |= {
            "embedding_size": model.embed_size,
            "num_hidden_groups": model.share_groups,
            "inner_group_num": 1,
            "classifier_dropout_prob": 0.1,
            "bos_token_id": special_ids["cls"],
            "eos_token_id": special_ids["sep"],
        }
    return config


# --- Reading ---------------------------------------------------------------------------------------------------------

_DEFAULTS: dict[Family, dict[str, Any]] = {
    "albert": {
        "vocab_size": 30_000,
        "embedding_size": 128,
        "hidden_size": 4096,
        "num_hidden_layers": 12,
        "num_hidden_groups": 1,
        "num_attention_heads": 64,
        "intermediate_size": 16_384,
        "inner_group_num": 1,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
    },
    "bert": {
        "vocab_size": 30_522,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
    },
    "distilbert": {
        "vocab_size": 30_522,
        "dim": 768,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 3072,
        "activation": "gelu",
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "max_position_embeddings": 512,
        "initializer_range": 0.02,
    },
}
"""Values for keys that a `config.json` leaves out: the defaults of the classes in transformers 5.23."""


_OPTIONAL: dict[str, tuple[type, ...]] = {
    "problem_type": (str,),
    "pair_task": (str,),
    "num_labels": (int,),
    "id2label": (dict,),
    "classifier_dropout_prob": (int, float),
    "classifier_dropout": (int, float),
    "seq_classif_dropout": (int, float),
    "qa_dropout": (int, float),
    "dropout": (int, float),
    "hidden_dropout_prob": (int, float),
}
"""Types of the keys that say something about heads; each may be null or missing."""


def check_types(values: dict[str, Any], where: str) -> None:
    """Raises UserError for a key about classes and heads whose value has another type than transformers writes.

    Args:
      values: contents of a `config.json`.
      where: the file.
    """
    classes = values.get("architectures")
    if classes is not None and not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise UserError(
            f'convert: {where}: architectures is {classes!r}; it should be a list of names such as ["BertForMaskedLM"]'
        )
    for key, kinds in _OPTIONAL.items():
        value = values.get(key)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            wanted = {str: "a text", dict: "a table", int: "a whole number" if kinds == (int,) else "a number"}[
                kinds[0]
            ]
            raise UserError(f"convert: {where}: {key} is {value!r}; it should be {wanted}")


def from_config(values: dict[str, Any], where: str) -> tuple[Family, Model]:
    """The family and the shape that a `config.json` states.

    `pooler` and `pair_classes` are off: the tensors and `heads.read_head` tell which heads there are.

    Raises:
      UserError: another model type, or a setting that our model does not have.
    """
    family = values.get("model_type")
    if not isinstance(family, str) or family not in _DEFAULTS:
        raise UserError(f"convert: {where}: model_type is {family}; only albert, bert and distilbert can be read")
    read = _DEFAULTS[family] | values
    check_kinds(read, _DEFAULTS[family], where)
    check_sizes(read, where)
    _check_supported(read, where)
    if family == "distilbert":
        return family, Model(
            vocab_size=read["vocab_size"],
            max_positions=read["max_position_embeddings"],
            init_std=read["initializer_range"],
            pooler=False,
            pair_classes=0,
            embed_size=read["dim"],
            hidden_size=read["dim"],
            num_layers=read["n_layers"],
            num_heads=read["n_heads"],
            ffn_size=read["hidden_dim"],
            token_types=0,
            share="none",
            activation=_activation(read["activation"], where),
            norm_epsilon=_DISTILBERT_EPSILON,
            hidden_dropout=read["dropout"],
            attention_dropout=read["attention_dropout"],
        )
    return family, Model(
        **bert_shape(read, shared=family == "albert"),
        pooler=False,
        pair_classes=0,
        activation=_activation(read["hidden_act"], where),
        norm_epsilon=read["layer_norm_eps"],
    )


def _activation(name: str, where: str) -> Any:
    if name not in _ACTIVATIONS_READ:
        known = ", ".join(_ACTIVATIONS_READ)
        raise UserError(f"convert: {where}: our model has no activation {name}; known: {known}")
    return _ACTIVATIONS_READ[name]


def _check_supported(read: dict[str, Any], where: str) -> None:
    """Raises UserError for a setting that changes the outputs and that our model does not have."""
    supported = {"inner_group_num": 1, "position_embedding_type": "absolute", "is_decoder": False}
    if read.get("pruned_heads"):
        raise UserError(f"convert: {where}: pruned_heads: our model has all heads; save it with pruned_heads = {{}}")
    for name, value in supported.items():
        if read.get(name, value) != value:
            raise UserError(f"convert: {where}: {name} is {read[name]}; our model supports only {value}")
