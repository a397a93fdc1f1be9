"""From the logits of windows to answers, and from answers to the figures of a task that asks for spans."""

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
"""Of models that may say that there is no answer: chosen before any of their figures is seen. Independent ends: "no
answer" scores higher than every answer; conditioned ends: its probability is above one half."""

NEEDED = ("rows", "tokens", "segments", "positions", "token_types", "cls")

Forward = Callable[[Any, dict[str, jax.Array]], Any]
"""(parameters, rows) -> logits [R, L, 2], or `SpanBeams` of a conditioned head."""

Found = tuple[np.ndarray, np.ndarray] | tuple[Beam, float]
"""Of one window: start and end logits [tokens], or what a conditioned head proposes and its logit for no answer."""


def outputs_of(
    forward: Forward, params: Any, questions: Questions, layouts: Iterable[Layout], mesh: jax.sharding.Mesh
) -> list[Found]:
    """What the head says to each window, in the order of `questions.encoded`."""
    sizes = np.diff(questions.encoded.offsets)
    found: list[Any] = [None] * len(sizes)
    for layout in layouts:
        rows = {name: layout.batch[name] for name in NEEDED}
        said = jax.device_get(forward(params, sharding.put_batch(rows, mesh)))
        for row, column in np.argwhere(layout.windows >= 0).tolist():
            window = int(layout.windows[row, column])
            if isinstance(said, tuple):
                *beam, null = (part[row, column] for part in said)
                found[window] = Beam(beam[0], beam[1], beam[2], beam[3]), float(null)
            else:
                start = int(layout.batch["cls"][row, column])
                here = said[row, start : start + int(sizes[window])]
                found[window] = here[:, 0], here[:, 1]
    return found


def predictions_of(questions: Questions, found: Sequence[Found], longest: int, count: int = 20) -> list[Prediction]:
    """The answers to each question, out of what was found in its windows.

    Args:
      questions: with passages.
      found: of `outputs_of`.
      longest: tokens of an answer at most.
      count: answers at most.
    """
    predictions, at = [], 0
    for passage, windows in zip(questions.passages, questions.windows, strict=True):
        own = found[at : at + len(windows)]
        at += len(windows)
        build: Any = answers.from_beams if isinstance(own[0][0], Beam) else answers.from_sums
        first, second = zip(*own, strict=True)
        predictions.append(build(passage, windows, first, second, longest, count))
    return predictions


def figures(
    task: Task, examples: Sequence[Example], predictions: Sequence[Prediction], texts: Mapping[str, str], head: Head
) -> dict[str, float]:
    """The task's figures, as fractions, for answers by id at a fixed threshold.

    Where there may be no answer, also those of the questions with and without one; and, by names that begin with
    `best_`, what the best threshold for these very questions would have given. The latter is no result.
    """
    scores = task_metrics.score(task, examples, [texts[example.id] for example in examples])
    if not head.no_answer:
        return scores
    official = squad_metrics.score(examples, texts)
    names = {"HasAns_f1": "answerable_f1", "HasAns_exact": "answerable_exact", "NoAns_exact": "unanswerable_exact"}
    scores |= {ours: official[name] / 100 for name, ours in names.items() if name in official}
    bests = {prediction.id: answers.chosen(prediction) for prediction in predictions}
    searched = squad_metrics.best_thresholds(examples, bests, {each.id: each.null for each in predictions})
    for name, value in searched.items():
        scores[name] = value if name.endswith("threshold") else value / 100
    return scores


def texts_of(predictions: Sequence[Prediction], head: Head) -> dict[str, str]:
    """Id to answer at the fixed threshold, empty for none."""
    threshold = NULL_THRESHOLD if head.no_answer else None
    return {prediction.id: answers.chosen(prediction, threshold) for prediction in predictions}


def breakdown(examples: Sequence[Example], texts: Mapping[str, str]) -> dict[str, Any]:
    """Tables for the report: scores by answer length and by question word (`span_scores`)."""
    return {
        "by_answer_length": span_scores.by_answer_length(examples, texts),
        "by_question_word": span_scores.by_question_word(examples, texts),
    }


def write_official(path: pathlib.Path, predictions: Mapping[str, str]) -> None:
    """The file that the official scorers read: one object, id to answer, empty for none. Complete or absent."""
    with whole_files.new_file(path, overwrite=True, job="predict") as fresh:
        fresh.write_text(json.dumps(dict(predictions), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
