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
from bertlite_jax.convert.int8 import example_windows
from bertlite_jax.convert.int8.example_windows import Cut, Window
from bertlite_jax.convert.int8.labelled import USUAL_COLUMNS, Labelled, Scorer, read_labelled
from bertlite_jax.convert.onnx import model
from bertlite_jax.convert.onnx.model import choose_output
from bertlite_jax.convert.weights.folder import Sentence, Weights
from bertlite_jax.data.examples import features
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.data.text import documents
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError

IGNORED = -100
"""Label of a position that is not scored."""
LEAST_LENGTH = 6
"""Tokens of a window: four pieces between [CLS] and [SEP]."""

Batch = dict[str, np.ndarray]
"""input_ids, attention_mask, token_type_ids [B, L] int64, and `labels` [B, L] of masked positions."""

Answer = Callable[[Mapping[str, Any]], Mapping[str, np.ndarray]]
"""A batch becomes outputs by name."""

_LOG = logging.getLogger(__name__)


# --- What is scored --------------------------------------------------------------------------------------------------


class Scored(NamedTuple):
    """The answers of a file that are scored.

    Attributes:
      output: as `choose_output` returns it; auto is the answer of `head`.
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


def scored_output(weights: Weights, output: model.Output = "auto") -> Scored:
    """What is scored in a file with this output. Raises UserError where the weights do not have it."""
    output = choose_output(weights, output)
    return Scored(output, weights.head if output == "auto" else None, weights.sentence or Sentence())


# --- Batches ---------------------------------------------------------------------------------------------------------


def tokenizer_of(weights: Weights) -> Tokenizer:
    """The tokenizer of the weights. Raises UserError where they have none."""
    if weights.tokenizer is None:
        raise UserError("convert: int8: the weights have no tokenizer, and text cannot be read without one")
    return weights.tokenizer


def windows(
    weights: Weights,
    inputs: Sequence[str],
    count: int,
    length: int,
    columns: OwnOptions = USUAL_COLUMNS,
    output: model.Output = "auto",
) -> list[Window]:
    """What a model reads at once: of text the consecutive pieces of its documents, of examples `example_windows`.

    Args:
      weights: with a tokenizer.
      inputs: text files or folders, as `documents.read_documents` takes them, or files of examples.
      count: the most windows to return, spread evenly over everything.
      length: tokens of a window; the last one of a document is shorter. Below `LEAST_LENGTH` it is left out, but not a
        whole example.
      columns: of files of examples.
      output: of the model; vectors and masks are those of single texts, whatever head the weights have.

    Raises:
      UserError: no tokenizer, or fewer than two windows of text.
    """
    cut = Cut(tokenizer_of(weights), length, scored_output(weights, output).head)
    rows = list(every_window(inputs, weights.head, columns, cut))
    if len(rows) < 2:
        raise UserError(
            f"convert: {', '.join(inputs)}: too little text to measure with: {len(rows)} windows of {LEAST_LENGTH} to "
            f"{length} tokens; give at least two, better hundreds"
        )
    return [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))]


def every_window(
    inputs: Sequence[str], head: Head | None, columns: OwnOptions, cut: Cut, least: int = LEAST_LENGTH
) -> Iterator[Window]:
    """What `windows` chooses from, in the order of the text.

    Windows of text with fewer than `least` tokens are left out. Empty files are reported in one line here, not one by
    one by the reader of corpora.
    """
    counts: Counter[str] = Counter()
    reader = logging.getLogger(documents.__name__)
    reader.addFilter(_keep_record)
    try:
        for path in inputs:
            form = example_windows.form_of(path, head, columns)
            if form != "text":
                yield from example_windows.windows(path, form, head, columns, cut)
                continue
            for document in documents.read_documents([path], text_field=None, counts=counts):
                yield from _of_document(document, cut, least)
    finally:
        reader.removeFilter(_keep_record)
    if 0 < counts["empty_files"] < counts["files"]:
        _LOG.warning("convert: %d of %d files hold no text", counts["empty_files"], counts["files"])


def _of_document(document: list[str], cut: Cut, least: int) -> Iterator[Window]:
    ids = np.concatenate([ids for ids, _ in cut.tokenizer.encode_lines(document)])
    for start in range(0, len(ids), cut.length - 2):
        piece = ids[start : start + cut.length - 2]
        if len(piece) >= least - 2:
            whole = np.r_[cut.tokenizer.cls_id, piece, cut.tokenizer.sep_id].astype(np.int64)
            yield Window(whole, np.zeros_like(whole))


def _keep_record(record: logging.LogRecord) -> bool:
    return "no text in this file" not in str(record.msg)


def batches(weights: Weights, rows: Sequence[Window], size: int, length: int) -> list[Batch]:
    """Windows as padded batches of `size` rows; each window is in one of them, and the last can have fewer rows."""
    pad = tokenizer_of(weights).pad_id
    padded = []
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        ids = np.full((len(some), length), pad, np.int64)
        mask, types = np.zeros((2, len(some), length), np.int64)
        for i, row in enumerate(some):
            real = slice(len(row.ids))
            ids[i, real], mask[i, real], types[i, real] = row.ids, 1, row.types
        padded.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": types})
    return padded


def masked(weights: Weights, batch: Batch, seed: int, rate: float = 0.15) -> Batch:
    """The batch with a share `rate` of its ordinary tokens replaced by [MASK], and those tokens as `labels`."""
    tokenizer = tokenizer_of(weights)
    ids = batch["input_ids"]
    chosen = (np.random.default_rng(seed).random(ids.shape) < rate) & ~np.isin(ids, tokenizer.special_ids)
    labels = np.where(chosen & (batch["attention_mask"] > 0), ids, IGNORED)
    return batch | {"input_ids": np.where(labels != IGNORED, tokenizer.mask_id, ids), "labels": labels}


def as_read(batch: Batch, scored: Scored) -> Batch:
    """The batch in the shape that the file reads: for multiple choice each row is the only choice, [B, 1, L]."""
    if scored.head is None or scored.head.kind != "choose":
        return batch
    return {name: value[:, None] if value.ndim == 2 else value for name, value in batch.items()}


# --- Labelled examples -----------------------------------------------------------------------------------------------


def check_labelled(scored: Scored) -> Head:
    """The head that labelled examples can score. Raises UserError where there is no such head."""
    head = scored.head
    if head is None or head.kind == "span":
        answers = (
            "answers questions about texts" if head else f"has no answers with labels (its output is {scored.output})"
        )
        raise UserError(
            "convert: int8: --data scores labels, tags, numbers and choices, and the model to be written "
            f"{answers}; leave --data out, and it is compared with float32"
        )
    return head


def labelled(weights: Weights, path: str, length: int, scorer: Scorer, columns: OwnOptions = USUAL_COLUMNS) -> Labelled:
    """The examples of a file (`convert/int8/labelled.py`), cut as in training (`features.encode`).

    Raises:
      UserError: the head has no labels to compare with, or the file is wrong.
    """
    tokenizer, head = tokenizer_of(weights), check_labelled(scored_output(weights))
    examples = read_labelled(path, head, columns)
    return Labelled(examples, features.encode(examples, tokenizer, head, length, path), scorer)


# --- Scores ----------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """A model's answers at everything that is scored.

    Attributes:
      logits: [N, C or V] of the scored positions or texts; for vectors [N, D], of tokens or of texts.
      labels: [N] of masked positions; None for other outputs.
    """

    logits: np.ndarray
    labels: np.ndarray | None


def outcome(answer: Answer, evaluation: Sequence[Batch], scored: Scored) -> Outcome:
    """Runs a model over batches and collects what is scored: masked positions, texts, or every real token.

    Raises:
      UserError: some of the answers are NaN.
    """
    logits, labels = [], []
    for batch in evaluation:
        rows, row_labels = _scored_rows(answer(as_read(batch, scored)), batch, scored)
        if np.isnan(rows).any():
            raise UserError("convert: some of the model's answers are NaN, so nothing can be measured")
        logits.append(rows)
        labels += [] if row_labels is None else [row_labels]
    return Outcome(np.concatenate(logits), np.concatenate(labels) if labels else None)


def _scored_rows(
    outputs: Mapping[str, np.ndarray], batch: Batch, scored: Scored
) -> tuple[np.ndarray, np.ndarray | None]:
    """The scored rows of one batch's outputs, and their labels."""
    real = batch["attention_mask"] > 0
    if scored.output == "sentence":
        return outputs["sentence_embedding"], None
    if scored.output == "states":
        return outputs["last_hidden_state"][real], None
    if scored.head is None:
        chosen = batch["labels"] != IGNORED
        return outputs["logits"][chosen], batch["labels"][chosen]
    if scored.head.kind == "span":
        pair = [np.where(real, outputs[name], -np.inf) for name in ("start_logits", "end_logits")]
        return np.concatenate(pair), None
    if scored.head.kind == "tag":
        return outputs["logits"][real], None
    return outputs["logits"], None


def sentence_vectors(states: np.ndarray, mask: np.ndarray, how: Sentence) -> np.ndarray:
    """Vectors [B, D] of hidden states [B, L, D] and a mask [B, L], as `heads.sentence` makes them."""
    vectors = states[:, 0]
    if how.pooling == "mean":
        real = mask[..., None].astype(states.dtype)
        vectors = (states * real).sum(1) / np.maximum(real.sum(1), 1e-9)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12) if how.normalize else vectors


def metric(candidate: Outcome, reference: Outcome, scored: Scored) -> float:
    """Accuracy where there are masks, else agreement with the reference."""
    if candidate.labels is None:
        return agreement(candidate, reference, scored)
    return float(np.mean(candidate.logits.argmax(-1) == candidate.labels))


def agreement(candidate: Outcome, reference: Outcome, scored: Scored) -> float:
    """Share of equal answers; for vectors the mean cosine, for amounts (regression, scores of choices) one cosine."""
    if scored.vectors:
        return float(np.mean(cosines(candidate.logits, reference.logits)))
    if scored.numbers:
        return float(cosines(candidate.logits.reshape(1, -1), reference.logits.reshape(1, -1))[0])
    if scored.head is not None and scored.head.problem == "multi_label":
        return float(np.mean((candidate.logits > 0) == (reference.logits > 0)))
    return float(np.mean(candidate.logits.argmax(-1) == reference.logits.argmax(-1)))


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cosine of each row of x with the same row of y: [N, D], [N, D] -> [N]; 0 where one of them is all zeros."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return np.sum(x * y, -1) / np.maximum(lengths, np.finfo(np.float64).tiny)


def loss(candidate: Outcome, reference: Outcome, scored: Scored) -> float:
    """How far answers are from the reference's: 1 - cosine for vectors and amounts, else `divergence`; 0 if equal."""
    if scored.vectors or scored.numbers:
        return 1 - agreement(candidate, reference, scored)
    return divergence(candidate, reference)


def divergence(candidate: Outcome, reference: Outcome) -> float:
    """Mean Kullback-Leibler divergence, in nats, of the candidate's probabilities from the reference's."""
    log_q, log_p = (_log_softmax(each.logits) for each in (candidate, reference))
    log_p = np.where(np.isfinite(log_p), log_p, 0.0)
    log_q = np.where(np.isfinite(log_q), log_q, 0.0)
    return float(np.mean(np.sum(np.exp(log_p) * (log_p - log_q), -1)))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
