"""The scores of ONNX files on the validation split, as ONNX Runtime answers it.

Letters: B windows in a batch, L tokens, C outputs.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert.int8 import example_windows, measuring_text
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import span_answers
from bertlite_jax.jobs.answering.task_splits import Split
from bertlite_jax.jobs.benchmarks.runtimes.runtime import answer_of
from bertlite_jax.jobs.compressing import agreement
from bertlite_jax.jobs.compressing.agreement import Judged
from bertlite_jax.jobs.finetuning.setup import Setup

_BATCH = 8


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
        spans = span_answers.predictions_of(valid.questions, pairs, setup.start.config.data.answer_length)
        return agreement.judge_spans(setup.task, head, valid.examples, spans)
    return agreement.judge(setup.task, head, valid.examples, _of_examples(found, valid, head))


def _of_windows(path: pathlib.Path, weights: Weights, valid: Split) -> list[np.ndarray]:
    """What the file answers to each window: [C], for tags [tokens, C], for spans [2, tokens]; short windows first."""
    session, scored = open_session(path), measuring_text.scored_output(weights)
    assert scored.head is not None
    kind = scored.head.kind
    windows = example_windows.split(valid.encoded)
    sizes = np.array([len(window.ids) for window in windows])
    found: list[Any] = [None] * len(windows)
    order = np.argsort(sizes, kind="stable")
    for first in range(0, len(order), _BATCH):
        some = order[first : first + _BATCH].tolist()
        longest = int(sizes[some].max())
        (batch,) = measuring_text.batches(weights, [windows[i] for i in some], _BATCH, longest)
        values = answer_of(kind, run_session(session, measuring_text.as_read(batch, scored)))
        if np.isnan(values).any():
            raise UserError(f"compress: some answers of {path} are NaN, so it has no score")
        for row, window in zip(values, some, strict=True):
            size = int(sizes[window])
            found[window] = row[:size] if kind == "tag" else row[:, :size] if kind == "span" else row
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
