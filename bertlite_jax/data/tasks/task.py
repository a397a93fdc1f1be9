"""What a task is: files, columns, labels, head and metrics, all as data."""

from __future__ import annotations

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError

Layout = Callable[["Task", str, str, "Counter[str]"], Iterator[tuple[int, Example]]]
"""Reads one file: (task, path, split, counts) -> (number of the line, example) for each."""

Files = tuple[tuple[str, ...], ...]
"""Ways to lay out a split, of which the first that exists counts. Each is names or patterns, all of them needed."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """Names of columns or JSON fields. Of several names, the first that a file has counts."""

    text: tuple[str, ...] = ("text",)
    pair: tuple[str, ...] = ()
    label: tuple[str, ...] = ("label",)
    id: tuple[str, ...] = ()
    """If it is empty, or the file has none of them, the number of the line is the example's id."""
    choices: tuple[str, ...] = ()
    """Of multiple choice: one field with a list, or one column a choice."""
    header: tuple[str, ...] = ()
    """Names of the columns if a file has no header."""
    wrong_fields: Literal["refuse", "leave_out"] = "refuse"
    """A line with too few or too many fields; lines left out are counted."""
    separator: str = "|"
    """Between the labels of one example, in a CSV or TSV file of a multi-label task."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One entry of the table."""

    name: str
    head: Head
    metrics: tuple[str, ...]
    """Of `task_metrics.score`. The first decides which checkpoint is best; higher is better in all of them."""
    layout: Layout
    splits: Mapping[str, Files]
    """`train`, `validation`, `test` and others. Labels are known in `train` and `validation*`."""
    columns: Columns = Columns()
    folders: tuple[str, ...] = ()
    """Names of its own folder inside the suite's."""
    rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How many examples the official files hold."""
    suite: str = ""
    sent_as: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Split -> name of the file that the suite's server takes."""
    sent_labels: tuple[str, ...] = ()
    """The server's names for the labels, if they differ from the head's."""
    scale: tuple[float, float] | None = None
    """Lowest and highest label of a regression task whose scale is fixed."""


def needs_labels(split: str) -> bool:
    """Whether an example of this split must have a label; elsewhere it may be missing."""
    return split == "train" or split.startswith("validation")


def find_files(task: Task, folder: str, split: str) -> list[str]:
    """The files of a split, in the order of their names for each pattern.

    Args:
      task: an entry of the table.
      folder: the task's folder or the one above it (the suite's).
      split: a key of `task.splits`.

    Raises:
      UserError: the task has no such split, or no file of it exists.
    """
    if split not in task.splits:
        raise UserError(f"task: {task.name} has no split {split!r}; it has: {', '.join(task.splits)}")
    places = [pathlib.Path(folder, name) for name in task.folders] + [pathlib.Path(folder)]
    for place in places:
        for patterns in task.splits[split]:
            matches = [_matches(place, pattern) for pattern in patterns]
            if all(matches):
                return [str(path) for paths in matches for path in paths]
    wanted = " or ".join(" + ".join(patterns) for patterns in task.splits[split])
    below = f" or a folder {task.folders[0]} in it" if task.folders else ""
    raise UserError(f"task: {folder}: no {split} file of {task.name}; {wanted} is expected in it{below}")


def _matches(place: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    literal = place / pattern
    if literal.is_file():
        return [literal]
    if literal.is_absolute() and pathlib.Path(pattern).is_absolute():
        return []
    return sorted(path for path in place.glob(pattern) if path.is_file())
