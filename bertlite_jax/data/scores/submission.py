"""Predictions as the files that the servers of GLUE and SuperGLUE accept.

Source: the file names and layouts of jiant's writer (nyu-mll/jiant-v1-legacy:evaluate.py) for both servers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bertlite_jax.data.scores.task_metrics import best_entity, decided
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.task import Task
from bertlite_jax.errors import UserError


def submission_name(task: Task, split: str = "test") -> str:
    """Name of the file that the server wants for this split.

    Raises:
      UserError: no server accepts it.
    """
    if split not in task.sent_as:
        known = ", ".join(task.sent_as) or "none of its splits"
        raise UserError(f"task: {task.name}: no server takes predictions of {split!r}; it takes: {known}")
    return task.sent_as[split]


def submission(task: Task, examples: Sequence[Example], predictions: Sequence[Any]) -> str:
    """The text of the file: TSV of index and prediction for GLUE, JSON lines for SuperGLUE.

    Args:
      task: of one of the two suites.
      examples: a whole test split in its order.
      predictions: one for each, as for `task_metrics.score`.

    Raises:
      UserError: the task belongs to no suite.
      ValueError: there is not one prediction for each example.
    """
    if len(examples) != len(predictions):
        raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
    if task.suite == "glue":
        rows = (f"{e.id}\t{_as_sent(task, p)}" for e, p in zip(examples, predictions, strict=True))
        return "\n".join(("index\tprediction", *rows)) + "\n"
    if task.suite != "superglue":
        raise UserError(f"task: {task.name} is of neither GLUE nor SuperGLUE: no server takes its predictions")
    if task.name == "multirc":
        objects = _multirc(examples, predictions)
    elif task.name == "record":
        objects = _record(examples, predictions)
    else:
        objects = [{"idx": int(e.id), "label": _as_sent(task, p)} for e, p in zip(examples, predictions, strict=True)]
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects)


def _as_sent(task: Task, prediction: Any) -> str | int:
    """A label's name, a choice's number, or a number within STS-B's scale of 0 to 5."""
    if task.head.problem == "regression":
        return f"{min(max(float(prediction), 0.0), 5.0):.3f}"
    if task.head.kind == "choose":
        return decided(prediction)
    return (task.sent_labels or task.head.labels)[decided(prediction)]


def _multirc(examples: Sequence[Example], predictions: Sequence[Any]) -> list[dict[str, Any]]:
    passages: dict[int, dict[int, list[dict[str, int]]]] = {}
    for example, prediction in zip(examples, predictions, strict=True):
        passage, question, answer = map(int, example.id.split("-"))
        answers = passages.setdefault(passage, {}).setdefault(question, [])
        answers.append({"idx": answer, "label": decided(prediction)})
    return [
        {"idx": passage, "passage": {"questions": [{"idx": q, "answers": a} for q, a in questions.items()]}}
        for passage, questions in passages.items()
    ]


def _record(examples: Sequence[Example], predictions: Sequence[Any]) -> list[dict[str, Any]]:
    queries: dict[str, list[tuple[Example, Any]]] = {}
    for example, prediction in zip(examples, predictions, strict=True):
        queries.setdefault(example.group, []).append((example, prediction))
    return [{"idx": int(name.split("-")[1]), "label": best_entity(rows)} for name, rows in queries.items()]
