"""Task heads in checkpoints that google-research's and brightmart's scripts have fine-tuned.

Sources: google-research/bert@eedf571, `run_classifier.py` and `run_squad.py`; google-research/albert@b772393,
`classifier_utils.py`, `race_utils.py` and `squad_utils.py` (`create_v1_model`, `create_v2_model`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights.head_choice import KINDS, ROWS, HeadChoice, HeadKind, named_outputs
from bertlite_jax.convert.weights.parameters import Flat, is_float
from bertlite_jax.errors import UserError

_LOG = logging.getLogger(__name__)

_SPANS = "cls/squad"
_PRETRAINING = ("cls/predictions/", "cls/seq_relationship/")

# Of ALBERT's head for SQuAD 2.0: our leaf, their variable.
_CONDITIONED = {
    "start/kernel": "start_logits/dense/kernel",
    "start/bias": "start_logits/dense/bias",
    "end_hidden/kernel": "end_logits/dense_0/kernel",
    "end_hidden/bias": "end_logits/dense_0/bias",
    "end_norm/scale": "end_logits/LayerNorm/gamma",
    "end_norm/bias": "end_logits/LayerNorm/beta",
    "end/kernel": "end_logits/dense_1/kernel",
    "end/bias": "end_logits/dense_1/bias",
    "answer_hidden/kernel": "answer_class/dense_0/kernel",
    "answer_hidden/bias": "answer_class/dense_0/bias",
    "answer/kernel": "answer_class/dense_1/kernel",
}


class TaskHead(NamedTuple):
    """A head as the checkpoint has it."""

    head: Head
    params: Flat
    """By our flat names, such as `head/output/kernel`."""


def split(named: Flat) -> tuple[Flat, Flat]:
    """The variables of the encoder and of the pretraining heads, and all others."""
    of_model = {name: value for name, value in named.items() if name.startswith(("bert/", *_PRETRAINING))}
    return of_model, {name: value for name, value in named.items() if name not in of_model}


def read_head(
    others: Flat, width: int, where: str, wanted: HeadChoice = "auto", labels: Sequence[str] = ()
) -> TaskHead | None:
    """The task head among the variables that are neither the encoder's nor a pretraining head's.

    A head of another form is left out with a warning in the log, which names its variables.

    Args:
      others: as `split` returns them, without slots and counters.
      width: of the hidden states, D.
      where: the checkpoint, for errors.
      wanted: what the head is for. auto: answers with spans where it is one of run_squad.py or run_squad_v2.py, else
        a classifier with the variables `output_weights` [outputs, D] and `output_bias`; with a single output a
        regression.
      labels: names of its outputs; empty: LABEL_0, LABEL_1 and so on.

    Raises:
      UserError: `wanted` and the variables disagree, or the labels do not fit the head.
    """
    found = None if wanted == "none" else _find(others, width, where, wanted, labels)
    if found is None and (wanted not in ("auto", "none") or labels):
        names = ", ".join(list(others)[:8]) or "none"
        raise UserError(
            f"convert: {where}: no task head that can be read (output_weights [outputs, {width}] with output_bias, or "
            f"that of run_squad); beside the encoder there is: {names}. Without --head and --labels the encoder is read"
        )
    used = found[1] if found else ()
    if integers := [name for name in used if not is_float(others[name])]:
        raise UserError(f"convert: {where}: weights must be floats, and these are not: {', '.join(integers)}")
    left_out = [name for name in others if name not in used]
    if left_out:
        more = f" and {len(left_out) - 8} more" if len(left_out) > 8 else ""
        kept = "the task head was read" if found else "the encoder was read"
        _LOG.warning("convert: %s: %s; left out: %s%s", where, kept, ", ".join(left_out[:8]), more)
    return found[0] if found else None


def _find(
    others: Flat, width: int, where: str, wanted: HeadChoice, labels: Sequence[str]
) -> tuple[TaskHead, Sequence[str]] | None:
    """The head and the names of its variables."""
    if others.keys() >= set(_CONDITIONED.values()) and wanted in ("auto", "span"):
        head = Head("span", labels=(), span="conditioned", no_answer=True)
        _refuse_labels(labels, head.kind, where)
        params = {f"head/{ours}": others[theirs].astype(np.float32) for ours, theirs in _CONDITIONED.items()}
        return TaskHead(head, params), tuple(_CONDITIONED.values())
    scopes = _output_layers(others, width)
    if len(scopes) != 1:
        return None
    kernel, bias = f"{scopes[0]}output_weights", f"{scopes[0]}output_bias"
    rows = len(others[bias])
    kind: HeadKind = "span" if scopes[0] == f"{_SPANS}/" else "classify"
    kind = KINDS.get(wanted, kind)
    if rows != ROWS.get(kind, rows):
        raise UserError(f"convert: {where}: a head for {kind} has {ROWS[kind]} rows, and {kernel} has {rows}")
    head = _labelled(kind, rows, kernel, where, wanted, labels)
    params = {"head/output/kernel": others[kernel].T, "head/output/bias": others[bias]}
    return TaskHead(head, {path: np.ascontiguousarray(value, np.float32) for path, value in params.items()}), (
        kernel,
        bias,
    )


def _output_layers(others: Flat, width: int) -> list[str]:
    """Scopes, such as `` or `cls/squad/`, that have output_weights [outputs, D] and output_bias [outputs]."""
    scopes = []
    for name, value in others.items():
        scope, _, leaf = name.rpartition("/")
        scope = f"{scope}/" if scope else ""
        bias = others.get(f"{scope}output_bias")
        if leaf == "output_weights" and bias is not None and value.shape == (*bias.shape, width):
            scopes.append(scope)
    return scopes


def _labelled(kind: HeadKind, rows: int, tensor: str, where: str, wanted: HeadChoice, labels: Sequence[str]) -> Head:
    if kind not in ("classify", "tag"):
        _refuse_labels(labels, kind, where)
        return Head(kind, labels=(), dropout=0.0 if kind == "span" else 0.1)
    names = named_outputs(labels, rows, tensor, where) if labels else tuple(f"LABEL_{i}" for i in range(rows))
    if kind == "tag":
        return Head(kind, names)
    if wanted == "multi_label":
        return Head(kind, names, "multi_label")
    if wanted == "auto" and rows == 1:
        _LOG.warning(
            "convert: %s: one output, taken for a regression; if it scores choices (RACE): --head choose", where
        )
    return Head(kind, names, "regression" if rows == 1 or wanted == "regression" else "single_label")


def _refuse_labels(labels: Sequence[str], kind: str, where: str) -> None:
    if labels:
        raise UserError(f"convert: {where}: --labels, but the outputs of a head for {kind} have no names")
