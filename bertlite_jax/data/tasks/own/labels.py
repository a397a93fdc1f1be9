"""Labels as people write them: names or their numbers, `1` beside `1.0`, 0 and 1 for each label."""

from __future__ import annotations

import decimal
import math
import pathlib
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from bertlite_jax.data.tasks import fields, files
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files

MOST_LABELS = 1000
GAPS = (
    *("na", "n/a", "none", "null", "nil", "nat", "(null)", "<null>", "undefined", "?"),
    *("#n/a", "#ref!", "#value!", "#div/0!", "#name?", "#num!", "#null!"),
)
"""Names, in lower case, that programs write for no value or a broken formula, and that may be meant as labels too."""
SEPARATORS = ("|", ";", ",", "/", "+", "&", "；", "，", "、")
"""What people write between several labels of one text."""
IGNORED = -100
"""The label that losses of PyTorch leave out."""
_LOOK_ALIKE = str.maketrans("\u0430\u0441\u0435\u0456\u043e\u0440\u0445\u0443\u0455\u0458\u03bf\u03b1", "aceiopxysjoa")
"""Cyrillic and Greek letters to the Latin ones that look the same."""
_SIGNS = str.maketrans("\u2212\u2018\u2019\u201c\u201d", "-''\"\"")
"""The minus sign and curly quotes."""
_BETWEEN_WORDS = re.compile(r"(?<=[^\W_])_+(?=[^\W_])")
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_WHOLE = re.compile(r"([+-]?\d+)\.0+")
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})(e[+-]?\d{1,3})?")
_MOST_SHOWN_NAMES = 12
_MOST_SHOWN = 60
"""Characters of a label."""


def plain(name: str) -> str:
    """A whole number without its decimals: `1` of `1.0`, which `pandas` writes where a cell of the column is empty."""
    whole = _WHOLE.fullmatch(name)
    return whole[1] if whole else name


def folded(name: str) -> str:
    """What two spellings of one label have in common.

    Upper and lower case, white space and a `_` between words, width, kinds of dashes and of quotes are the same; quotes
    around a label and characters that do not print are left out: a zero width space, a byte order mark, a soft hyphen,
    the mark that makes an emoji of a sign.
    """
    normal = unicodedata.normalize("NFKC", name).casefold()
    if not (normal.isascii() and normal.isprintable()):
        unseen = ("Cf", "Cc")  # White space is among the latter.
        seen = (each for each in normal if each.isspace() or unicodedata.category(each) not in unseen)
        seen = (each for each in seen if each != "\ufe0f")
        normal = "".join("-" if unicodedata.category(each) == "Pd" else each for each in seen).translate(_SIGNS)
    words = " ".join(_BETWEEN_WORDS.sub(" ", normal).split())
    return words.strip("\"'").strip() or words


def same(name: str) -> Hashable:
    """What labels that mean the same have in common: the number of `1`, `+1`, `1e0`, `01` and `true`, or `folded`.

    Cyrillic and Greek letters are the Latin ones that look like them.
    """
    text = folded(name)
    if text in ("true", "false"):
        return decimal.Decimal(text == "true")
    return decimal.Decimal(text) if _NUMBER.fullmatch(text) else text.translate(_LOOK_ALIKE)


def is_number(name: str) -> bool:
    """Whether a label is a finite number."""
    return _number(name) is not None


def is_minus_1(name: str) -> bool:
    """Whether a label is the number -1, however it is written."""
    return same(name) == -1


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
      numbered: a file may have numbers from 0 instead of names, unless some name is a number and counts otherwise.
      own: other names of the same outputs, by which the model itself calls them; `names` go before them, and are the
        only ones where they are numbers.
    """

    def __init__(self, names: Sequence[str], numbered: bool = False, own: Sequence[str] = ()):
        own = () if any(map(is_number, names)) else own
        self.names, self.own = tuple(names), tuple(own)
        places = [(name, place) for each in (names, own) for place, name in enumerate(each)]
        self.numbered = numbered and not any(is_number(each) and plain(each) != str(at) for each, at in places)
        self._exact = {name: place for place, name in enumerate(names)}
        self._plain: dict[str, int] = {}
        meant: dict[Hashable, list[int]] = {}
        for name, place in places:
            self._plain.setdefault(plain(name), place)
        for place, name in enumerate(names):
            meant.setdefault(same(name), []).append(place)
        for place, name in enumerate(own):
            meant.setdefault(same(name), [place])
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
        """Whether `name` is -1, which `datasets` writes for labels that are kept secret, or -100, and no label."""
        return same(name) in (-1, IGNORED) and all(
            re.fullmatch(r"\d+(\.0+)?", each) or self.numbered for each in self.own or self.names
        )


def is_withheld(value: Any, column: str, numbered: bool) -> bool:
    """Whether a label is none: -1 or -100 among numbers of names, and SNLI's `-` in `gold_label`."""
    name = str(value).strip()
    return (numbered and same(name) in (-1, IGNORED)) or (name == "-" and column.casefold() == "gold_label")


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


def refuse_joined(names: Sequence[str], path: str) -> None:
    """Raises UserError if a label is other labels with something between them: several labels for one text?"""
    for separator in SEPARATORS:
        for name in names:
            parts = [part.strip() for part in name.split(separator)]
            if len(parts) > 1 and all(part in names for part in parts):
                raise UserError(
                    f"task: {path}: the label {shown(name)!r} is made of others; several labels of one text? "
                    f"--data.kind multi_label --data.separator '{separator}' (one label: --data.kind classify)"
                )


def refuse_alike(names: Iterable[str], counts: Counter[str], path: str) -> None:
    """Raises UserError if labels mean the same: they differ only in case, white space, or as numbers are written.

    Numbers that differ only in their zeros, 01 and 1, may be codes.
    """
    groups: dict[Hashable, list[str]] = {}
    for name in names:
        groups.setdefault(same(name), []).append(name)
    alike = [sorted(group) for group in groups.values() if len(group) > 1 and not all(map(_is_code, group))]
    if alike:
        shown = "; ".join(
            " and ".join(f"{_told(name, group)} ({counts[name]:,})" for name in group) for group in alike[:4]
        )
        common = [_common(meaning, group) for meaning, group in groups.items()]
        advice = " ".join(sorted(map(typed, common)))
        advice = advice if len(groups) <= _MOST_SHOWN_NAMES else "with one name for each"
        cases = all(len({" ".join(name.casefold().split()) for name in group}) == 1 for group in alike)
        what = "differ only in case or spaces" if cases else "are the same, written in two ways"
        raise UserError(
            f"task: {path}: labels that {what}: {shown}; write them alike, or pass --data.label-names {advice}"
        )


def _is_code(name: str) -> bool:
    """Whether a label may be a code such as 01, which is not 1."""
    return name.isascii() and name.isdecimal()


def _told(name: str, group: Sequence[str]) -> str:
    """A label between quotes, so that it differs from others of its group even where they look the same."""
    looks = [unicodedata.normalize("NFKC", each).casefold().translate(_LOOK_ALIKE) for each in group]
    cut = f"{name[:_MOST_SHOWN]}.." if len(name) > _MOST_SHOWN else name
    return (ascii if len(set(looks)) < len(looks) else repr)(cut)


def shown(name: str) -> str:
    """A label for a message: in one line, and not longer than it helps."""
    printable = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name)
    return printable if len(printable) <= _MOST_SHOWN else f"{printable[:_MOST_SHOWN]}.."


def typed(name: str) -> str:
    """A label, or the name of a column, as one types it in a shell; in plain letters it stays as it is."""
    return name if name.replace("_", "").replace("-", "").isalnum() else shlex.quote(name)


def _common(meaning: Hashable, group: Sequence[str]) -> str:
    """One spelling for the labels of a group, which mean the same."""
    if len({folded(name) for name in group}) == 1 or not isinstance(meaning, decimal.Decimal):
        return folded(min(group, key=lambda name: not name.isascii()))
    return str(int(meaning)) if meaning == meaning.to_integral_value() and abs(meaning) < 10**15 else str(meaning)


def refuse_minus_1(names: Sequence[str], counts: Counter[str], path: str, several: bool = False) -> None:
    """Raises UserError if -1 is beside 0, 1, 2 and perhaps more: `datasets` writes it for no label.

    Beside 0 and 1 it is a label like others, as negative, neutral and positive are numbered. `several`: texts have any
    number of labels.
    """
    others = sorted(plain(name) for name in names if not is_minus_1(name))
    if len(others) < 3 or len(others) == len(names) or set(others) != {str(place) for place in range(len(others))}:
        return
    count = sum(number for name, number in counts.items() if is_minus_1(name))
    few = len(others) <= _MOST_SHOWN_NAMES
    listed = " ".join(sorted(others, key=int)) if few else f"0 1 2 .. {len(others) - 1}"
    leaves_out = "leave it out of the lists" if several else f"--data.label-names {listed} leaves it out"
    raise UserError(
        f"task: {path}: is the label -1 ({count:,}) beside 0 to {len(others) - 1} no label? {leaves_out}; "
        f"--data.label-names -1 {listed} makes it a class"
    )


def refuse_zero_tag(counts: Counter[str], path: str) -> None:
    """Raises UserError if some words have the digit 0 for a tag, and others the letter O."""
    if "0" in counts and "O" in counts:
        raise UserError(
            f"task: {path}: tags that look the same: the digit 0 ({counts['0']:,}) and the letter O ({counts['O']:,}); "
            "write them alike, or name all tags with --data.label-names"
        )


def refuse_small_tags(counts: Counter[str], path: str) -> None:
    """Raises UserError for BIO tags in small letters, which no scorer takes for spans."""
    small = sorted(tag for tag in counts if re.fullmatch(r"o|[bieslu]-.+", tag))
    if "O" not in counts and "o" in small and len(small) > 1:
        raise UserError(
            f"task: {path}: the tags {', '.join(small[:3])} are written small; only O, and B- and I- before a name, "
            "are read as spans: write them so, or name all tags with --data.label-names"
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
