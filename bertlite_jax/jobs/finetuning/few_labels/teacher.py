"""What a teacher answers to the training examples and to texts without labels: computed once, stored, put into batches.

Letters: R rows, L tokens in a row, P windows in a row, M examples, N outputs (one for each example, choice, word or
token), C numbers in each.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights, answer_length
from bertlite_jax.data.examples import batches, joining, span_features
from bertlite_jax.data.examples.features import Encoded
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import outputs, span_answers
from bertlite_jax.jobs.answering.open_model import open_task_model
from bertlite_jax.jobs.finetuning.few_labels import stored
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train import sharding

_CHUNK, _PART = 512, 8192
"""Texts that are answered at once, and texts or windows of a stored part."""


class Taught(NamedTuple):
    """A teacher's outputs for all examples of a stream."""

    outputs: np.ndarray
    """[N, C] float32: logits or numbers of each example, logits of each choice, of each word (NaN where it did not fit
    the teacher's length), or start and end of each token of all windows."""
    firsts: np.ndarray
    """[M + 1] int64: the first output of each example; for spans of each window."""


# --- Whether it can teach --------------------------------------------------------------------------------------------


def check(config: Finetuned, tokenizer: Tokenizer, pairs: bool | None) -> dict[str, str]:
    """Checks that the teacher of a run can teach its task.

    Args:
      config: of the run.
      tokenizer: of the student.
      pairs: whether the task has pairs of texts; None: some are, or nobody knows.

    Returns:
      The teacher's folder, and the SHA-256 of everything that its answers follow from; empty without a teacher.

    Raises:
      UserError: it is no model of such a task, has other labels or, for spans, another tokenizer.
    """
    teacher, head = config.learn.teacher, config.head
    if not teacher:
        return {}
    with adoption.open_weights(teacher, "finetune") as loaded:
        problem = _problem_of(loaded, head, pairs) or (
            _problem_of_spans(loaded, config, tokenizer) if head.kind == "span" else ""
        )
        if problem:
            raise UserError(f"finetune: learn.teacher = {teacher} {problem}")
        return {teacher: _digest(loaded)}


def _problem_of(loaded: Weights, head: Head, pairs: bool | None) -> str:
    theirs = loaded.head
    if theirs is None:
        return "is no fine-tuned model; name one that bertlite finetune made, not the encoder that it started from"
    if (theirs.kind, theirs.problem) != (head.kind, head.problem):
        return f"is made for another kind of task ({_kind(theirs)}); this one is of the kind {_kind(head)}"
    if sorted(theirs.labels) != sorted(head.labels):
        return f"has the labels {', '.join(theirs.labels)}; the task has the labels {', '.join(head.labels)}"
    if loaded.tokenizer is None:
        return "has no tokenizer, and text cannot be read without one; put its tokenizer.json or vocab.txt there"
    theirs_pairs = loaded.reading.pairs if loaded.reading and head.kind == "classify" else None
    if None not in (theirs_pairs, pairs) and theirs_pairs != pairs:
        return (
            f"was trained on {'pairs' if theirs_pairs else 'single texts'}; the task has {'pairs' if pairs else 'none'}"
        )
    return ""


def _kind(head: Head) -> str:
    return head.problem if head.kind == "classify" else head.kind


def _problem_of_spans(loaded: Weights, config: Finetuned, tokenizer: Tokenizer) -> str:
    """Places of answers are tokens, so that both models must see the same ones."""
    assert loaded.head is not None
    assert loaded.tokenizer is not None
    if loaded.head.conditioned:
        return "has a conditioned head, whose ends depend on a start; name a model with --head.span independent"
    if loaded.head.no_answer != config.head.no_answer:
        return (
            f"{'may' if loaded.head.no_answer else 'cannot'} answer that there is no answer, unlike this task's models"
        )
    if loaded.tokenizer.hash != tokenizer.hash:
        return (
            f"has another tokenizer than {config.init} (SHA-256 {loaded.tokenizer.hash[:12]} and "
            f"{tokenizer.hash[:12]}), and places of answers are tokens; name a teacher with the same one"
        )
    if loaded.model.max_positions < config.data.length:
        return f"reads {loaded.model.max_positions} tokens at most; data.length is {config.data.length}"
    return ""


def _digest(loaded: Weights) -> str:
    tokenizer = loaded.tokenizer.hash if loaded.tokenizer else ""
    head = dataclasses.asdict(loaded.head) if loaded.head else {}
    stated = [dataclasses.asdict(loaded.model), head, tokenizer, answer_length(loaded), loaded.trained_bits]
    return parameters.digest(loaded.params, json.dumps(stated))


# --- Its answers -----------------------------------------------------------------------------------------------------


def answers_to(teacher: str, digest: str, texts: Sequence[Example], head: Head, folder: pathlib.Path) -> Taught:
    """The teacher's outputs for texts, with labels in the order of `head`; not for spans.

    Args:
      teacher: its folder.
      digest: as of `check`.
      texts: of the stream.
      head: of the student.
      folder: they are stored here, under a hash of the texts, of the teacher, and of the labels in their order.
    """
    whole, sizes = hashlib.sha256(f"{digest}\0{head.labels}\0".encode()), np.zeros(len(texts), np.int64)
    for number, text in enumerate(texts):
        whole.update(f"{text.text}\0{text.pair}\0{text.choices}\0{text.words}\0".encode())
        sizes[number] = {"choose": len(text.choices), "tag": len(text.words)}.get(head.kind, 1)
    path = folder / f"teacher-{whole.hexdigest()[:16]}.npy"
    firsts = np.r_[0, np.cumsum(sizes)]
    bounds = [*range(0, len(texts), _PART), len(texts)]

    def begin() -> Callable[[int], np.ndarray]:
        answer = open_answers(teacher, head)
        _announce(teacher, f"{len(texts):,} texts", path)

        def compute(number: int) -> np.ndarray:
            found: list[np.ndarray] = []
            for first in range(bounds[number], bounds[number + 1], _CHUNK):
                last = min(first + _CHUNK, bounds[number + 1])
                chunk = [texts[place] for place in range(first, last)]
                each = answer(chunk)
                found += _with_words_cut_off(each, chunk) if head.kind == "tag" else each
            return np.concatenate(found)

        return compute

    parts = np.diff(firsts[bounds]).tolist()
    return Taught(stored.in_parts(path, parts, head.outputs, begin, f"{_UNITS[head.kind]} {_ANSWERED}"), firsts)


def open_answers(teacher: str, head: Head, job: str = "finetune") -> Callable[[Sequence[Example]], list[np.ndarray]]:
    """Opens a teacher: (texts) -> its logits of each, [N, C] float32 with C in the order of `head`; not for spans.

    Args:
      teacher: its folder, as `check` has passed it.
      head: of the student.
      job: begins the messages of errors.
    """
    with adoption.open_weights(teacher, job) as loaded:
        model = open_task_model(teacher, loaded)
    order = [model.head.labels.index(label) for label in head.labels] or slice(None)

    def answer(texts: Sequence[Example]) -> list[np.ndarray]:
        logits = model.answer(texts)[0]
        return [each.reshape(-1, head.outputs)[:, order].astype(np.float32) for each in logits]

    return answer


_UNITS = {"classify": "texts", "choose": "choices", "tag": "words"}
_ANSWERED = "have the teacher's answers"


def _with_words_cut_off(logits: Sequence[np.ndarray], sentences: Sequence[Example]) -> list[np.ndarray]:
    """[words, C] for each sentence; NaN for words that the teacher did not read."""
    missing = [len(example.words) - len(each) for each, example in zip(logits, sentences, strict=True)]
    return [
        np.pad(each, ((0, lacking), (0, 0)), constant_values=np.nan)
        for each, lacking in zip(logits, missing, strict=True)
    ]


def spans_of(teacher: str, digest: str, encoded: Encoded, pad_id: int, folder: pathlib.Path) -> Taught:
    """The teacher's logits of start and end for every token of a stream of windows, which are the student's too."""
    whole = hashlib.sha256(f"{digest}\0{encoded.digest()}".encode()).hexdigest()[:16]
    path, count = folder / f"teacher-{whole}.npy", len(encoded.offsets) - 1
    bounds = [*range(0, count, _PART), count]

    def begin() -> Callable[[int], np.ndarray]:
        with adoption.open_weights(teacher, "finetune") as loaded:
            head = loaded.head
        assert head is not None
        _announce(teacher, f"{count:,} windows", path)
        mesh = sharding.make_mesh(1)
        compute_in = choose_precision.resolve(loaded.model.compute, jax.default_backend(), loaded.trained_bits)
        forward = outputs.make_forward(TaskModel(loaded.model, head, compute_in), mesh)
        params = jax.device_put(loaded.params, sharding.replicated(mesh))

        def compute(number: int) -> np.ndarray:
            part = joining.stretch(encoded, bounds[number], bounds[number + 1])
            row = batches.round_up(int(part.sizes.max()))
            layouts = batches.evaluation_batches(part, row, True, 1, head, pad_id)
            found = span_answers.outputs_of(forward, params, span_features.Questions(part), layouts, mesh)
            return np.concatenate([np.stack(pair, axis=-1) for pair in found]).astype(np.float32)

        return compute

    parts = np.diff(encoded.offsets[bounds]).tolist()
    return Taught(stored.in_parts(path, parts, 2, begin, f"tokens {_ANSWERED}"), encoded.offsets)


def _announce(teacher: str, what: str, path: pathlib.Path) -> None:
    print(f"finetune: computing the logits of the teacher {teacher} for {what}, stored in {path}")


# --- In a batch ------------------------------------------------------------------------------------------------------


def arrays_of(
    taught: Taught, head: Head, encoded: Encoded, layout: batches.Layout, texts: np.ndarray
) -> dict[str, np.ndarray]:
    """The teacher's entries of a batch.

    Args:
      taught: outputs for the examples of `encoded`.
      head: of the student.
      encoded: the stream, as the student reads it.
      layout: of the batch.
      texts: [R, P] numbers of the outputs of classified texts and of choices, -1 for none.

    Returns:
      `teacher` [R, P, C], or [R, L, C] for tags and spans; for tags also `teacher_known` [R, L], 1 at the first pieces
      of words that both models answer.
    """
    if head.kind not in ("tag", "span"):
        return {"teacher": np.where(texts[..., None] >= 0, taught.outputs[texts], 0).astype(np.float32)}
    wide = layout.batch["tokens"].shape
    values, known = np.zeros((*wide, taught.outputs.shape[1]), np.float32), np.zeros(wide, np.float32)
    for row, column in np.argwhere(layout.windows >= 0).tolist():
        window, start = int(layout.windows[row, column]), int(layout.batch["cls"][row, column])
        first, stop = int(encoded.offsets[window]), int(encoded.offsets[window + 1])
        if head.kind == "span":
            values[row, start : start + stop - first] = taught.outputs[first:stop]
            continue
        words = encoded.words[first:stop]
        places = np.flatnonzero(words >= 0)
        answers = taught.outputs[taught.firsts[window] + words[places]]
        answered = ~np.isnan(answers[:, 0])
        values[row, start + places] = np.where(answered[:, None], answers, 0)
        known[row, start + places] = answered
    return {"teacher": values} | ({"teacher_known": known} if head.kind == "tag" else {})
