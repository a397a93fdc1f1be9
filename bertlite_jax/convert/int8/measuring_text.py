"""Text that a quantised model is calibrated on and measured with: batches as the ONNX files read them, and scores.

Letters: B rows, L tokens, V vocabulary, C outputs of a task head, D hidden.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert.int8.labelled import read_labelled
from bertlite_jax.convert.onnx import model
from bertlite_jax.convert.onnx.model import choose_output
from bertlite_jax.convert.weights.folder import Sentence, Weights
from bertlite_jax.data.text import documents
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError

IGNORED = -100
"""Label of a position that is not scored."""
LEAST_LENGTH = 6
"""Tokens of a window: four pieces between [CLS] and [SEP]."""

Batch = dict[str, np.ndarray]
"""input_ids, attention_mask, token_type_ids [B, L] int64, and `labels`: [B, L] of masked positions, [B] of texts."""

Answer = Callable[[Mapping[str, Any]], Mapping[str, np.ndarray]]
"""A batch becomes outputs by name."""

_LOG = logging.getLogger(__name__)


# --- What is scored --------------------------------------------------------------------------------------------------


class Scored(NamedTuple):
    """What a file answers, and so what is measured of it.

    Attributes:
      output: as `choose_output` gives it; auto is the answer of `head`.
      head: the one in the file; None for all outputs but auto, whatever head the weights have.
      sentence: how the vectors of the output `sentence` are made.
    """

    output: model.Output
    head: Head | None
    sentence: Sentence = Sentence()

    @property
    def vectors(self) -> bool:
        """Whether vectors are compared, by the cosine of each with float32's."""
        return self.output in ("states", "sentence")

    @property
    def numbers(self) -> bool:
        """Whether the head gives amounts, which agree by their cosine, and not a choice among outputs."""
        return self.head is not None and (self.head.problem == "regression" or self.head.kind == "choose")

    def uses(self, path: str) -> bool:
        """Whether what is scored depends on a stored tensor, such as `layers/0/ffn/up/kernel`."""
        part = path.split("/")[0]
        if part in ("pooler", "head"):
            return self.head is not None
        return part != "pair" and (part != "mlm" or self.output == "fill-mask")


def scored(weights: Weights, output: model.Output = "auto") -> Scored:
    """What is scored of a file with this output. Raises UserError where the weights do not have it."""
    output = choose_output(weights, output)
    return Scored(output, weights.head if output == "auto" else None, weights.sentence or Sentence())


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
      length: tokens; the last piece of a document is shorter, and left out below `LEAST_LENGTH`.

    Raises:
      UserError: no tokenizer, or fewer than two windows of text.
    """
    tokenizer = tokenizer_of(weights)
    found = []
    for document in _documents(inputs):
        ids = np.concatenate([ids for ids, _ in tokenizer.encode_lines(document)])
        pieces = [ids[start : start + length - 2] for start in range(0, len(ids), length - 2)]
        found += [np.r_[tokenizer.cls_id, p, tokenizer.sep_id] for p in pieces if len(p) >= LEAST_LENGTH - 2]
    if len(found) < 2:
        raise UserError(
            f"convert: {', '.join(inputs)}: too little text to measure with: {len(found)} windows of {LEAST_LENGTH} to "
            f"{length} tokens; two are the least, and hundreds would be right"
        )
    return [found[i] for i in np.unique(np.linspace(0, len(found) - 1, count).astype(int))]


def _documents(inputs: Sequence[str]) -> Iterator[list[str]]:
    """The text's documents; files without any are told in one line of ours, not by the reader of corpora."""
    counts: Counter[str] = Counter()
    reader = logging.getLogger(documents.__name__)
    reader.addFilter(_about_empty)
    try:
        yield from documents.read_documents(inputs, counts=counts)
    finally:
        reader.removeFilter(_about_empty)
    if 0 < counts["empty_files"] < counts["files"]:
        _LOG.warning("convert: %d of %d files hold no text", counts["empty_files"], counts["files"])


def _about_empty(record: logging.LogRecord) -> bool:
    return "no text in this file" not in str(record.msg)


def batches(weights: Weights, rows: Sequence[np.ndarray], size: int, length: int) -> list[Batch]:
    """Windows as padded batches of `size` rows, every window in one of them; the last batch can have fewer rows."""
    pad = tokenizer_of(weights).pad_id
    made = []
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        ids = np.full((len(some), length), pad, np.int64)
        mask = np.zeros((len(some), length), np.int64)
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


def as_read(batch: Batch, what: Scored) -> Batch:
    """The batch as the file reads it: for a head that chooses, each row is the only choice, [B, 1, L]."""
    if what.head is None or what.head.kind != "choose":
        return batch
    return {name: value[:, None] if value.ndim == 2 else value for name, value in batch.items()}


# --- Labelled examples -----------------------------------------------------------------------------------------------


def check_labelled(what: Scored) -> Head:
    """The head that labelled examples measure. Raises UserError where they cannot measure what is scored."""
    head = what.head
    if head is None or head.kind != "classify" or head.problem != "single_label":
        raise UserError(
            "convert: int8: --data measures a head that classifies with one label, and this file answers with "
            f"{head.kind if head else what.output}; leave --data out"
        )
    return head


def labelled(weights: Weights, path: str, size: int, length: int) -> list[Batch]:
    """Texts or pairs of a file of examples (`convert/int8/labelled.py`) with their labels' numbers.

    Raises:
      UserError: the head does not classify with one label, or the file is not right.
    """
    tokenizer, head = tokenizer_of(weights), check_labelled(scored(weights))
    rows, types, labels = [], [], []
    for example in read_labelled(path, head):
        first, second = (tokenizer.encode(example.get(key) or "") for key in ("text", "pair"))
        first, second = _cut_pair(first, second, length - 2 - bool(len(second)))
        tail = np.r_[second, tokenizer.sep_id] if len(second) else second
        rows.append(np.r_[tokenizer.cls_id, first, tokenizer.sep_id, tail].astype(np.int64))
        types.append(np.r_[np.zeros(len(first) + 2), np.ones(len(tail))].astype(np.int64))
        labels.append(head.labels.index(str(example["label"])))
    made = batches(weights, rows, size, length)
    for number, batch in enumerate(made):
        at = slice(number * size, (number + 1) * size)
        for i, kinds in enumerate(types[at]):
            batch["token_type_ids"][i, : len(kinds)] = kinds
        batch["labels"] = np.array(labels[at])
    return made


def _cut_pair(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """The longer of the two loses its end until both fit."""
    while len(first) + len(second) > room:
        first, second = (first[:-1], second) if len(first) >= len(second) else (first, second[:-1])
    return first, second


# --- Scores ----------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What a model said.

    Attributes:
      logits: [N, C or V] of the positions or texts that are scored; for vectors [N, D], of tokens or of texts.
      labels: [N], or None where there are none.
    """

    logits: np.ndarray
    labels: np.ndarray | None


def outcome(answer: Answer, held_out: Sequence[Batch], what: Scored) -> Outcome:
    """Runs a model over batches and keeps what is scored: masked positions, texts, or every real token.

    Raises:
      UserError: some of the answers are no numbers.
    """
    logits, labels = [], []
    for batch in held_out:
        kept, known = _kept(answer(as_read(batch, what)), batch, what)
        if np.isnan(kept).any():
            raise UserError("convert: some of the model's answers are no numbers (NaN), so nothing can be measured")
        logits.append(kept)
        labels += [] if known is None else [known]
    return Outcome(np.concatenate(logits), np.concatenate(labels) if labels else None)


def _kept(found: Mapping[str, np.ndarray], batch: Batch, what: Scored) -> tuple[np.ndarray, np.ndarray | None]:
    """The scored rows of one batch's outputs, and their labels."""
    real = batch["attention_mask"] > 0
    if what.output == "sentence":
        return found["sentence_embedding"], None
    if what.output == "states":
        return found["last_hidden_state"][real], None
    if what.head is None:
        chosen = batch["labels"] != IGNORED
        return found["logits"][chosen], batch["labels"][chosen]
    if what.head.kind == "span":
        pair = [np.where(real, found[name], -np.inf) for name in ("start_logits", "end_logits")]
        return np.concatenate(pair), None
    if what.head.kind == "tag":
        return found["logits"][real], None
    return found["logits"], batch.get("labels")


def sentence_vectors(states: np.ndarray, mask: np.ndarray, how: Sentence) -> np.ndarray:
    """Vectors [B, D] of hidden states [B, L, D] and a mask [B, L], as `heads.sentence` makes them."""
    vectors = states[:, 0]
    if how.pooling == "mean":
        kept = mask[..., None].astype(states.dtype)
        vectors = (states * kept).sum(1) / np.maximum(kept.sum(1), 1e-9)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12) if how.normalize else vectors


def metric(found: Outcome, reference: Outcome, what: Scored) -> float:
    """Accuracy where there are labels, else agreement with the reference."""
    if found.labels is None:
        return agreement(found, reference, what)
    return float(np.mean(found.logits.argmax(-1) == found.labels))


def agreement(found: Outcome, reference: Outcome, what: Scored) -> float:
    """Share of equal answers; of vectors the mean cosine, of amounts (regression, scores of choices) their cosine."""
    if what.vectors:
        return float(np.mean(cosines(found.logits, reference.logits)))
    if what.numbers:
        return float(cosines(found.logits.reshape(1, -1), reference.logits.reshape(1, -1))[0])
    if what.head is not None and what.head.problem == "multi_label":
        return float(np.mean((found.logits > 0) == (reference.logits > 0)))
    return float(np.mean(found.logits.argmax(-1) == reference.logits.argmax(-1)))


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each two rows: [N, D], [N, D] -> [N]; 0 where one is nothing but zeros."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return np.sum(x * y, -1) / np.maximum(lengths, np.finfo(np.float64).tiny)


def loss(found: Outcome, reference: Outcome, what: Scored) -> float:
    """How far answers are from the reference's, 0 for the same: 1 - cosine of vectors and amounts, else nats."""
    if what.vectors or what.numbers:
        return 1 - agreement(found, reference, what)
    return divergence(found, reference)


def divergence(found: Outcome, reference: Outcome) -> float:
    """Mean Kullback-Leibler divergence in nats of what is answered from what the reference answers."""
    ours, theirs = (_log_softmax(each.logits) for each in (found, reference))
    theirs = np.where(np.isfinite(theirs), theirs, 0.0)
    ours = np.where(np.isfinite(ours), ours, 0.0)
    return float(np.mean(np.sum(np.exp(theirs) * (theirs - ours), -1)))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
