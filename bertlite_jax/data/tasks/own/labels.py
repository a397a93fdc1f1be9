"""Labels as people write them: names or their numbers, `1` beside `1.0`, 0 and 1 for each label."""

from __future__ import annotations

import decimal
import math
import pathlib
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from bertlite_jax.data.tasks import fields, files
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files

MOST_LABELS = 1000
GAPS = ("na", "n/a", "#n/a", "none", "null", "nil")
"""Names, in lower case, that programs write for no value, and that may be meant as labels too."""
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_WHOLE = re.compile(r"([+-]?\d+)\.0+")
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})(e[+-]?\d{1,3})?")
_MOST_SHOWN_NAMES = 12


def plain(name: str) -> str:
    """A whole number without its decimals: `1` of `1.0`, which `pandas` writes where a cell of the column is empty."""
    whole = _WHOLE.fullmatch(name)
    return whole[1] if whole else name


def folded(name: str) -> str:
    """What two spellings of one label have in common.

    Upper and lower case, white space and width are the same, and characters that do not print are left out: a zero
    width space, a byte order mark, a soft hyphen, the mark that makes an emoji of a sign.
    """
    normal = unicodedata.normalize("NFKC", name).casefold()
    if not normal.isascii():
        normal = "".join(each for each in normal if unicodedata.category(each) != "Cf" and each != "\ufe0f")
    return " ".join(normal.split())


def same(name: str) -> Hashable:
    """What labels that mean the same have in common: the number of `1`, `+1`, `1e0`, `01` and `true`, or `folded`."""
    text = folded(name)
    if text in ("true", "false"):
        return decimal.Decimal(text == "true")
    return decimal.Decimal(text) if _NUMBER.fullmatch(text) else text


def names_given(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, or those in the one file that is named instead: one on each line, or a JSON list.

    Raises:
      UserError: the file cannot be read, or a name is empty or occurs twice.
    """
    if len(names) == 1 and pathlib.Path(names[0]).is_file():
        text = files.whole_text(names[0])
        parsed = json_files.parse(text, names[0], "task") if text.lstrip().startswith("[") else text.splitlines()
        names = tuple(name for name in map(str, parsed) if not fields.is_blank(name))
    names = tuple(name.strip() for name in names)
    if any(map(fields.is_blank, names)):
        raise UserError(f"task: one of the label names is empty: {' '.join(map(repr, names[:_MOST_SHOWN_NAMES]))}")
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
        meant: dict[Hashable, list[int]] = {}
        for place, name in enumerate(names):
            self._plain.setdefault(plain(name), place)
            meant.setdefault(same(name), []).append(place)
        self._same = {meaning: places[0] for meaning, places in meant.items() if len(places) == 1}

    def index(self, name: str) -> int | None:
        """The index of a label; None if it is unknown.

        The same spelling counts first, then the same number, the number of a name, and at last another spelling.
        """
        if (place := self._exact.get(name)) is not None:
            return place
        number = plain(name)
        if (place := self._plain.get(number)) is not None:
            return place
        placed = int(number) if self.numbered and re.fullmatch(r"\d{1,9}", number) else len(self.names)
        numbers_it = placed < len(self.names)
        if numbers_it and number == str(placed):
            return placed
        # 01 is the name 1, if there is one, rather than the second name.
        return self._same.get(same(name), placed if numbers_it else None)

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
      UserError: there is none or too many; they are scores, or some mean the same.
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
    """Raises UserError if labels mean the same: they differ only in case, white space, or as numbers are written.

    Numbers that differ only in their zeros, 01 and 1, may be codes.
    """
    groups: dict[Hashable, list[str]] = {}
    for name in names:
        groups.setdefault(same(name), []).append(name)
    alike = [sorted(group) for group in groups.values() if len(group) > 1 and not all(map(str.isdecimal, group))]
    if alike:
        shown = "; ".join(" and ".join(f"{name!r} ({counts[name]:,})" for name in group) for group in alike[:4])
        common = [_common(meaning, group) for meaning, group in groups.items()]
        advice = " ".join(sorted(f"'{name}'" if " " in name else name for name in common))
        advice = advice if len(groups) <= _MOST_SHOWN_NAMES else "with one name for each"
        cases = all(len({folded(name) for name in group}) == 1 and all(map(str.isprintable, group)) for group in alike)
        what = "differ only in case or spaces" if cases else "are the same, written in two ways"
        raise UserError(
            f"task: {path}: labels that {what}: {shown}; write them alike, or pass --data.label-names {advice}"
        )


def _common(meaning: Hashable, group: Sequence[str]) -> str:
    """One spelling for the labels of a group, which mean the same."""
    if len({folded(name) for name in group}) == 1 or not isinstance(meaning, decimal.Decimal):
        return folded(group[0])
    return str(int(meaning)) if meaning == meaning.to_integral_value() and abs(meaning) < 10**15 else str(meaning)


def refuse_minus_1(names: Sequence[str], counts: Counter[str], path: str) -> None:
    """Raises UserError if -1 is beside 0, 1, 2 and perhaps more: `datasets` writes it for no label.

    Beside 0 and 1 it is a label like others, as negative, neutral and positive are numbered.
    """
    others = sorted(plain(name) for name in names if plain(name) != "-1")
    if len(others) < 3 or len(others) == len(names) or set(others) != {str(place) for place in range(len(others))}:
        return
    count = sum(number for name, number in counts.items() if plain(name) == "-1")
    few = len(others) <= _MOST_SHOWN_NAMES
    listed = " ".join(sorted(others, key=int)) if few else f"0 1 2 .. {len(others) - 1}"
    raise UserError(
        f"task: {path}: is the label -1 ({count:,}) beside 0 to {len(others) - 1} no label? "
        f"--data.label-names {listed} leaves it out; --data.label-names -1 {listed} makes it a class"
    )


def refuse_zero_tag(counts: Counter[str], path: str) -> None:
    """Raises UserError if some words have the digit 0 for a tag, and others the letter O."""
    if "0" in counts and "O" in counts:
        raise UserError(
            f"task: {path}: tags that look the same: the digit 0 ({counts['0']:,}) and the letter O ({counts['O']:,}); "
            "write them alike, or name all tags with --data.label-names"
        )


def order(name: str) -> tuple[bool, float, str]:
    """Sorts numbers by size, before all other names."""
    value = _number(name)
    return (True, 0.0, name) if value is None else (False, value, name)


def _number(name: str) -> float | None:
    try:
        value = math.nan if "_" in name else float(name)  # Python reads 1_000.
    except ValueError:
        return None
    return value if math.isfinite(value) else None
