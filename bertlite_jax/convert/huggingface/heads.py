"""Task heads in `config.json` of `transformers`, written and read: which class, which labels, which dropout."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert.huggingface.foreign_names import class_name
from bertlite_jax.convert.huggingface.names import HEAD_MODULES, Family
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.head_choice import KINDS, ROWS, HeadChoice, HeadKind, named_outputs
from bertlite_jax.convert.weights.label_order import UNNAMED
from bertlite_jax.convert.weights.parameters import Flat
from bertlite_jax.errors import UserError

_LOG = logging.getLogger(__name__)

STEMS: dict[Family, str] = {"albert": "Albert", "bert": "Bert", "distilbert": "DistilBert"}
TASK_CLASSES: dict[HeadKind, str] = {
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


# --- Reading ---------------------------------------------------------------------------------------------------------


def read_head(
    values: dict[str, Any],
    family: Family,
    tensors: Flat,
    where: str,
    wanted: HeadChoice = "auto",
    labels: Sequence[str] = (),
) -> Head | None:
    """The task head of a checkpoint; None for pretraining and base classes.

    Args:
      values: of config.json.
      family: its family.
      tensors: by canonical names; the head's last layer has the name of the family's class.
      where: the folder, for errors.
      wanted: what the head is for; auto: `architectures` says so.
      labels: names of its outputs; empty: those of the config.

    Raises:
      UserError: `architectures` is missing or disagrees with the tensors, the labels do not fit the rows of the head,
        or a setting that our heads do not have.
    """
    kind = KINDS.get(wanted) or (None if wanted == "none" else _stated_kind(values, family, tensors, where))
    if kind is None:
        if labels:
            raise UserError(f"convert: {where}: --labels, and there is no task head whose outputs they would name")
        return None
    if labels and kind in ROWS:
        raise UserError(f"convert: {where}: --labels, but the outputs of a head for {kind} have no names")
    module = HEAD_MODULES[kind]
    if f"{module}.weight" not in tensors:
        raise UserError(
            f"convert: {where}: a head for {kind} is the tensor {module}.weight, and there is none; --head none reads "
            "the encoder alone"
        )
    rows = len(np.atleast_1d(tensors[f"{module}.weight"]))
    expected = ROWS.get(kind, rows)
    if rows != expected:
        raise UserError(f"convert: {where}: a head for {kind} has {expected} rows, and {module}.weight has {rows}")
    named = _labels(values, where, labels, rows, module) if kind in ("classify", "tag") else ()
    problem: Any = wanted if wanted in _PROBLEMS else _problem(values, named, where)
    relu = family == "distilbert" and kind in ("classify", "choose")
    return Head(
        kind=kind,
        labels=named,
        problem=problem if kind == "classify" else "single_label",
        activation="relu" if relu else "tanh",
        dropout=_dropout(kind, values, family),
    )


def _stated_kind(values: dict[str, Any], family: Family, tensors: Flat, where: str) -> HeadKind | None:
    """What the class in `architectures` does; None for one without a task head."""
    shown = ", ".join(values.get("architectures") or []) or "missing"
    kinds = class_kinds(values, family)
    present = modules(tensors)
    if not kinds and present:
        known = ", ".join(STEMS[family] + suffix for suffix in TASK_CLASSES.values())
        usual = "span" if present[0] == HEAD_MODULES["span"] else "classify"
        raise UserError(
            f"convert: {where}: the tensors have a task head ({present[0]}.weight) and architectures in config.json is "
            f"{shown}; it should be one of {known}, or say what it is: from-hf --head {usual} (none: leave it out)"
        )
    if kinds and HEAD_MODULES[kinds[0]] not in present:
        raise UserError(
            f"convert: {where}: architectures in config.json is {shown} and the tensors have no "
            f"{HEAD_MODULES[kinds[0]]}.weight; is it the config of these weights? from-hf --head none reads the encoder"
        )
    return kinds[0] if kinds else None


def modules(tensors: Flat) -> list[str]:
    """The last layers of task classes that are among the tensors."""
    return [module for module in dict.fromkeys(HEAD_MODULES.values()) if f"{module}.weight" in tensors]


def class_kinds(values: dict[str, Any], family: Family) -> list[HeadKind]:
    """The kinds of the task classes that `architectures` names."""
    stated = [class_name(name) for name in values.get("architectures") or []]
    return [kind for kind, suffix in TASK_CLASSES.items() if STEMS[family] + suffix in stated]


def _problem(values: dict[str, Any], labels: tuple[str, ...], where: str) -> str:
    # Without a problem type, transformers takes one label as a regression. Whether several labels are
    # independent it infers from the training data, which are not here.
    stated = values.get("problem_type") or _PROBLEMS["regression" if len(labels) == 1 else "single_label"]
    if stated == _PROBLEMS["single_label"] and len(labels) == 1:
        raise UserError(
            f"convert: {where}: problem_type is {stated}, and there is one output, of which nothing can be chosen; "
            "from-hf --head multi_label reads it as yes or no (by a sigmoid), --head regression as a number"
        )
    if not values.get("problem_type") and len(labels) == 1:
        _note_number(values, where)
    ours = {theirs: name for name, theirs in _PROBLEMS.items()}
    if stated not in ours:
        raise UserError(f"convert: {where}: problem_type is {stated}; known: {', '.join(ours)}")
    return ours[stated]


def _note_number(values: dict[str, Any], where: str) -> None:
    """Logs that a single output is given as it is, unless the config says that sentence-transformers does so too."""
    newer = values.get("sentence_transformers")
    stated = (newer if isinstance(newer, dict) else {}).get("activation_fn")
    stated = stated or values.get("sbert_ce_default_activation_function") or ""
    if not str(stated).endswith("Identity"):
        _LOG.warning(
            "convert: %s: one output, taken for a regression: its number is given as it is, while CrossEncoder and the "
            "pipeline of transformers put a sigmoid on it; from-hf --head multi_label does so too",
            where,
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


def _labels(values: dict[str, Any], where: str, given: Sequence[str], rows: int, module: str) -> tuple[str, ...]:
    """The names of the outputs: as given, as stated, or LABEL_0 and so on; as many as the head has rows."""
    if given:
        return named_outputs(given, rows, f"{module}.weight", where)
    stated = values.get("id2label") or {}
    if all(isinstance(name, str) and UNNAMED.fullmatch(name) for name in stated.values()):
        stated = _numbered(values, rows) or stated
    count = len(stated) if stated else values.get("num_labels") or 2
    if count != rows:
        how = "" if stated or values.get("num_labels") else " (the default: neither id2label nor num_labels is there)"
        raise UserError(
            f"convert: {where}: the head has {rows} rows ({module}.weight), and config.json names {count} labels{how}; "
            f"pass from-hf --labels with {rows} names, or correct id2label or num_labels"
        )
    if not stated:
        return tuple(f"LABEL_{i}" for i in range(rows))
    if (other := _numbered(values, rows)) and {str(key): str(name) for key, name in stated.items()} != other:
        _LOG.warning("convert: %s: label2id in config.json is not the inverse of id2label, which was taken", where)
    try:
        numbered = {int(number): label for number, label in stated.items()}
    except ValueError as error:
        raise UserError(f"convert: {where}: id2label in config.json is not a table from numbers to names") from error
    if wrong := [label for label in numbered.values() if isinstance(label, list | dict)]:
        raise UserError(f"convert: {where}: id2label in config.json has {wrong[0]!r}; a label is a name or a number")
    if sorted(numbered) != list(range(len(stated))):
        raise UserError(f"convert: {where}: id2label in config.json does not count from 0: {', '.join(stated)}")
    labels = tuple(str(numbered[i]) for i in range(len(numbered)))
    if len(set(labels)) != len(labels):
        raise UserError(f"convert: {where}: id2label in config.json has a name twice: {', '.join(labels)}")
    return labels


def _numbered(values: dict[str, Any], rows: int) -> dict[str, str]:
    """label2id turned round, where it numbers as many names as there are rows, and has names; else empty."""
    stated = values.get("label2id")
    if not isinstance(stated, dict) or all(map(UNNAMED.fullmatch, stated)):
        return {}
    if values.get("num_labels") not in (None, rows):
        return {}
    numbered = {str(number): str(name) for name, number in stated.items()}
    return numbered if set(numbered) == {str(place) for place in range(rows)} else {}
