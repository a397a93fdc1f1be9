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
from bertlite_jax.convert.weights.foreign_layers import check_layers
from bertlite_jax.convert.weights.head_choice import KINDS, ROWS, HeadChoice, HeadKind, named_outputs
from bertlite_jax.convert.weights.parameters import Flat, is_float
from bertlite_jax.errors import UserError

_LOG = logging.getLogger(__name__)

_SPANS = "cls/squad"
_PRETRAINING = ("cls/predictions/", "cls/seq_relationship/")
_BIASES = {"kernel": "bias", "W": "b", "weights": "biases"}
"""The bias beside a kernel."""

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
        regression. Where the user says what the head is for, it may be the only dense layer, whatever its name.
      labels: names of its outputs; empty: LABEL_0, LABEL_1 and so on.

    Raises:
      UserError: `wanted` and the variables disagree, the labels do not fit the head, or it has layers that ours lack
        (`check_layers`).
    """
    if note := check_layers(others, wanted, where):
        _LOG.warning("convert: %s: %s", where, note)
    found = None if wanted == "none" else _find(others, width, where, wanted, labels)
    if found is None and (wanted not in ("auto", "none") or labels):
        names = ", ".join(list(others)[:8]) or "none"
        raise UserError(
            f"convert: {where}: no task head that can be read (output_weights [outputs, {width}] with output_bias, "
            f"that of run_squad, or with --head an only dense layer [{width}, outputs]); beside the encoder there is: "
            f"{names}. Without --head and --labels the encoder is read"
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
    layers = _output_layers(others, width)
    if not layers and wanted != "auto":
        layers = _dense_layers(others, width)
    if len(layers) != 1:
        return None
    kernel, bias = layers[0]
    rows = len(others[bias])
    kind: HeadKind = "span" if kernel == f"{_SPANS}/output_weights" else "classify"
    kind = KINDS.get(wanted, kind)
    if rows != ROWS.get(kind, rows):
        raise UserError(f"convert: {where}: a head for {kind} has {ROWS[kind]} rows, and {kernel} has {rows}")
    head = _labelled(kind, rows, kernel, where, wanted, labels)
    # Of the release, [outputs, D]; of a dense layer, [D, outputs] as ours.
    weights = others[kernel].T if kernel.endswith("output_weights") else others[kernel]
    params = {"head/output/kernel": weights, "head/output/bias": others[bias]}
    return TaskHead(head, {path: np.ascontiguousarray(value, np.float32) for path, value in params.items()}), (
        kernel,
        bias,
    )


def _output_layers(others: Flat, width: int) -> list[tuple[str, str]]:
    """Names of output_weights [outputs, D] with output_bias [outputs], in any scope, such as `cls/squad/`."""
    layers = []
    for name, value in others.items():
        scope, _, leaf = name.rpartition("/")
        bias = f"{scope}/output_bias" if scope else "output_bias"
        if leaf == "output_weights" and bias in others and value.shape == (*others[bias].shape, width):
            layers.append((name, bias))
    return layers


def _dense_layers(others: Flat, width: int) -> list[tuple[str, str]]:
    """Names of kernels [D, outputs] with a bias [outputs]: `dense/kernel` of Keras, `project/logits/W` of macanv."""
    layers = []
    for name, value in others.items():
        scope, _, leaf = name.rpartition("/")
        bias = f"{scope}/{_BIASES.get(leaf, '')}"
        if bias in others and value.shape == (width, *others[bias].shape):
            layers.append((name, bias))
    return layers


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
