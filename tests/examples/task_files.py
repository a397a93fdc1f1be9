"""Small files in the official layouts, and what is read out of them."""

import json
import pathlib
from collections import Counter

import pytest

from bertlite_jax.data import tasks
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError


def put(folder: pathlib.Path, name: str, *lines: str | dict, end: str = "\n") -> str:
    """Writes lines (objects as JSON) and returns the path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    written = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_bytes("".join(line + end for line in written).encode("utf-8"))
    return str(path)


def tsv(*fields: str) -> str:
    return "\t".join(fields)


def own(*files: str, test: str = "", **settings) -> tasks.OwnTask:
    """A task of one's own training, validation and test file."""
    train, validation, third = (*files, "", "", "")[:3]
    return tasks.task_of_file(train, validation, third or test, options=tasks.OwnOptions(**settings))


def examples(name: str | tasks.Task, folder, split: str = "train", counts: dict | None = None) -> list[Example]:
    task = tasks.TASKS[name] if isinstance(name, str) else name
    return list(tasks.read(task, str(folder), split, counts))


def label_of(name: str, example: Example) -> str:
    assert isinstance(example.label, int)
    return tasks.TASKS[name].head.labels[example.label]


def refusal(name: str | tasks.Task, folder, split: str = "train") -> str:
    """The one line that says why a file is not read."""
    with pytest.raises(UserError) as caught:
        examples(name, folder, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def counted(name: str | tasks.Task, folder, split: str = "train") -> Counter:
    """What the reading counted, without the zeros."""
    counts: dict[str, int] = {}
    examples(name, folder, split, counts)
    return +Counter(counts)
