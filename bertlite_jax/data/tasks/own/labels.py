"""Labels as people write them: names or their numbers, `1` beside `1.0`, 0 and 1 for each label."""

from __future__ import annotations

import math
import pathlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from bertlite_jax.data.tasks import files
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files

MOST_LABELS = 1000
GAPS = ("na", "n/a", "#n/a", "none", "null", "nil")
"""Names, in lower case, that programs write for no value, and that may be meant as labels too."""
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_WHOLE = re.compile(r"([+-]?\d+)\.0+")


def plain(name: str) -> str:
    """A whole number without its decimals: `1` of `1.0`, which `pandas` writes where a cell of the column is empty."""
    whole = _WHOLE.fullmatch(name)
    return whole[1] if whole else name


def folded(name: str) -> str:
    """What two spellings of one label have in common: upper and lower case, white space and width are the same."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def names_given(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, or those in the one file that is named instead: one on each line, or a JSON list.

    Raises:
      UserError: the file cannot be read, or a name occurs twice.
    """
    if len(names) == 1 and pathlib.Path(names[0]).is_file():
        text = files.whole_text(names[0])
        parsed = json_files.parse(text, names[0], "task") if text.lstrip().startswith("[") else text.splitlines()
        names = tuple(name for name in map(str, parsed) if name.strip())
    names = tuple(name.strip() for name in names)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"task: the label {twice!r} is named twice")
    return names


class Names:
    """Finds the index of a label.

    Args:
      names: of the outputs in their order.
      numbered: a file may have numbers from 0 instead of names.
    """

    def __init__(self, names: Sequence[str], numbered: bool = False):
        self.names, self.numbered = tuple(names), numbered
        self._exact = {name: place for place, name in enumerate(names)}
        self._plain: dict[str, int] = {}
        folded_names: dict[str, list[int]] = {}
        for place, name in enumerate(names):
            self._plain.setdefault(plain(name), place)
            folded_names.setdefault(folded(name), []).append(place)
        self._folded = {name: places[0] for name, places in folded_names.items() if len(places) == 1}

    def index(self, name: str) -> int | None:
        """The index of a label; None if it is unknown.

        The same spelling counts first, then the same number, the number of a name, and at last another case.
        """
        if (place := self._exact.get(name)) is not None:
            return place
        number = plain(name)
        if (place := self._plain.get(number)) is not None:
            return place
        if self.numbered and re.fullmatch(r"\d{1,9}", number) and int(number) < len(self.names):
            return int(number)
        return self._folded.get(folded(name))

    def is_beyond(self, name: str) -> bool:
        """Whether a label is a number that stands for no name, where numbers stand for names."""
        return self.numbered and self.index(name) is None and re.fullmatch(r"\d{1,9}", plain(name)) is not None

    def is_number(self, name: str) -> bool:
        """Whether a label is the number of a name, and not a name itself."""
        return self.numbered and name not in self._exact and plain(name) not in self._plain and plain(name).isdecimal()

    def lacks_label(self, name: str) -> bool:
        """Whether `name` is -1, which `datasets` writes for labels that are kept secret, and no label."""
        return plain(name) == "-1" and all(re.fullmatch(r"\d+(\.0+)?", each) or self.numbered for each in self.names)


def is_withheld(value: Any, column: str, numbered: bool) -> bool:
    """Whether a label says that annotators did not agree: -1 among numbers of names, and SNLI's `-` in `gold_label`."""
    name = str(value).strip()
    return (numbered and plain(name) == "-1") or (name == "-" and column.casefold() == "gold_label")


def is_vector(values: Any) -> bool:
    """Whether a label is a list of nothing but 0 and 1, at least two of them."""
    return isinstance(values, list) and len(values) > 1 and all(_is_bit(value) for value in values)


def _is_bit(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip() in ("0", "1", "0.0", "1.0")
    return isinstance(value, bool | int | float) and value in (0, 1)


def bit(value: Any, where: str) -> int:
    """0 or 1, as a number, `true` or `false`, or a string.

    Raises:
      UserError: it is something else.
    """
    if isinstance(value, str) and value.strip().casefold() in ("true", "false"):
        return int(value.strip().casefold() == "true")
    if not _is_bit(value):
        raise UserError(
            f"task: {where}: {str(value)[:40]!r} where 0 or 1 is expected, for a label that is given or not"
        )
    return int(float(value))


# --- The labels of a training file -----------------------------------------------------------------------------------


def names_of(spellings: Counter[str], path: str, explicit: bool) -> tuple[str, ...]:
    """The labels of a training file in the order of the outputs: numbers by size, others by alphabet.

    Args:
      spellings: the labels as they are written, with their counts.
      path: the file, for messages.
      explicit: what is predicted was said, so that labels may be numbers with fractions.

    Raises:
      UserError: there is none or too many; they are scores, or differ only in case.
    """
    if not spellings:
        raise UserError(f"task: {path}: it has no label")
    names = _merged(spellings)
    if len(names) > MOST_LABELS:
        raise UserError(f"task: {path}: more than {MOST_LABELS} labels; is it a regression, or another column?")
    if not explicit:
        refuse_scores(names, path)
    refuse_alike(names, spellings, path)
    return tuple(sorted(names, key=order))


def _merged(spellings: Iterable[str]) -> list[str]:
    """One name for each label. Where one is written as 1 and as 1.0, it is 1."""
    names: dict[str, str] = {}
    for name in spellings:
        key = plain(name)
        names[key] = key if key in names and names[key] != name else name
    return list(names.values())


def refuse_scores(names: Sequence[str], path: str) -> None:
    """Raises UserError if labels are numbers and some have fractions: scores or classes? Whole numbers are classes."""
    points = [name.replace(",", ".") if DECIMAL_COMMA.fullmatch(name) else name for name in names]
    values = [_number(point) for point in points]
    fractions = [name for name, value in zip(names, values, strict=True) if value is not None and value % 1]
    if None not in values and fractions:
        shown = " ".join(sorted(fractions, key=order)[:3]) + (" .." if len(fractions) > 3 else "")
        raise UserError(
            f"task: {path}: labels are numbers with fractions ({shown}); --data.kind regression learns them as "
            "numbers, --data.kind classify keeps them as classes"
        )


def refuse_alike(names: Iterable[str], counts: Counter[str], path: str) -> None:
    """Raises UserError if labels differ only in case or white space."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(folded(name), []).append(name)
    alike = [sorted(group) for group in groups.values() if len(group) > 1]
    if alike:
        shown = "; ".join(" and ".join(f"{name!r} ({counts[name]:,})" for name in group) for group in alike[:4])
        common = " ".join(sorted(f"'{name}'" if " " in name else name for name in groups))
        advice = f"--data.label-names {common}" if len(groups) <= 12 else "--data.label-names with one name for each"
        raise UserError(
            f"task: {path}: labels that differ only in case or spaces: {shown}; write them alike, or pass {advice}"
        )


def order(name: str) -> tuple[bool, float, str]:
    """Sorts numbers by size, before all other names."""
    value = _number(name)
    return (True, 0.0, name) if value is None else (False, value, name)


def _number(name: str) -> float | None:
    try:
        value = float(name)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
