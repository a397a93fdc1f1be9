"""Tasks by name or of one's own files, and the examples of their splits."""

from __future__ import annotations

import hashlib
import pathlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

from bertlite_jax.config.finetune import Examples
from bertlite_jax.data import tasks
from bertlite_jax.data.examples import features, span_features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError, fields_close_to


class Split(NamedTuple):
    """A split of a task."""

    name: str
    encoded: features.Encoded
    examples: list[Example]
    """Only of splits that are scored; a training split is read once and not kept."""
    questions: span_features.Questions | None = None
    """Of tasks that ask for spans: passages and windows."""
    noted: Mapping[str, int] = {}
    """What was left out or odd while reading, by the names of `tasks.read`."""


Evaluate = Callable[..., dict[str, Any]]
"""Parameters and a split in, the task's figures out. Of answers to questions, with a folder as third argument: they
are written there, as the official scorers read them, and tables of what was answered how well come out."""


def task_of(data: Examples) -> tasks.Task:
    """The task of the table, or of somebody's own file.

    Raises:
      UserError: a name that is in no table, nothing to read, or a head that this job does not train.
    """
    if not data.folder:
        raise UserError("finetune: --data is missing; name the folder with the task's files, or a file of your own")
    if not data.task:
        return _own_task(data)
    return task_named(data.task)


def task_named(name: str) -> tasks.Task:
    """Raises UserError for a name that is in no table, or a head that this job does not train."""
    if name not in tasks.TASKS:
        raise UserError(f"finetune: --task {name} is no task; {fields_close_to(name, list(tasks.TASKS))}")
    task = tasks.TASKS[name]
    if "train" not in task.splits:
        raise UserError(f"finetune: {name} has no training split; train a task of the same labels and predict this one")
    return task


def _own_task(data: Examples) -> tasks.Task:
    if not pathlib.Path(data.folder).exists():
        raise UserError(
            f"finetune: {data.folder} does not exist; name a folder with a task's files, or a file of yours"
        )
    if not pathlib.Path(data.folder).is_file():
        known = ", ".join(tasks.TASKS)
        raise UserError(f"finetune: --task is missing, and --data {data.folder} is no file of your own; tasks: {known}")
    return tasks.task_of_file(
        data.folder,
        data.validation_file,
        kind=data.kind,
        text=data.text_column,
        pair=data.pair_column,
        label=data.label_column,
    )


def examples_of(
    task: tasks.Task, data: Examples, split: str, counts: MutableMapping[str, int] | None = None
) -> Iterator[Example]:
    """A stream. A file of your own without a validation file beside it gives both splits (`is_held_out`); what is odd
    in it counts for the training split. `counts` is added to as by `tasks.read`.
    """
    if not data.task and "validation" not in task.splits:
        wanted = split != "train"
        stream = tasks.read(task, data.folder, "train", None if wanted else counts)
        return (example for example in stream if is_held_out(example, data.validation_fraction) == wanted)
    stream = tasks.read(task, data.folder, split, counts)
    # Nine of ten of its rows are wrong entities.
    return tasks.balance(stream, seed=0) if (task.name, split) == ("record", "train") else stream


def read_to_predict(task: tasks.Task, folder: str, split: str) -> list[Example]:
    """All of a split; what is left out or odd is said on standard error."""
    noted: Counter[str] = Counter()
    examples = list(tasks.read(task, folder, split, noted))
    if said := in_words(noted):
        print(f"predict: {split}: {said}", file=sys.stderr)
    return examples


def is_held_out(example: Example, fraction: float) -> bool:
    """Whether an example belongs to the part that is held out: by a hash of its texts alone.

    So the seed and the order of the file do not matter, and a text that comes twice is never on both sides.
    """
    texts = (example.text, example.pair or "", *example.choices, *example.words)
    digest = hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) < fraction * 2**64


def in_words(noted: Mapping[str, int]) -> str:
    """What `tasks.read` left out or found odd, for a line of output; empty where there was nothing."""
    said = [f"{number:,} {name.replace('_', ' ')}" for name, number in noted.items() if number and name not in _ALWAYS]
    return f"{', '.join(said)} (docs/tasks.md says what is done with them)" if said else ""


_ALWAYS = ("examples", "unlabelled", "empty_text")
"""Counts of `tasks.read` that `features.encode` has too."""


_WORTH_A_LINE = {
    "truncated": "{number:,} examples were longer than data.length and lost their end",
    "empty_texts": "{number:,} texts are empty; they are examples like the others",
    "nothing_to_learn": "{number:,} questions have an answer that is not in their text; nothing is learnt from them",
    "words_cut_off": "{number:,} words stand behind data.length; they are not learnt from, and answered with O",
}
