"""Which columns of a file of one's own hold what: those that were named, or the usual ones in upper or lower case."""

from __future__ import annotations

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
    PAIR,
    TAGS,
    TEXT,
    WORDS,
    Kind,
    OwnOptions,
)
from bertlite_jax.data.tasks.own.suggestions import all_of, first_of, folded, hint
from bertlite_jax.data.tasks.task import Columns
from bertlite_jax.errors import UserError


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
        raise UserError(
            f"task: {where}: which column is the text? It has: {_shown(names)}{hint(file, options, kind, strict)}"
        )
    label = _labels_of(names, options, kind, where, strict)
    pair = found["pair"]
    if not pair and kind not in ("choose", "tag") and not options.single:
        pair = next((name for name in all_of(names, PAIR) if name != text), "")
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
        f"task: {where}: no column or field {names}; it has: {_shown(file.names)}{hint(file, options, kind)}"
    )


def ignored_pair(names: Sequence[str], options: OwnOptions, columns: Columns) -> str:
    """The column with a usual name of a second text that is not read, as texts are single (`options.single`)."""
    if not options.single or columns.pair:
        return ""
    used = (*columns.text, *columns.label, *columns.id, *columns.choices)
    return next((name for name in all_of(names, PAIR) if name not in used), "")


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


def _refuse_alike(names: Sequence[str], columns: Sequence[str], options: OwnOptions, option: str, where: str) -> None:
    """Raises UserError if a column has a namesake in another case and was not named as it is written."""
    exactly = {options.text, options.pair, options.id, options.label, *options.choices}
    exactly |= {name.strip() for name in options.label.split(",")}
    for column in columns:
        alike = [name for name in names if folded(name) == folded(column)]
        if len(alike) > 1 and column not in exactly:
            raise UserError(
                f"task: {where}: the columns {' and '.join(map(repr, alike))} differ only in case; name the one "
                f"that is meant as it is written: {option} {labels.typed(alike[0])}"
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
