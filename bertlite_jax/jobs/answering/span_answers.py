"""Answers of a span model from the logits of its windows, and the figures of a task from its answers."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.data.examples.batches import Layout
from bertlite_jax.data.examples.span_features import Questions
from bertlite_jax.data.scores import answers, span_scores, squad_metrics, task_metrics
from bertlite_jax.data.scores.answers import Beam, Prediction
from bertlite_jax.data.tasks import Task
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.host import whole_files
from bertlite_jax.train import sharding

NULL_THRESHOLD = 0.0
"""For models that may give no answer; fixed before any of their figures is seen. Independent ends: "no answer" scores
higher than every answer. Conditioned ends: its probability is above one half."""

NEEDED = ("rows", "tokens", "segments", "positions", "token_types", "cls")

Forward = Callable[[Any, dict[str, jax.Array]], Any]
"""(parameters, rows) -> logits [R, L, 2], or `SpanBeams` of a conditioned head."""

WindowOutput = tuple[np.ndarray, np.ndarray] | tuple[Beam, float]
"""For one window: start and end logits [tokens], or the beam of a conditioned head and its logit for no answer."""


def outputs_of(
    forward: Forward, params: Any, questions: Questions, layouts: Iterable[Layout], mesh: jax.sharding.Mesh
) -> list[WindowOutput]:
    """Returns the head's output for each window, in the order of `questions.encoded`."""
    sizes = np.diff(questions.encoded.offsets)
    window_outputs: list[Any] = [None] * len(sizes)
    for layout in layouts:
        rows = {name: layout.batch[name] for name in NEEDED}
        output = jax.device_get(forward(params, sharding.put_batch(rows, mesh)))
        for row, column in np.argwhere(layout.windows >= 0).tolist():
            window = int(layout.windows[row, column])
            if isinstance(output, tuple):
                *beam, null = (part[row, column] for part in output)
                window_outputs[window] = Beam(beam[0], beam[1], beam[2], beam[3]), float(null)
            else:
                start = int(layout.batch["cls"][row, column])
                logits = output[row, start : start + int(sizes[window])]
                window_outputs[window] = logits[:, 0], logits[:, 1]
    return window_outputs


def predictions_of(
    questions: Questions, window_outputs: Sequence[WindowOutput], longest: int, count: int = 20
) -> list[Prediction]:
    """The answers to each question, from the outputs for its windows.

    Args:
      questions: with their passages.
      window_outputs: as of `outputs_of`.
      longest: most tokens in an answer.
      count: most answers to a question.
    """
    predictions, at = [], 0
    for passage, windows in zip(questions.passages, questions.windows, strict=True):
        of_question = window_outputs[at : at + len(windows)]
        at += len(windows)
        build: Any = answers.from_beams if isinstance(of_question[0][0], Beam) else answers.from_sums
        first, second = zip(*of_question, strict=True)
        predictions.append(build(passage, windows, first, second, longest, count))
    return predictions


def figures(
    task: Task, examples: Sequence[Example], predictions: Sequence[Prediction], texts: Mapping[str, str], head: Head
) -> dict[str, float]:
    """The task's figures, as fractions, for answers by id at a fixed threshold.

    If there may be no answer, also the figures of the questions with and without one, and, under names that begin with
    `best_`, those at the best threshold for these same questions. The latter are not results.
    """
    scores = task_metrics.score(task, examples, [texts[example.id] for example in examples])
    if not head.no_answer:
        return scores
    official = squad_metrics.score(examples, texts)
    names = {"HasAns_f1": "answerable_f1", "HasAns_exact": "answerable_exact", "NoAns_exact": "unanswerable_exact"}
    scores |= {ours: official[name] / 100 for name, ours in names.items() if name in official}
    bests = {prediction.id: answers.chosen(prediction) for prediction in predictions}
    searched = squad_metrics.best_thresholds(
        examples, bests, {prediction.id: prediction.null for prediction in predictions}
    )
    for name, value in searched.items():
        scores[name] = value if name.endswith("threshold") else value / 100
    return scores


def texts_of(predictions: Sequence[Prediction], head: Head) -> dict[str, str]:
    """Answers by id at the fixed threshold; empty for no answer."""
    threshold = NULL_THRESHOLD if head.no_answer else None
    return {prediction.id: answers.chosen(prediction, threshold) for prediction in predictions}


def breakdown(examples: Sequence[Example], texts: Mapping[str, str]) -> dict[str, Any]:
    """Tables for the report: scores by answer length and by question word (`span_scores`)."""
    return {
        "by_answer_length": span_scores.by_answer_length(examples, texts),
        "by_question_word": span_scores.by_question_word(examples, texts),
    }


def write_official(path: pathlib.Path, predictions: Mapping[str, str]) -> None:
    """Writes the file that the official scorers read, whole or not at all: an object of answers by id."""
    with whole_files.new_file(path, overwrite=True, job="predict") as unfinished:
        unfinished.write_text(json.dumps(dict(predictions), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
