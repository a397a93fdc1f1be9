"""Files of one's own as a task: CSV, TSV, JSON, Parquet or CoNLL columns."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterator

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import labels
from bertlite_jax.data.tasks.own.columns import kind_of_file
from bertlite_jax.data.tasks.own.formats import OwnFile, open_file
from bertlite_jax.data.tasks.own.options import Kind, OwnOptions
from bertlite_jax.data.tasks.own.reader import Reader
from bertlite_jax.data.tasks.own.survey import Survey, survey
from bertlite_jax.data.tasks.task import Columns, Task, needs_labels
from bertlite_jax.errors import UserError

_METRICS = {
    "classify": ("accuracy", "f1_macro"),
    "multi_label": ("f1_micro", "f1_macro", "exact"),
    "regression": ("pearson", "spearman"),
    "choose": ("accuracy",),
}
_SPANS = ("span_f1", "span_precision", "span_recall", "accuracy")
_ANY_NAME = {"train", "training", "trainset", "data", "dataset", "set", "split", "file", "tmp", ""}
"""Parts of names that say nothing about a task."""


@dataclasses.dataclass(frozen=True)
class OwnTask(Task):
    """A task of one's own files."""

    options: OwnOptions = dataclasses.field(default_factory=OwnOptions)
    """As they were given, but `kind`, `label_names` and `decimal` are what was found."""
    survey: Survey | None = None
    """Of the training file, if there is one."""
    unknown: dict[str, int] = dataclasses.field(default_factory=dict, compare=False)
    """Labels of other splits than the training file that it lacks, with how often they were read. Their indices follow
    on the head's, in the order of this dictionary."""


def task_of_file(
    train: str = "",
    validation: str = "",
    test: str = "",
    options: OwnOptions = OwnOptions(),  # noqa: B008
) -> OwnTask:
    """A task whose splits are the given files; `read(task, "", split)` reads them.

    Name and content of a file decide its format, see `formats`.

    Args:
      train: file of the training split. One of the three files has to be given.
      validation: file of the validation split.
      test: file of the test split, which may lack labels.
      options: how they are read.

    Raises:
      UserError: a file or a column is missing, there is no label or more than `labels.MOST_LABELS`, or what the labels
        are meant for is to be said.
    """
    splits = {"train": train, "validation": validation, "test": test}
    given = {split: str(pathlib.Path(path).absolute()) for split, path in splits.items() if path}
    if not given:
        raise UserError("task: no file is given; a training, validation or test file is needed")
    for path in given.values():
        if not pathlib.Path(path).is_file():
            raise UserError(f"task: {path}: no such file")
    first = next(iter(given.values()))
    options = dataclasses.replace(options, label_names=labels.names_given(options.label_names))
    found = _survey_of(given["train"], *_version(given["train"]), options) if train else None
    kind = found.kind if found else kind_of_file(open_file(first, options), options)
    names = found.names if found else _named(kind, options)
    # From here on, numbers have the names that were found for them.
    numbered = options.label_names or (found.names if found and found.named else ())
    options = dataclasses.replace(options, kind=kind, label_names=numbered)
    if found and found.decimal != "auto":
        options = dataclasses.replace(options, decimal=found.decimal)
    unknown: dict[str, int] = {}
    return OwnTask(
        name=_name_of(first),
        head=_head(kind, names),
        metrics=metrics_of(kind, names),
        layout=functools.partial(_read, options, found.vector if found else None, unknown),
        splits={split: ((path,),) for split, path in given.items()},
        columns=found.columns if found else Columns(),
        options=options,
        survey=found,
        unknown=unknown,
    )


def metrics_of(kind: Kind, names: tuple[str, ...]) -> tuple[str, ...]:
    """The metrics of a kind of prediction; the first decides which model is best."""
    if kind == "tag":
        return _SPANS if any(name[:2] in ("B-", "I-", "S-", "U-") for name in names) else ("accuracy",)
    return _METRICS[kind]


def _version(path: str) -> tuple[int, int]:
    stat = os.stat(path)
    return stat.st_mtime_ns, stat.st_size


@functools.lru_cache(maxsize=4)
def _survey_of(path: str, changed: int, size: int, options: OwnOptions) -> Survey:
    """The survey of a file; `changed` and `size` tell its versions apart."""
    file = open_file(path, options)
    return survey(file, options, kind_of_file(file, options))


def _named(kind: Kind, options: OwnOptions) -> tuple[str, ...]:
    """The names of the outputs where there is no training file."""
    if kind == "regression":
        return ("score",)
    if kind != "choose" and not options.label_names:
        raise UserError("task: name the labels; there is no training file to take them from")
    return options.label_names


def _head(kind: Kind, names: tuple[str, ...]) -> Head:
    if kind in ("tag", "choose"):
        return Head(kind=kind, labels=names)
    assert kind != "auto"
    return Head(labels=names, problem="single_label" if kind == "classify" else kind)


def _name_of(path: str) -> str:
    """The name of a file without what training files are called anywhere; if nothing is left, that of a folder."""
    place = pathlib.Path(path)
    for name in (place.name.split(".")[0], *(parent.name for parent in place.parents)):
        parts = [part for part in re.split(r"[ ._-]+", name) if part.casefold() not in _ANY_NAME]
        if parts:
            return "_".join(parts) if len(parts) < len(re.split(r"[ ._-]+", name)) else name
    return "own"


def _read(
    options: OwnOptions, vector: bool | None, unknown: dict[str, int], task: Task, path: str, split: str,
    counts: Counter[str],
) -> Iterator[tuple[int, Example]]:  # fmt: skip
    """The layout of files of one's own."""
    reader = Reader(
        options, options.kind, task.head.labels, needs_labels=needs_labels(split), counts=counts, vector=vector,
        unknown=None if split == "train" else unknown,
    )  # fmt: skip
    file: OwnFile = open_file(path, options)
    return reader.read(file)
