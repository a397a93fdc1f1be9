"""The scores of ONNX files on the validation split, as ONNX Runtime answers it, and which answers are a teacher's too.

Letters: B windows in a batch, L tokens, C outputs.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert.int8 import example_windows, measuring_text
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.scores import task_metrics
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import span_answers
from bertlite_jax.jobs.answering.outputs import predictions
from bertlite_jax.jobs.answering.task_splits import Split
from bertlite_jax.jobs.benchmarks.runtimes.runtime import answer_of
from bertlite_jax.jobs.finetuning.setup import Setup

_BATCH = 8


class Judged(NamedTuple):
    """A file's answers, and what they are worth."""

    figures: dict[str, float]
    """The task's metrics."""
    answers: list[Any]
    """Of each example, as they are compared: a label, a tuple of them, a text, a number."""


def judge(path: pathlib.Path, weights: Weights, setup: Setup) -> Judged:
    """Answers the validation split with a file.

    Args:
      path: of the ONNX file.
      weights: head and tokenizer of the model in it.
      setup: of the task.

    Raises:
      UserError: an answer is NaN.
    """
    head, valid = weights.head, setup.valid
    assert head is not None
    found = _of_windows(path, weights, valid)
    if valid.questions:
        pairs = [(ends[0], ends[1]) for ends in found]
        answers = span_answers.predictions_of(valid.questions, pairs, setup.start.config.data.answer_length)
        texts = span_answers.texts_of(answers, head)
        figures = span_answers.figures(setup.task, valid.examples, answers, texts, head)
        return Judged(figures, [texts[example.id] for example in valid.examples])
    logits = _of_examples(found, valid, head)
    answers = predictions(head, logits, valid.examples)
    figures = task_metrics.score(setup.task, valid.examples, answers)
    decided = head.kind == "choose" or (head.kind == "classify" and head.problem == "single_label")
    return Judged(figures, [task_metrics.decided(answer) for answer in answers] if decided else answers)


def agreement(ours: Judged, theirs: Judged, head: Head) -> float | None:
    """The share of equal answers, of tags and of several labels that of equal labels; None for numbers."""
    if head.problem == "regression":
        return None
    same = [np.equal(a, b) for a, b in zip(ours.answers, theirs.answers, strict=True)]
    return float(np.mean(np.concatenate([np.ravel(each) for each in same])))


def _of_windows(path: pathlib.Path, weights: Weights, valid: Split) -> list[np.ndarray]:
    """What the file answers to each window: [C], for tags [tokens, C], for spans [2, tokens]; short windows first."""
    session, scored = open_session(path), measuring_text.scored_output(weights)
    assert scored.head is not None
    windows = example_windows.split(valid.encoded)
    sizes = np.array([len(window.ids) for window in windows])
    found: list[Any] = [None] * len(windows)
    order = np.argsort(sizes, kind="stable")
    for first in range(0, len(order), _BATCH):
        some = order[first : first + _BATCH].tolist()
        longest = int(sizes[some].max())
        (batch,) = measuring_text.batches(weights, [windows[i] for i in some], _BATCH, longest)
        values = answer_of(scored.head.kind, run_session(session, measuring_text.as_read(batch, scored)))
        if np.isnan(values).any():
            raise UserError(f"compress: some answers of {path} are NaN, so it has no score")
        for row, window in zip(values, some, strict=True):
            tokens = slice(int(sizes[window]))
            found[window] = {"tag": row[tokens], "span": row[..., tokens]}.get(scored.head.kind, row)
    return found


def _of_examples(found: Sequence[np.ndarray], valid: Split, head: Head) -> list[np.ndarray]:
    """The logits of each example, as of `outputs_of`."""
    encoded = valid.encoded
    if head.kind == "choose":
        firsts = encoded.firsts.tolist()
        return [np.concatenate(found[first:last]) for first, last in itertools.pairwise(firsts)]
    if head.kind == "tag":
        words = np.split(encoded.words, encoded.offsets[1:-1])
        return [logits[here >= 0] for logits, here in zip(found, words, strict=True)]
    return list(found)
