"""Tasks by name or from the user's own files, and the examples of their splits."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, NamedTuple

from bertlite_jax.config.finetune import Examples
from bertlite_jax.data import tasks
from bertlite_jax.data.examples import features, span_features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import held_out
from bertlite_jax.data.text import hub_datasets
from bertlite_jax.errors import UserError, fields_close_to
from bertlite_jax.host.places import in_datasets


class Split(NamedTuple):
    """A split of a task."""

    name: str
    encoded: features.Encoded
    examples: list[Example]
    """Empty for a training split, whose examples are read once and not stored."""
    questions: span_features.Questions | None = None
    """Passages and windows, for tasks that ask for spans."""
    reading_counts: Mapping[str, int] = MappingProxyType({})
    """What `tasks.read` skipped or found irregular, by its names."""


Evaluate = Callable[..., dict[str, Any]]
"""(parameters, split) -> the task's figures. `answered` may be a set to which the labels that were answered are added.

For tasks that ask for spans, a folder may be passed as third argument. Then the answers are written into it, as the
official scorers read them, and tables for the report are returned.
"""


def task_of(data: Examples) -> tasks.Task:
    """The task by its name, or of the user's own file.

    Raises:
      UserError: the name is unknown, there is nothing to read, or the task has no training split.
    """
    if not data.folder:
        raise UserError("finetune: --data is missing; name the folder with the task's files, or a file of your own")
    if data.task and in_datasets(data.folder):
        raise UserError(f"finetune: --task {data.task} reads the task's own files; leave it out to read {data.folder}")
    return _with_metric(task_named(data.task) if data.task else _own_task(data), data.metric)


def task_named(name: str) -> tasks.Task:
    """The task by its name. Raises UserError if the name is unknown or the task has no training split."""
    if name not in tasks.TASKS:
        raise UserError(f"finetune: --task {name}: no such task; {fields_close_to(name, list(tasks.TASKS))}")
    task = tasks.TASKS[name]
    if "train" not in task.splits:
        raise UserError(
            f"finetune: {name} has no training split; train a task with the same labels and predict this one"
        )
    return task


def _own_task(data: Examples) -> tasks.Task:
    if not in_datasets(data.folder):
        _refuse_no_file(data.folder)
    train, validation = (
        hub_datasets.copied_split(place, "finetune") if in_datasets(place) else place
        for place in (data.folder, data.validation_file)
    )
    return tasks.task_of_file(train, validation, options=options_of(data))


def _refuse_no_file(place: str) -> None:
    """Raises UserError where --data without --task is no file."""
    if not pathlib.Path(place).exists():
        raise UserError(f"finetune: {place} does not exist; name a folder with a task's files, or a file of your own")
    if not pathlib.Path(place).is_file():
        known = ", ".join(tasks.TASKS)
        train = next((path for path in sorted(pathlib.Path(place).glob("train*.*")) if path.is_file()), None)
        own = f"; or, for files of your own, pass --data {shlex.quote(str(train))}" if train else ""
        raise UserError(
            f"finetune: --task is missing; --data {place} is a folder, so name one of its tasks: {known}{own}"
        )


def options_of(data: Examples) -> tasks.OwnOptions:
    """How a user's own files are read, as a recipe says."""
    return tasks.OwnOptions(
        kind=data.kind,
        text=data.text_column,
        pair=data.pair_column,
        label=data.label_column,
        id=data.id_column,
        choices=data.choice_columns,
        label_names=data.label_names,
        separator=data.separator,
        delimiter=data.delimiter,
        decimal=data.decimal,
        skip_unlabelled=data.skip_unlabelled,
    )


def options_of_more(data: Examples) -> tasks.OwnOptions:
    """How a further file for a task is read: its columns are called as in one's own training file, or as usual."""
    if data.task:
        return tasks.OwnOptions()
    return dataclasses.replace(options_of(data), kind="auto", skip_unlabelled=False)


def _with_metric(task: tasks.Task, metric: str) -> tasks.Task:
    """The task with another first metric, which must be one of its own, or mcc where each text has one label."""
    if metric in ("auto", task.metrics[0]):
        return task
    if metric not in task.metrics and not (metric == "mcc" and {"accuracy", "f1_macro"} <= set(task.metrics)):
        raise UserError(f"config: data.metric = {metric} is none of this task's: {', '.join(task.metrics)}")
    return dataclasses.replace(task, metrics=(metric, *(name for name in task.metrics if name != metric)))


def examples_of(
    task: tasks.Task, data: Examples, split: str, counts: MutableMapping[str, int] | None = None
) -> Iterator[Example]:
    """Streams the examples of a split.

    A user's own file without a validation file gives both splits (`held_out`).

    Args:
      task: the task.
      data: where its files are.
      split: name of the split.
      counts: is added to as by `tasks.read`; of a file that gives both splits, for the training split only.
    """
    if isinstance(task, tasks.OwnTask) and "validation" not in task.splits:
        validation = split != "train"
        stream = tasks.read(task, data.folder, "train", None if validation else counts)
        kept = held_out.rule(task, data.validation_fraction, stratified=data.held_out == "stratified")
        return (example for example in stream if kept(example) == validation)
    stream = tasks.read(task, data.folder, split, counts)
    # In ReCoRD, nine of ten rows are wrong entities.
    return tasks.balance(stream, seed=0) if (task.name, split) == ("record", "train") else stream


def read_to_predict(task: tasks.Task, folder: str, split: str) -> list[Example]:
    """All examples of a split. What is skipped or irregular is reported on standard error."""
    counts: Counter[str] = Counter()
    examples = list(tasks.read(task, folder, split, counts))
    if text := in_words(counts):
        print(f"predict: {split}: {text}", file=sys.stderr)
    return examples


def in_words(counts: Mapping[str, int]) -> str:
    """What `tasks.read` skipped or found irregular, as text; empty if there is nothing to report."""
    reported = {name: number for name, number in counts.items() if number and name not in COUNTED_BY_ENCODE}
    text = ", ".join(f"{number:,} {_counted(name, number)}" for name, number in reported.items())
    return f"{text} (see docs/tasks.md)" if text else ""


def _counted(name: str, number: int) -> str:
    """`blank lines` of `blank_lines`, or `blank line`; of `texts_with_zero_bytes`, it is the texts that are counted."""
    counted, preposition, rest = name.replace("_", " ").partition(" with")
    return (counted.removesuffix("s") if number == 1 else counted) + preposition + rest


COUNTED_BY_ENCODE = ("examples", "unlabelled", "empty_text")
"""Counts of `tasks.read` that `features.encode` counts too."""
