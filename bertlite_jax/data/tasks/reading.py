"""Reads a split of a task, one example at a time, and checks it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, MutableMapping

from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.task import Task, find_files
from bertlite_jax.errors import UserError

_log = logging.getLogger(__name__)


def read(task: Task, folder: str, split: str, counts: MutableMapping[str, int] | None = None) -> Iterator[Example]:
    """The examples of a split in the order of its files. Only their ids stay in memory, to find one that occurs twice.

    Nothing is dropped silently. Refused, with file and line: text that is not UTF-8, broken JSON, a wrong number of
    fields, a missing column, an unknown label, a missing label in `train` or `validation*`, an id that occurs twice, a
    split without examples. Kept and counted: empty texts. Left out and counted: blank lines, and what a task's own
    layout says (`wrong_fields` of QQP, `other_split` of MRPC, `document_marks` of CoNLL, `passages_without_questions`
    of RACE). A number of examples that is not the official one is logged: many copies are subsets.

    Args:
      task: an entry of `TASKS`, or one made by `task_of_file`.
      folder: the task's folder or the suite's; tasks of `task_of_file` do not use it.
      split: a key of `task.splits`.
      counts: is added to when the reading ends: `examples`, `unlabelled`, `empty_text` (examples with an empty text,
        pair or choice, or without words), `empty_words`, `blank_lines` and those above.

    Raises:
      UserError: at once if there is no file; while reading, for what is wrong in it.
    """
    return _checked(task, find_files(task, folder, split), split, {} if counts is None else counts)


def _checked(task: Task, files: list[str], split: str, counts: MutableMapping[str, int]) -> Iterator[Example]:
    seen: dict[str, tuple[int, int]] = {}
    # Numbers of lines or of examples cannot occur twice, and a file without ids may be larger than memory.
    numbered = len(files) == 1 and not task.columns.id
    noted: Counter[str] = Counter()
    try:
        for file_number, path in enumerate(files):
            for line, example in task.layout(task, path, split, noted):
                place = noted["examples"] + noted["no_label"] + 1
                if not (numbered and example.id in (str(line), str(place))):
                    if example.id in seen:
                        before = f"{files[seen[example.id][0]]}:{seen[example.id][1]}"
                        raise UserError(
                            f"task: {path}:{line}: the id {example.id[:80]!r} occurs twice, first in {before}"
                        )
                    seen[example.id] = file_number, line
                noted["examples"] += 1
                noted["unlabelled"] += example.label is None
                noted["empty_text"] += _has_gap(example)
                yield example
    finally:
        for name, count in noted.items():
            counts[name] = counts.get(name, 0) + count
    if not noted["examples"]:
        raise UserError(f"task: {files[0]}: the {split} split of {task.name} has no example")
    here, official = noted["examples"], task.rows.get(split)
    if official not in (None, here):
        _log.warning("task: %s: %s has %d examples; the official split has %d", task.name, split, here, official)


def _has_gap(example: Example) -> bool:
    texts = (example.text, *example.choices) if example.pair is None else (example.text, example.pair, *example.choices)
    return not all(texts)
