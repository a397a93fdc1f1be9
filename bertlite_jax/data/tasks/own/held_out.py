"""Which examples of one's own file are held out for validation, if there is no file for that."""

from __future__ import annotations

import functools
import hashlib
import os
import unicodedata
from array import array
from collections.abc import Callable, Iterable

import numpy as np

from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own.task import OwnTask
from bertlite_jax.data.tasks.reading import read
from bertlite_jax.data.vocabulary.normalize import LazyTable
from bertlite_jax.errors import UserError

_OTHERS = -1
"""The label of all examples whose labels are not counted."""
_LEFT_OUT = ("Mn", "Cf", "Cc")
"""Categories of accents, of characters that nobody sees, and of control characters."""


def rule(task: OwnTask, fraction: float, stratified: bool) -> Callable[[Example], bool]:
    """The function that says whether an example of the training file is held out.

    Hashes of the texts decide alone, so neither a seed nor the order of the file matters, and a text that occurs twice
    is never on both sides. With `stratified` this holds for texts that tokenizers may give the same tokens, too (see
    `_alike`).

    Args:
      task: whose training file is divided.
      fraction: share of the different texts.
      stratified: this share of each label (where an example has one label), at least one text of each that has two;
        labels of a single text are trained on. Of other tasks it is the share of all texts, at least one. Otherwise
        each text is held out by its hash alone.

    Raises:
      UserError: all texts are the same or alike, so that none can be held out; or the file cannot be read.
    """
    if not stratified:
        return lambda example: is_held_out(example, fraction)
    path = task.splits["train"][0][0]
    stat = os.stat(path)
    chosen = _chosen(_Key(task, (path, stat.st_mtime_ns, stat.st_size, task.options)), fraction)
    return lambda example: digest(example) in chosen


def is_held_out(example: Example, fraction: float) -> bool:
    """Whether the hash of an example's texts, as a share of the largest one, is below `fraction`."""
    return digest(example) < fraction * 2**64


def digest(example: Example) -> int:
    """The `hash_of` the texts of an example."""
    return hash_of((example.text, example.pair or "", *example.choices, *example.words))


def hash_of(texts: Iterable[str]) -> int:
    """A hash of texts in their order, at least 0 and below 2**64."""
    return int.from_bytes(hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest())


def _alike(example: Example) -> int:
    """A hash of the `letters_of` the texts of an example."""
    return hash_of(letters_of(text) for text in (example.text, example.pair or "", *example.choices))


def letters_of(text: str) -> str:
    """What is the same for texts that differ only in case, accents, width, white space and unseen characters.

    Of such texts tokenizers may make the same tokens, so that one would be both learnt and scored.
    """
    return text.translate(_LETTERS)


def _letter(code: int) -> str:
    """A character without case, accents and width; empty for white space and what cannot be seen."""
    parts = unicodedata.normalize("NFKD", chr(code)).casefold()
    return "".join(each for each in parts if unicodedata.category(each) not in _LEFT_OUT and not each.isspace())


_LETTERS = LazyTable(_letter, limit=1 << 16)


class _Key:
    """A task that is equal to another one with the same training file, unchanged, and the same options."""

    def __init__(self, task: OwnTask, version: tuple[object, ...]):
        self.task, self.version = task, version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.version == other.version

    def __hash__(self) -> int:
        return hash(self.version)


@functools.lru_cache(maxsize=2)
def _chosen(key: _Key, fraction: float) -> frozenset[int]:
    """The digests of the texts that are held out."""
    task = key.task
    digests, groups, labels = array("Q"), array("Q"), array("q")
    by_label = task.head.kind == "classify" and task.head.problem == "single_label"
    for example in read(task, "", "train"):
        digests.append(digest(example))
        groups.append(_alike(example))
        labels.append(example.label if by_label and isinstance(example.label, int) else _OTHERS)
    # Of a text that occurs several times the first label counts. Sorted by hash.
    hashes, first = np.unique(np.frombuffer(digests, np.uint64), return_index=True)
    group_of = np.frombuffer(groups, np.uint64)[first]
    # Texts that are alike go where the first of their hashes goes.
    leaders = np.sort(np.unique(group_of, return_index=True)[1])
    if len(leaders) < 2:
        raise UserError(
            f"finetune: {task.splits['train'][0][0]}: all texts are the same, so none can be held out for validation; "
            "name a file with --data.validation-file"
        )
    of_text = np.frombuffer(labels, np.int64)[first[leaders]]
    held: list[np.ndarray] = []
    for label in np.unique(of_text):
        places = np.flatnonzero(of_text == label)
        if len(places) > 1:
            held.append(places[: _share(fraction, len(places))])
    if not held:
        held = [np.arange(_share(fraction, len(leaders)))]
    chosen = group_of[leaders[np.concatenate(held)]]
    return frozenset(hashes[np.isin(group_of, chosen)].tolist())


def _share(fraction: float, count: int) -> int:
    """How many of `count` texts are held out: neither none nor all."""
    return max(1, min(int(fraction * count + 0.5), count - 1))
