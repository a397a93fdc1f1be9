"""Text that a quantised model is calibrated on and measured with: batches as the ONNX files read them, and scores.

Letters: B rows, L tokens, V vocabulary, C outputs of a task head.
"""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bertlite_jax.config import Head, UserError
from bertlite_jax.convert.weights import Weights
from bertlite_jax.data import text as texts
from bertlite_jax.data.tokenizer import Tokenizer

IGNORED = -100
"""Label of a position that is not scored."""

Batch = dict[str, np.ndarray]
"""input_ids, attention_mask, token_type_ids [B, L] int64, and `labels`: [B, L] of masked positions, [B] of texts."""

Answer = Callable[[Mapping[str, Any]], Mapping[str, np.ndarray]]
"""A batch becomes outputs by name."""


# --- Batches ---------------------------------------------------------------------------------------------------------


def tokenizer_of(weights: Weights) -> Tokenizer:
    """Raises UserError where the weights have none."""
    if weights.tokenizer is None:
        raise UserError("convert: int8: the weights come without a tokenizer, and text cannot be read without one")
    return weights.tokenizer


def windows(weights: Weights, inputs: Sequence[str], count: int, length: int) -> list[np.ndarray]:
    """Consecutive pieces of the text's documents, at most `length` ids each with [CLS] and [SEP].

    Args:
      weights: with a tokenizer.
      inputs: text files or folders, as `data.text.read_documents` takes them.
      count: at most so many, taken evenly from all of the text.
      length: tokens; the last piece of a document is shorter.

    Raises:
      UserError: no tokenizer, or fewer than two windows of text.
    """
    tokenizer = tokenizer_of(weights)
    found = []
    for document in texts.read_documents(inputs):
        ids = np.concatenate([ids for ids, _ in tokenizer.encode_lines(document)])
        pieces = [ids[start : start + length - 2] for start in range(0, len(ids), length - 2)]
        found += [np.r_[tokenizer.cls_id, piece, tokenizer.sep_id] for piece in pieces if len(piece) >= 4]
    if len(found) < 2:
        raise UserError(f"convert: int8: {', '.join(inputs)}: {len(found)} windows of text; two are the least")
    return [found[i] for i in np.unique(np.linspace(0, len(found) - 1, count).astype(int))]


def batches(weights: Weights, rows: Sequence[np.ndarray], size: int, length: int) -> list[Batch]:
    """Windows as padded batches of `size` rows, all of the same shape; a last part of a batch is left out."""
    pad = tokenizer_of(weights).pad_id
    made = []
    for start in range(0, len(rows) - size + 1, size):
        some = rows[start : start + size]
        ids = np.full((size, length), pad, np.int64)
        mask = np.zeros((size, length), np.int64)
        for i, row in enumerate(some):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        made.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
    return made


def masked(weights: Weights, batch: Batch, seed: int, rate: float = 0.15) -> Batch:
    """The batch with `rate` of its ordinary tokens replaced by [MASK], and these tokens as `labels`; seeded."""
    tokenizer = tokenizer_of(weights)
    ids = batch["input_ids"]
    chosen = (np.random.default_rng(seed).random(ids.shape) < rate) & ~np.isin(ids, tokenizer.special_ids)
    labels = np.where(chosen & (batch["attention_mask"] > 0), ids, IGNORED)
    return batch | {"input_ids": np.where(labels != IGNORED, tokenizer.mask_id, ids), "labels": labels}


def labelled(weights: Weights, path: str, size: int, length: int) -> list[Batch]:
    """Texts or pairs with labels: JSON lines {"text", "pair"?, "label"}, or a TSV with these columns.

    Raises:
      UserError: not readable as such, or a label that the head does not have.
    """
    tokenizer, head = tokenizer_of(weights), weights.head
    if head is None or head.kind != "classify" or head.problem != "single_label":
        raise UserError("convert: int8: labelled data measure a head that classifies with one label; leave --data out")
    rows, types, labels = [], [], []
    for number, example in enumerate(_examples(path), 1):
        if "text" not in example or str(example.get("label")) not in head.labels:
            known = ", ".join(head.labels)
            raise UserError(f"convert: {path}:{number}: needs text and a label; the model's labels are: {known}")
        first, second = (tokenizer.encode(str(example.get(key) or "")) for key in ("text", "pair"))
        first, second = _cut_pair(first, second, length - 2 - bool(len(second)))
        tail = np.r_[second, tokenizer.sep_id] if len(second) else second
        rows.append(np.r_[tokenizer.cls_id, first, tokenizer.sep_id, tail].astype(np.int64))
        types.append(np.r_[np.zeros(len(first) + 2), np.ones(len(tail))].astype(np.int64))
        labels.append(head.labels.index(str(example["label"])))
    size = min(size, len(rows))
    made = batches(weights, rows, size, length)
    for number, batch in enumerate(made):
        at = slice(number * size, (number + 1) * size)
        for i, kinds in enumerate(types[at]):
            batch["token_type_ids"][i, : len(kinds)] = kinds
        batch["labels"] = np.array(labels[at])
    if not made:
        raise UserError(f"convert: {path} holds no example")
    return made


def _examples(path: str) -> list[dict[str, Any]]:
    place = pathlib.Path(path)
    if not place.is_file():
        raise UserError(f"convert: {path} does not exist")
    lines = place.read_text(encoding="utf-8").splitlines()
    if place.suffix == ".tsv":
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    try:
        return [json.loads(line) for line in lines if line.strip()]
    except json.JSONDecodeError as error:
        raise UserError(f"convert: {path}: not JSON lines: {error}") from error


def _cut_pair(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """The longer of the two loses its end until both fit."""
    while len(first) + len(second) > room:
        first, second = (first[:-1], second) if len(first) >= len(second) else (first, second[:-1])
    return first, second


# --- Scores ----------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What a model said.

    Attributes:
      logits: [N, C or V] of the positions or texts that are scored; of a model without a head, states [N, D].
      labels: [N], or None where there are none.
    """

    logits: np.ndarray
    labels: np.ndarray | None


def outcome(answer: Answer, held_out: Sequence[Batch], head: Head | None) -> Outcome:
    """Runs a model over batches and keeps what is scored: masked positions, texts, or every real token."""
    logits, labels = [], []
    for batch in held_out:
        found = answer(batch if not head or head.kind != "choose" else {k: v[:, None] for k, v in batch.items()})
        real = batch["attention_mask"] > 0
        if head and head.kind == "span":
            pair = [np.where(real, found[name], -np.inf) for name in ("start_logits", "end_logits")]
            logits.append(np.concatenate(pair))
        elif head and head.kind != "tag":
            logits.append(found["logits"])
        elif "logits" in found and "labels" in batch:
            real = batch["labels"] != IGNORED
            logits.append(found["logits"][real])
        else:
            logits.append(found.get("logits", found.get("last_hidden_state"))[real])  # type: ignore[index]
        if "labels" in batch:
            labels.append(batch["labels"][real] if batch["labels"].ndim == 2 else batch["labels"])
    return Outcome(np.concatenate(logits), np.concatenate(labels) if labels else None)


def metric(found: Outcome, reference: Outcome, head: Head | None) -> float:
    """Accuracy where there are labels, else agreement with the reference."""
    if found.labels is None:
        return agreement(found, reference, head)
    return float(np.mean(found.logits.argmax(-1) == found.labels))


def agreement(found: Outcome, reference: Outcome, head: Head | None) -> float:
    """Share of equal answers. Numbers (regression, one score, states) agree by their cosine."""
    if head is not None and head.problem == "multi_label":
        return float(np.mean((found.logits > 0) == (reference.logits > 0)))
    numbers = head is not None and (head.problem == "regression" or head.kind == "choose")
    if numbers or (head is None and found.labels is None):
        dots = np.sum(found.logits * reference.logits, -1)
        if numbers:
            dots, found, reference = dots.sum(), *(Outcome(o.logits.reshape(-1), None) for o in (found, reference))
        return float(
            np.mean(dots / (np.linalg.norm(found.logits, axis=-1) * np.linalg.norm(reference.logits, axis=-1)))
        )
    return float(np.mean(found.logits.argmax(-1) == reference.logits.argmax(-1)))


def divergence(found: Outcome, reference: Outcome) -> float:
    """Mean Kullback-Leibler divergence in nats of what is answered from what the reference answers."""
    ours, theirs = (_log_softmax(each.logits) for each in (found, reference))
    theirs = np.where(np.isfinite(theirs), theirs, 0.0)
    ours = np.where(np.isfinite(ours), ours, 0.0)
    return float(np.mean(np.sum(np.exp(theirs) * (theirs - ours), -1)))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
