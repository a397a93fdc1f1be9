"""What must never become a training point: examples of validation and test files, and their texts.

A point is made of a validation example, so that it has to be told from it: as a whole, and text by text, since of a
pair or a question one text may have stayed as it was. Texts are compared without case, accents, punctuation and white
space: a sentence without its full stop is still the same.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bertlite_jax.data import tasks
from bertlite_jax.data.examples.augment import words_of
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own.held_out import hash_of, letters_of
from bertlite_jax.data.tasks.task import find_files
from bertlite_jax.errors import UserError

LONG = 4
"""Words (in Chinese and Japanese characters) of a text that belongs to its example alone; shorter ones, such as "Yes."
or "in the house", are anybody's."""


class KeptOut(NamedTuple):
    """Hashes of examples and of their longer texts."""

    rows: frozenset[int]
    texts: frozenset[int]

    def has(self, example: Example) -> bool:
        """Whether the example, or a longer text of it, is among them."""
        return row_of(example) in self.rows or any(text in self.texts for text in texts_of(example))


def row_of(example: Example) -> int:
    """A hash of all texts of an example."""
    return hash_of(map(_compared, _all_texts(example)))


def texts_of(example: Example) -> Iterator[int]:
    """A hash of each text of an example that has `LONG` words or more."""
    return (hash_of([_compared(text)]) for text in _all_texts(example) if len(words_of(text)[0]) >= LONG)


def _compared(text: str) -> str:
    """What two texts are compared by; of a text that is nothing but punctuation, that."""
    letters = letters_of(text)
    return "".join(each for each in letters if not unicodedata.category(each).startswith("P")) or letters


def _all_texts(example: Example) -> tuple[str, ...]:
    return (example.text, *(() if example.pair is None else (example.pair,)), *example.choices)


def kept_out(examples: Iterable[Example]) -> KeptOut:
    """The hashes of examples that are kept out."""
    rows, texts = set(), set()
    for example in examples:
        rows.add(row_of(example))
        texts.update(texts_of(example))
    return KeptOut(frozenset(rows), frozenset(texts))


def other_splits(task: tasks.Task, folder: str) -> Iterator[Example]:
    """The examples of all splits of a task but the training split; a line is printed for those whose files are missing.

    Of a file of one's own that gives training and validation examples, only other files are read.
    """
    for split in task.splits:
        if split == "train":
            continue
        try:
            find_files(task, folder, split)
        except UserError as error:
            print(f"agora: {split} cannot be compared with new points: {error}")
            continue
        yield from tasks.read(task, folder, split)
