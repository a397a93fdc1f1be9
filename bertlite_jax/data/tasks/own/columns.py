"""Which columns of a file of one's own hold what: those that were named, or the usual ones in upper or lower case."""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks import fields
from bertlite_jax.data.tasks.own import labels
from bertlite_jax.data.tasks.own.formats import OwnFile
from bertlite_jax.data.tasks.own.options import (
    CHOICES,
    IDS,
    LABEL,
    MAYBE_IDS,
    PAIR,
    TAGS,
    TEXT,
    WORDS,
    Kind,
    OwnOptions,
)
from bertlite_jax.data.tasks.task import Columns
from bertlite_jax.errors import UserError

_ROWS_TO_GUESS = 200
_LEAST_FILLED = 0.9
"""Share of the rows in which a column has a value, if it is to be guessed as the label's."""


def kind_of_head(head: Head) -> Kind:
    """What a task head predicts, as `OwnOptions.kind` names it."""
    if head.kind in ("choose", "tag"):
        return head.kind
    if head.kind == "span":
        raise ValueError("questions about texts have a reader of their own")
    return "classify" if head.problem == "single_label" else head.problem


def kind_of_file(file: OwnFile, options: OwnOptions) -> Kind:
    """What the first file's examples are for, where `options.kind` is `auto`.

    Raises:
      UserError: it has choices, which is to be confirmed.
    """
    if options.kind != "auto":
        return options.kind
    if file.format == "columns":
        return "tag"
    if options.choices:
        return "choose"
    if found := first_of(file.names, CHOICES):
        raise UserError(
            f"task: {file.path}:{file.first_line}: it has a column {found!r}; pass --data.kind choose to choose among "
            "them, or --data.kind classify to leave them out"
        )
    words = first_of(file.names, (options.text,) if options.text else WORDS)
    if words and _is_list(file.first.get(words)):
        return "tag"
    several = options.label.split(",") if options.label and options.label not in file.names else ()
    label = first_of(file.names, (options.label,) if options.label else LABEL)
    value = file.first.get(label)
    return "multi_label" if _is_list(value) or len(several) > 1 else "classify"


def _is_list(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and fields.listed(value) is not None)


def columns_of(
    names: Sequence[str], options: OwnOptions, kind: Kind, where: str, file: OwnFile | None = None, strict: bool = True
) -> Columns:
    """The columns to read.

    Args:
      names: columns of a table, or fields of the first object.
      options: names that were said.
      kind: what is predicted, not `auto`.
      where: file and line, for messages.
      file: the same file, from whose rows a suggestion can be made.
      strict: a name that was said must exist. Otherwise the usual names are a second choice, and a file may have
        neither pair nor label.

    Raises:
      UserError: a column that was named, or the text, is missing, or there are two of its name in upper and lower case;
        suggests what to type.
    """
    said = {"text": options.text, "pair": options.pair, "id": options.id}
    found = {part: _said(names, name, where, strict) for part, name in said.items()}
    usual = WORDS if kind == "tag" else TEXT
    text = found["text"] or first_of(names, usual)
    if not text and kind == "tag" and not strict:
        text = first_of(names, TEXT)
    if not text:
        raise UserError(f"task: {where}: which column is the text? It has: {_shown(names)}{_hint(file, options, kind)}")
    label = _labels_of(names, options, kind, where, strict)
    pair = found["pair"]
    if not pair and kind not in ("choose", "tag") and not options.single:
        pair = next((name for name in _all_of(names, PAIR) if name != text), "")
    if not strict and not options.label:  # A usual name for labels, and here the texts are in it.
        label = tuple(name for name in label if name not in (text, pair))
    identity = found["id"] or first_of(names, IDS)
    choices = tuple(_said(names, name, where, strict) or name for name in options.choices)
    chosen = {"text": (text,), "pair": (pair,), "label": label, "id": (identity,), "choice": choices}
    for part, columns in chosen.items():
        _refuse_alike(names, columns, options, f"--data.{part}-column{'s' * (part == 'choice')}", where)
    _refuse_twice([text, *((pair,) if pair else ()), *label, *choices], where)
    return Columns(
        text=(text,),
        pair=(pair,) if pair else (),
        label=label or (TAGS if kind == "tag" else LABEL),
        id=(identity,) if identity else (),
        choices=(choices or (first_of(names, CHOICES) or "choices",)) if kind == "choose" else (),
        separator=options.separator,
    )


def check_named(names: Sequence[str], options: OwnOptions, where: str) -> None:
    """Raises UserError for a column that was named, alone or among several labels, and is not among `names`."""
    labels_said = (options.label,) if options.label in names else tuple(map(str.strip, options.label.split(",")))
    for name in (options.text, options.pair, options.id, *labels_said, *options.choices):
        _said(names, name, where, strict=True)


def missing_label(columns: Columns, file: OwnFile, options: OwnOptions, kind: Kind) -> UserError:
    """The error for a training file in which no label was found; suggests what to type."""
    names = " or ".join(map(repr, columns.label))
    where = f"{file.path}:{file.first_line}"
    return UserError(
        f"task: {where}: no column or field {names}; it has: {_shown(file.names)}{_hint(file, options, kind)}"
    )


def ignored_pair(names: Sequence[str], options: OwnOptions, columns: Columns) -> str:
    """The column with a usual name of a second text that is not read, as texts are single (`options.single`)."""
    if not options.single or columns.pair:
        return ""
    used = (*columns.text, *columns.label, *columns.id, *columns.choices)
    return next((name for name in _all_of(names, PAIR) if name not in used), "")


def _labels_of(names: Sequence[str], options: OwnOptions, kind: Kind, where: str, strict: bool) -> tuple[str, ...]:
    if options.label and options.label not in names and "," in options.label:
        several = [_said(names, name.strip(), where, strict) for name in options.label.split(",")]
        return tuple(several) if all(several) else ()
    said = _said(names, options.label, where, strict)
    found = said or first_of(names, TAGS if kind == "tag" else LABEL)
    return (found,) if found else ()


def _said(names: Sequence[str], name: str, where: str, strict: bool) -> str:
    """The column of a name that was said; empty if none was, or it is missing and need not exist."""
    if not name:
        return ""
    if found := first_of(names, (name,)):
        return found
    if strict:
        fields.find(dict.fromkeys(names), (name,), where)
    return ""


def first_of(names: Sequence[str], wanted: Sequence[str]) -> str:
    """The first column with one of the wanted names, as `_all_of` finds them; empty if there is none."""
    return next(iter(_all_of(names, wanted)), "")


def _all_of(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The columns with one of the wanted names, in the order of those; the same case goes before another."""
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(_folded(name), name)
    found = (name if name in names else folded.get(_folded(name)) for name in wanted)
    return list(dict.fromkeys(name for name in found if name))


def _folded(name: str) -> str:
    """A name without case, width, white space at its ends, and characters that nobody sees."""
    normal = unicodedata.normalize("NFKC", name).casefold()
    return "".join(each for each in normal if unicodedata.category(each) != "Cf").strip()


def _refuse_alike(names: Sequence[str], columns: Sequence[str], options: OwnOptions, option: str, where: str) -> None:
    """Raises UserError if a column has a namesake in another case and was not named as it is written."""
    exactly = {options.text, options.pair, options.id, options.label, *options.choices}
    exactly |= {name.strip() for name in options.label.split(",")}
    for column in columns:
        alike = [name for name in names if _folded(name) == _folded(column)]
        if len(alike) > 1 and column not in exactly:
            raise UserError(
                f"task: {where}: the columns {' and '.join(map(repr, alike))} differ only in case; name the one "
                f"that is meant as it is written: {option} {_quoted(alike[0])}"
            )


def _refuse_twice(columns: Sequence[str], where: str) -> None:
    """Raises UserError if one column is to be two things, such as text and label."""
    if twice := next((name for name in columns if columns.count(name) > 1), ""):
        raise UserError(
            f"task: {where}: the column {twice!r} is named for two things; text, pair and label are different"
        )


def _shown(names: Sequence[str]) -> str:
    if not names:
        return "none"
    return ", ".join(map(labels.shown, names[:12])) + (", ..." if len(names) > 12 else "")


# --- Suggestions -----------------------------------------------------------------------------------------------------


def _hint(file: OwnFile | None, options: OwnOptions, kind: Kind) -> str:
    """What to type, guessed from rows: the text is the longest column, the label the one with fewest values."""
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
        label = first_of(file.names, (options.label,) if options.label else LABEL) or _fewest(rows, text)
    if (" " in text.strip() and len(text) > 30) or any(name.strip().isdecimal() for name in (text, label)):
        return "; a table begins with a line that has the names of its columns"
    typed: list[tuple[str, str, str, tuple[str, ...]]] = [
        (f"--data.text-column {_quoted(text)}", text, options.text, TEXT if kind != "tag" else WORDS)
    ]
    typed.append((f"--data.label-column {_quoted(label)}", label, options.label, LABEL if kind != "tag" else TAGS))
    shown = [part for part, name, said, usual in typed if name and not said and not first_of([name], usual)]
    return f"; pass {' '.join(shown)}" if shown else ""


def _lists_of(rows: Sequence[dict[str, Any]]) -> tuple[str, str]:
    lists = [name for name, value in rows[0].items() if isinstance(value, list)] if rows else []
    return (lists[0] if lists else "", lists[1] if len(lists) > 1 else "")


def _longest(rows: Sequence[dict[str, Any]]) -> str:
    lengths = Counter[str]()
    for row in rows:
        lengths.update({name: len(value) for name, value in row.items() if isinstance(value, str)})
    return max(lengths, key=lambda name: lengths[name], default="")


def _fewest(rows: Sequence[dict[str, Any]], text: str) -> str:
    """The column of strings or numbers, not `text`, with fewest different values that are not all one.

    A column that is empty in more than a tenth of the rows is a remark rather than a label.
    """
    values: dict[str, list[str]] = {}
    for row in rows:
        for name, value in row.items():
            other = name != text and name.casefold() not in (*IDS, *MAYBE_IDS, *PAIR)
            if other and isinstance(value, str | int | float) and not fields.is_missing(value):
                values.setdefault(name, []).append(str(value))
    filled = {name: each for name, each in values.items() if len(each) >= _LEAST_FILLED * len(rows)}
    varied = {name: len(set(each)) for name, each in filled.items() if len(set(each)) > 1 or len(rows) == 1}
    return min(varied, key=lambda name: varied[name], default="")


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name
