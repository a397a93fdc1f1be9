"""What a model's answers to labelled examples are worth, and how many of them are another model's too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.data.scores import task_metrics
from bertlite_jax.data.scores.answers import Prediction
from bertlite_jax.data.tasks import Task
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.jobs.answering import span_answers
from bertlite_jax.jobs.answering.outputs import predictions


class Judged(NamedTuple):
    """The answers of a model, and their scores."""

    figures: dict[str, float]
    """The task's metrics."""
    answers: list[Any]
    """Of each example, as they are compared: a label, a tuple of them, a text, a number."""


def judge(task: Task, head: Head, examples: Sequence[Example], logits: Sequence[np.ndarray]) -> Judged:
    """Scores logits as of `outputs.outputs_of`; not those of spans."""
    answers = predictions(head, logits, examples)
    figures = task_metrics.score(task, examples, answers)
    decided = head.kind == "choose" or (head.kind == "classify" and head.problem == "single_label")
    return Judged(figures, [task_metrics.decided(answer) for answer in answers] if decided else answers)


def judge_spans(task: Task, head: Head, examples: Sequence[Example], found: Sequence[Prediction]) -> Judged:
    """Scores answers to questions."""
    texts = span_answers.texts_of(found, head)
    figures = span_answers.figures(task, examples, found, texts, head)
    return Judged(figures, [texts[example.id] for example in examples])


def agreement(ours: Judged, theirs: Judged, head: Head) -> float | None:
    """The share of equal answers, of tags and of several labels that of equal labels; None for numbers."""
    if head.problem == "regression":
        return None
    same = [np.ravel(np.equal(a, b)) for a, b in zip(ours.answers, theirs.answers, strict=True)]
    return float(np.mean(np.concatenate(same)))
