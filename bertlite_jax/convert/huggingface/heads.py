"""Task heads in `config.json` of `transformers`, written and read: which class, which labels, which dropout."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bertlite_jax.config.model import Head
from bertlite_jax.convert.huggingface.names import HEAD_MODULES, Family
from bertlite_jax.convert.weights import parameters
from bertlite_jax.errors import UserError

STEMS: dict[Family, str] = {"albert": "Albert", "bert": "Bert", "distilbert": "DistilBert"}
TASK_CLASSES = {
    "classify": "ForSequenceClassification",
    "choose": "ForMultipleChoice",
    "tag": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}
"""The end of the class's name, by our kind of head."""

_PROBLEMS = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}

# The key of the dropout before the outputs. Three classes do not read it; there it only brings our own value back and
# changes no answer: ALBERT's and BERT's for spans (`qa_dropout`; they have no dropout there) and DistilBERT's for tags
# (`classifier_dropout`; it takes `dropout`).
_DROPOUT_KEYS: dict[Family, dict[str, str]] = {
    "albert": dict.fromkeys(TASK_CLASSES, "classifier_dropout_prob") | {"span": "qa_dropout"},
    "bert": dict.fromkeys(TASK_CLASSES, "classifier_dropout") | {"span": "qa_dropout"},
    "distilbert": dict.fromkeys(TASK_CLASSES, "seq_classif_dropout")
    | {"tag": "classifier_dropout", "span": "qa_dropout"},
}


def check_head(head: Head, family: Family) -> None:
    """Raises UserError where the family's task class cannot hold the head."""
    name = STEMS[family] + TASK_CLASSES[head.kind]
    parameters.refuse_conditioned(head, "to-hf")
    if head.hidden:
        raise UserError(
            f"convert: to-hf: head.hidden = {head.hidden}: {name} has no hidden layers between the pooled state and "
            "the outputs; fine-tune with head.hidden = ()"
        )
    pools_with = "relu" if family == "distilbert" else "tanh"
    if head.pooled and head.activation != pools_with:
        raise UserError(
            f"convert: to-hf: {name} pools with {pools_with} and this head with {head.activation}; use relu for models "
            "that fit DistilBERT (no layer sharing, token_types = 0, norm_epsilon = 1e-12), tanh for the others"
        )
    if head.kind == "classify" and head.problem == "single_label" and len(head.labels) < 2:
        raise UserError(
            f"convert: to-hf: {name} refuses a single label with head.problem = single_label; use two, or regression"
        )


def head_settings(head: Head, family: Family) -> dict[str, Any]:
    """The keys of `config.json` for a head; `read_head` reads them back."""
    values: dict[str, Any] = {_DROPOUT_KEYS[family][head.kind]: head.dropout}
    if head.kind in ("classify", "tag"):
        values["id2label"] = {str(i): label for i, label in enumerate(head.labels)}
        values["label2id"] = {label: i for i, label in enumerate(head.labels)}
    if head.kind == "classify":
        values["problem_type"] = _PROBLEMS[head.problem]
    return values


def read_head(values: dict[str, Any], family: Family, tensors: Collection[str], where: str) -> Head | None:
    """The task head of a checkpoint, by `architectures`; None for pretraining and base classes.

    Args:
      values: of config.json.
      family: its family.
      tensors: canonical names of the checkpoint's tensors.
      where: the folder, for errors.

    Raises:
      UserError: `architectures` is missing or disagrees with the tensors, or a setting that our heads do not have.
    """
    stated = [name for name in values.get("architectures") or [] if isinstance(name, str)]
    shown = ", ".join(stated) or "missing"
    kinds = [kind for kind, suffix in TASK_CLASSES.items() if STEMS[family] + suffix in stated]
    modules = [module for module in dict.fromkeys(HEAD_MODULES.values()) if f"{module}.weight" in tensors]
    if not kinds and modules:
        known = ", ".join(STEMS[family] + suffix for suffix in TASK_CLASSES.values())
        raise UserError(
            f"convert: {where}: the tensors have a task head ({modules[0]}.weight) and architectures in config.json is "
            f"{shown}; it should be one of {known}"
        )
    if not kinds:
        return None
    wanted = HEAD_MODULES[kinds[0]]
    if wanted not in modules:
        raise UserError(
            f"convert: {where}: architectures in config.json is {shown} and the tensors have no {wanted}.weight; is it "
            "the config of these weights?"
        )
    return _head(kinds[0], values, family, where)


def _head(kind: Any, values: dict[str, Any], family: Family, where: str) -> Head:
    labels = _labels(values, where) if kind in ("classify", "tag") else ()
    problem: Any = "single_label"
    if kind == "classify":
        # Without a problem type, transformers takes one label as a regression. Whether several labels are
        # independent it infers from the training data, which are not here.
        stated = values.get("problem_type") or _PROBLEMS["regression" if len(labels) == 1 else "single_label"]
        ours = {theirs: name for name, theirs in _PROBLEMS.items()}
        if stated not in ours:
            raise UserError(f"convert: {where}: problem_type is {stated}; known: {', '.join(ours)}")
        problem = ours[stated]
    relu = family == "distilbert" and kind in ("classify", "choose")
    return Head(
        kind=kind,
        labels=labels,
        problem=problem,
        activation="relu" if relu else "tanh",
        dropout=_dropout(kind, values, family),
    )


def _dropout(kind: str, values: dict[str, Any], family: Family) -> float:
    """The dropout that a config states, or else the default of the family's class."""
    stated = values.get(_DROPOUT_KEYS[family][kind])
    if stated is not None:
        return stated
    if family == "distilbert":
        return {"span": 0.1, "tag": values.get("dropout", 0.1)}.get(kind, 0.2)
    if kind == "span":
        return 0.0
    return 0.1 if family == "albert" else values.get("hidden_dropout_prob", 0.1)


def _labels(values: dict[str, Any], where: str) -> tuple[str, ...]:
    stated = values.get("id2label")
    if not stated:
        return tuple(f"LABEL_{i}" for i in range(values.get("num_labels") or 2))
    try:
        numbered = {int(number): str(label) for number, label in stated.items()}
    except (AttributeError, ValueError) as error:
        raise UserError(f"convert: {where}: id2label in config.json is not a table from numbers to names") from error
    if sorted(numbered) != list(range(len(stated))):
        raise UserError(f"convert: {where}: id2label in config.json does not count from 0: {', '.join(stated)}")
    labels = tuple(numbered[i] for i in range(len(numbered)))
    if len(set(labels)) != len(labels):
        raise UserError(f"convert: {where}: id2label in config.json has a name twice: {', '.join(labels)}")
    return labels
