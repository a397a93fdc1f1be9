"""`bertlite predict --task`: a task model answers a split of a task, for a server or to be scored."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import TextIO

from bertlite_jax.config import files
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.convert import adoption
from bertlite_jax.data import tasks
from bertlite_jax.data.scores import submission, task_metrics
from bertlite_jax.errors import UserError, fields_close_to
from bertlite_jax.host.whole_files import new_file
from bertlite_jax.jobs.answering import span_predict, task_splits
from bertlite_jax.jobs.answering.open_model import open_task_model
from bertlite_jax.jobs.answering.outputs import predictions as predicted
from bertlite_jax.jobs.answering.predict import readable


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
) -> dict[str, float]:
    """Answers every example of a split, in its order.

    Args:
      run: as for `predict.open_task_model`; trained on this task, or on one with the same labels (AX: MNLI's).
      name: of the task.
      data: its folder.
      split: of its splits, such as `test` or `validation`.
      out: takes a JSON object a line, as for `predict.predict`, where no folder is given.
      folder: writes the file that the suite's server takes into it instead.
      n_best, null_threshold, predictions: of models that answer questions, see `span_predict.predict`.

    Returns:
      The task's scores, empty where the split has no labels; said on standard error, too.

    Raises:
      UserError: no such task, split or file; a model with other labels; a split that no server takes; the file is
        there already.
    """
    if name not in tasks.TASKS:
        raise UserError(f"predict: --task {name} is no task; {fields_close_to(name, list(tasks.TASKS))}")
    task = tasks.TASKS[name]
    if task.head.kind == "span":
        if folder:
            raise UserError(f"predict: {name} has no --submission; --predictions FILE is what its scorer takes")
        with adoption.open_weights(run) as loaded:
            return span_predict.predict_task(loaded, run, task, data, split, out, n_best, null_threshold, predictions)
    place = pathlib.Path(folder, submission.submission_name(task, split)) if folder else None
    if place is not None and place.exists():
        raise UserError(f"predict: {place} exists; name another --submission folder")
    with adoption.open_weights(run) as loaded:
        model = open_task_model(run, loaded)
    _check_same_head(model.head, task.head, run, name)
    _say_what_it_learnt(pathlib.Path(run), name)
    examples = task_splits.read_to_predict(task, data, split)
    outputs, counts = model.answer(examples)
    answers = predicted(model.head, outputs, examples)
    print(
        f"predict: {len(examples):,} answered, {counts['truncated']:,} of them cut to {model.length} tokens",
        file=sys.stderr,
    )
    if place is None:
        for example, logits in zip(examples, outputs, strict=True):
            out.write(json.dumps(readable(model.head, example, logits), ensure_ascii=False) + "\n")
    else:
        with new_file(place, overwrite=False, job="predict") as temporary:
            temporary.write_text(submission.submission(task, examples, answers), encoding="utf-8")
        print(f"predict: wrote {place}", file=sys.stderr)
    if any(example.label is None for example in examples):
        return {}
    scores = task_metrics.score(task, examples, answers)
    print("predict: " + ", ".join(f"{metric} {value:.4f}" for metric, value in scores.items()), file=sys.stderr)
    return scores


def _say_what_it_learnt(run: pathlib.Path, name: str) -> None:
    """Labels alone do not tell tasks apart: 0 and 1 mean one thing in SST-2 and another in CoLA."""
    if (run / "best").is_dir():
        learnt = files.read_json(run / "config.json", Finetuned).data.task
        if learnt != name:
            print(f"predict: {run} has learnt {learnt or 'a task of its own'}, and answers {name}", file=sys.stderr)


def _check_same_head(model: Head, task: Head, run: str, name: str) -> None:
    for what in ("kind", "problem", "labels"):
        theirs, wanted = getattr(model, what), getattr(task, what)
        if theirs != wanted:
            raise UserError(f"predict: {run} has head.{what} = {theirs}, and {name} wants {wanted}")
