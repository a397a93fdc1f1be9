"""`bertlite predict --task`: a task model answers a split of a task, for a leaderboard or to be scored."""

from __future__ import annotations

import pathlib
import sys
from typing import TextIO

from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights import label_order
from bertlite_jax.data import tasks
from bertlite_jax.data.scores import submission, task_metrics
from bertlite_jax.errors import UserError, fields_close_to
from bertlite_jax.host.whole_files import new_file
from bertlite_jax.jobs.answering import outputs, scoring, span_predict, task_splits
from bertlite_jax.jobs.answering.inputs import data_of_run
from bertlite_jax.jobs.answering.json_output import write_line
from bertlite_jax.jobs.answering.open_model import open_task_model, renamed
from bertlite_jax.jobs.answering.predict import answered_in_words, readable
from bertlite_jax.jobs.answering.span_predict import AnswerOptions


def predict_split(
    run: str,
    name: str,
    data: str,
    split: str,
    out: TextIO,
    folder: str = "",
    n_best: int = 1,
    null_threshold: float | None = None,
    predictions: str = "",
    metrics: str = "",
    labels: tuple[str, ...] = (),
) -> dict[str, float]:
    """Answers every example of a split, in its order.

    Args:
      run: as for `open_task_model`; trained on this task, or on one with the same labels (AX: MNLI's).
      name: of the task.
      data: folder with the task's files.
      split: a split of the task, such as `test` or `validation`.
      out: receives a JSON object per line, as for `predict.predict`, unless a folder is given.
      folder: folder for the file that the suite's leaderboard accepts; empty: answers go to `out`.
      n_best: for models that answer questions, see `AnswerOptions`.
      null_threshold: the same.
      predictions: the same.
      metrics: file for the scores, as JSON; empty: they are only printed.
      labels: other names for the model's outputs, in their order; empty: its own.

    Returns:
      The task's scores, empty if the split has no labels; also printed on standard error.

    Raises:
      UserError: there is no such task, split or file; the model has other labels; no leaderboard takes the split; or
        the output file exists.
    """
    if name not in tasks.TASKS:
        raise UserError(f"predict: --task {name}: no such task; {fields_close_to(name, list(tasks.TASKS))}")
    task = tasks.TASKS[name]
    scoring.check_file(metrics)
    if task.head.kind == "span":
        if folder:
            raise UserError(f"predict: {name} has no --submission; its scorer reads the file of --predictions FILE")
        with adoption.open_weights(run, "predict") as loaded:
            options = AnswerOptions(n_best, null_threshold, predictions)
            return span_predict.predict_task(loaded, run, task, data, split, out, options, metrics)
    path = pathlib.Path(folder, submission.submission_name(task, split)) if folder else None
    if path is not None and path.exists():
        raise UserError(f"predict: {path} exists; name another --submission folder")
    with adoption.open_weights(run, "predict") as loaded:
        # A model of elsewhere may have the labels of the task in another order.
        named = renamed(loaded, labels, run) if labels else loaded
        model = open_task_model(run, label_order.reordered(named, task.head.labels) or named)
    _check_same_head(model.head, task.head, run, name)
    _note_other_task(run, name)
    examples = task_splits.read_to_predict(task, data, split)
    all_logits, counts = model.answer(examples)
    answers = outputs.predictions(model.head, all_logits, examples)
    print(f"predict: {answered_in_words(counts, model.length)}", file=sys.stderr)
    if path is None:
        for example, logits in zip(examples, all_logits, strict=True):
            write_line(out, readable(model.head, example, logits))
    else:
        with new_file(path, overwrite=False, job="predict") as unfinished:
            unfinished.write_text(submission.submission(task, examples, answers), encoding="utf-8")
        print(f"predict: wrote {path}", file=sys.stderr)
    scores = {} if any(example.label is None for example in examples) else task_metrics.score(task, examples, answers)
    scoring.say(scores)
    if metrics:
        scoring.write(metrics, scores, len(examples))
    return scores


def _note_other_task(run: str, name: str) -> None:
    """Prints a line if the run was trained on another task: labels alone do not tell, as 0 and 1 of SST-2 and CoLA."""
    data = data_of_run(run)
    trained_on = name if data is None else data.task or "a file of your own"
    if trained_on != name:
        print(f"predict: {run} was trained on {trained_on}; it now answers {name}", file=sys.stderr)


def _check_same_head(model: Head, task: Head, run: str, name: str) -> None:
    for field in ("kind", "problem", "labels"):
        of_model, of_task = getattr(model, field), getattr(task, field)
        if of_model != of_task:
            names = field == "labels" and len(of_model) == len(of_task)
            hint = f"; pass --labels with {name}'s names in the order of the model's outputs" if names else ""
            raise UserError(f"predict: {run} has head.{field} = {of_model}, but {name} needs {of_task}{hint}")
