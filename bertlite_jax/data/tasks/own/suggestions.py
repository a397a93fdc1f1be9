"""Columns by their usual names, and what to type for those that have others: guessed from their rows."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bertlite_jax.data.tasks import fields
from bertlite_jax.data.tasks.own import labels
from bertlite_jax.data.tasks.own.formats import OwnFile
from bertlite_jax.data.tasks.own.options import IDS, LABEL, MAYBE_IDS, PAIR, TAGS, TEXT, WORDS, Kind, OwnOptions

_ROWS_TO_GUESS = 200
_LEAST_FILLED = 0.9
"""Share of the rows in which a column has a value, if it is to be guessed as the label's."""
_FEW_ROWS = 10
"""In fewer rows, values that do not repeat say nothing."""
_MOST_VALUES = 20
_OF_LABELS = {
    *("label", "labels", "class", "classes", "category", "categories", "target", "y", "topic", "intent", "genre"),
    *("star", "stars", "rating", "ratings", "score", "grade", "sentiment", "polarity", "emotion", "toxic", "spam"),
    *("kategorie", "klasse", "bewertung", "sterne", "note", "stimmung", "thema"),
}
"""Words in the names of columns that mostly hold labels."""


def first_of(names: Sequence[str], wanted: Sequence[str]) -> str:
    """The first column with one of the wanted names, as `all_of` finds them; empty if there is none."""
    return next(iter(all_of(names, wanted)), "")


def all_of(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The columns with one of the wanted names, in the order of those; the same case goes before another."""
    alike: dict[str, str] = {}
    for name in names:
        alike.setdefault(folded(name), name)
    found = (name if name in names else alike.get(folded(name)) for name in wanted)
    return list(dict.fromkeys(name for name in found if name))


def folded(name: str) -> str:
    """A name without case, width, white space at its ends, and characters that nobody sees."""
    normal = unicodedata.normalize("NFKC", name).casefold()
    return "".join(each for each in normal if unicodedata.category(each) != "Cf").strip()


# --- Suggestions -----------------------------------------------------------------------------------------------------


def hint(file: OwnFile | None, options: OwnOptions, kind: Kind, labelled: bool = True) -> str:
    """What to type, guessed from rows: the text is the longest column, the label one whose values repeat.

    Args:
      file: whose first rows are looked at; None: nothing is said.
      options: what was said.
      kind: what is predicted, not `auto`.
      labelled: a label is needed, so that it is said where none was found.
    """
    if file is None or not file.names:
        return ""
    parts = file.first.get("data")
    if {"paragraphs", "qas"} & set(file.names) or (isinstance(parts, list) and "paragraphs" in str(parts[:1])):
        return "; files in SQuAD's layout are read with --task squad1 (or squad2) --data FOLDER"
    if len(file.names) == 1 and file.format == "table":
        return "; if something else than the usual divides the columns, name it with --data.delimiter"
    if {"word", "tag"} <= {name.casefold() for name in file.names}:
        return "; a word in each row: write CoNLL columns instead, word and tag, with a blank line after each sentence"
    rows = [record for _, record in itertools.islice(file.records(Counter()), _ROWS_TO_GUESS)]
    if kind == "tag":
        text, label = _lists_of(rows)
    else:
        text = first_of(file.names, (options.text,) if options.text else TEXT) or _longest(rows)
        label = first_of(file.names, (options.label,) if options.label else LABEL) or _likely_label(rows, text, kind)
    if (" " in text.strip() and len(text) > 30) or any(name.strip().isdecimal() for name in (text, label)):
        return "; a table begins with a line that has the names of its columns"
    typed: list[tuple[str, str, str, tuple[str, ...]]] = [
        (f"--data.text-column {labels.typed(text)}", text, options.text, TEXT if kind != "tag" else WORDS)
    ]
    typed.append((f"--data.label-column {labels.typed(label)}", label, options.label, LABEL if kind != "tag" else TAGS))
    shown = [part for part, name, said, usual in typed if name and not said and not first_of([name], usual)]
    said = f"; pass {' '.join(shown)}" if shown else ""
    if labelled and not label and kind != "tag" and len(rows) >= _FEW_ROWS:
        said += f"; no column looks like labels, which are 2 to about {_MOST_VALUES} values that repeat"
    return said + ("" if text and label else _nested(file))


def _nested(file: OwnFile) -> str:
    """What to do about objects in the first record, whose fields are not read; empty if there are none."""
    name = next((name for name, value in file.first.items() if isinstance(value, dict) and value), "")
    if not name:
        return ""
    inner = next(iter(file.first[name]))
    return (
        f"; fields within {name!r} are not read: write them beside the others, such as {f'{name}.{inner}'!r}, as "
        "pandas.json_normalize does"
    )


def _lists_of(rows: Sequence[dict[str, Any]]) -> tuple[str, str]:
    lists = [name for name, value in rows[0].items() if isinstance(value, list)] if rows else []
    return (lists[0] if lists else "", lists[1] if len(lists) > 1 else "")


def _longest(rows: Sequence[dict[str, Any]]) -> str:
    lengths = Counter[str]()
    for row in rows:
        lengths.update({name: len(value) for name, value in row.items() if isinstance(value, str) and not _is_id(name)})
    return max(lengths, key=lambda name: lengths[name], default="")


def _likely_label(rows: Sequence[dict[str, Any]], text: str, kind: Kind) -> str:
    """The column of strings or numbers, not `text`, that most likely holds labels; empty if none does.

    Its values are not all one and, except numbers for a regression, repeat. A usual name goes before others, a column
    of truth values comes last, and few values go before many. A column that is empty in more than a tenth of the rows
    is a remark rather than a label.
    """
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            other = name != text and not _is_id(name) and folded(name) not in PAIR
            if other and isinstance(value, str | int | float) and not fields.is_missing(value):
                values.setdefault(name, []).append(value)
    ranked = []
    for name, each in values.items():
        count, usual = len(set(map(str, each))), not _OF_LABELS.isdisjoint(re.split(r"[\W_]+", folded(name)))
        most = len(each) - 1 if usual or kind == "regression" else min(_MOST_VALUES, len(each) // 2)
        repeats = count <= most or len(rows) < _FEW_ROWS or (kind == "regression" and _are_numbers(each))
        if len(each) >= _LEAST_FILLED * len(rows) and (count > 1 or len(rows) == 1) and repeats:
            ranked.append((not usual, all(str(value).casefold() in ("true", "false") for value in each), count, name))
    return min(ranked, default=("",))[-1] if ranked else ""


def _is_id(name: str) -> bool:
    return folded(name) in (*IDS, *MAYBE_IDS) or "id" in re.split(r"[\W_]+", folded(name))


def _are_numbers(values: Sequence[Any]) -> bool:
    """Whether values are numbers that are not all whole: those may count the rows."""
    try:
        return any(float(str(value).replace(",", ".")) % 1 for value in values)
    except ValueError:
        return False
