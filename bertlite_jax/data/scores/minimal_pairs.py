"""Minimal pairs: two sentences that differ in little, of which one is grammatical.

Source: BLiMP, Warstadt et al. 2020 (arXiv 1912.00582), and the names of its released files.
"""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from bertlite_jax.data.tasks import files
from bertlite_jax.errors import UserError

_GOOD, _BAD = ("good", "sentence_good"), ("bad", "sentence_bad")
_PARADIGM, _PHENOMENON = ("paradigm", "UID"), ("phenomenon", "linguistics_term")
"""Of each field, its own name here and that in BLiMP's release."""


class Pair(NamedTuple):
    """Two sentences."""

    good: str
    bad: str
    paradigm: str
    """The construction that they are about, such as `adjunct_island`; empty where the file names none."""
    phenomenon: str
    """What its paradigm belongs to, such as `island_effects`; its paradigm where the file names none."""
    place: str
    """`FILE:LINE`."""


def read(path: str, most: int = 0) -> list[Pair]:
    """The pairs of a file, or of all `*.jsonl` of a folder.

    Each line is an object with `good` and `bad`, and if it has them `paradigm` and `phenomenon`; or with the names of
    BLiMP's release, `sentence_good`, `sentence_bad`, `UID`, `linguistics_term`.

    Args:
      path: the file or folder.
      most: pairs of each paradigm that are read, the first ones; 0: all.

    Raises:
      UserError: nothing lies there, or a line cannot be read or lacks a sentence.
    """
    folder = pathlib.Path(path)
    paths = sorted(map(str, folder.glob("*.jsonl"))) if folder.is_dir() else [path]
    pairs, taken = [], Counter[str]()
    for each in paths:
        for line, record in files.json_lines(each, Counter()):
            pair = _pair(record, f"{each}:{line}")
            taken[pair.paradigm] += 1
            if not most or taken[pair.paradigm] <= most:
                pairs.append(pair)
    if not pairs:
        raise UserError(f"task: {path} has no pair of sentences" + (" (no .jsonl file in it)" if not paths else ""))
    return pairs


def _pair(record: dict[str, Any], place: str) -> Pair:
    good, bad = (_text(record, names, place) for names in (_GOOD, _BAD))
    for text, names in ((good, _GOOD), (bad, _BAD)):
        if not text:
            raise UserError(
                f"task: {place}: {names[0]} is missing or empty; each line needs good and bad, two sentences"
            )
    paradigm, phenomenon = (_text(record, names, place) for names in (_PARADIGM, _PHENOMENON))
    return Pair(good, bad, paradigm, phenomenon or paradigm, place)


def _text(record: dict[str, Any], names: Sequence[str], place: str) -> str:
    """The value of the first of these names that a record has; empty if there is none."""
    name = next((name for name in names if record.get(name) is not None), "")
    value = record[name] if name else ""
    if not isinstance(value, str):
        raise UserError(f"task: {place}: {name} should be a string")
    return value.strip()


def accuracies(pairs: Sequence[Pair], right: Bool[np.ndarray, " pairs"]) -> list[dict[str, Any]]:
    """How often the grammatical sentence was the likelier one.

    Args:
      pairs: as read.
      right: of each pair.

    Returns:
      A row of `phenomenon`, `pairs`, `accuracy` for each phenomenon that is named, and one for all pairs, called "all".
      Accuracies are means over paradigms, as BLiMP's; its paradigms are of one size, which makes them means over pairs.
    """
    by_paradigm: dict[str, dict[str, list[bool]]] = {}
    for pair, is_right in zip(pairs, right.tolist(), strict=True):
        by_paradigm.setdefault(pair.phenomenon, {}).setdefault(pair.paradigm, []).append(is_right)
    named = sorted((name, answers) for name, answers in by_paradigm.items() if name)
    rows = [_row(name, list(answers.values())) for name, answers in named]
    return [*rows, _row("all", [answers for paradigms in by_paradigm.values() for answers in paradigms.values()])]


def _row(name: str, paradigms: Sequence[list[bool]]) -> dict[str, Any]:
    mean = float(np.mean([np.mean(answers) for answers in paradigms]))
    return {"phenomenon": name, "pairs": sum(map(len, paradigms)), "accuracy": round(mean, 4)}
