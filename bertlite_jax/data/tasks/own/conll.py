"""CoNLL columns of one's own: how such a file is recognised, and which of its columns hold words and tags.

In CoNLL-U and CoNLL-X, ten columns between tabs, the words are FORM and the tags UPOS. Elsewhere the first column is
the word, or the second where the first one counts the words, and the last one the tag.

Source: https://universaldependencies.org/format.html; for other columns, https://universaldependencies.org/ext-format.html.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from bertlite_jax.data.tasks import files, layouts
from bertlite_jax.data.tasks.layouts import ColumnForm
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError

_SHOWN_LINES = 100
"""How many lines decide whether a file has CoNLL columns."""
UNIVERSAL = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
"""Columns of CoNLL-U. Those of CoNLL-X mean nearly the same."""
_LISTED = "# global.columns ="
"""A comment that lists other columns, in CoNLL-U Plus."""
_ALWAYS_FILLED = ("UPOS", "XPOS", "DEPREL", "HEAD")
"""In these, `_` for every word of a sentence says that it is not annotated; FEATS may have nothing to say."""
_ID = re.compile(r"\d+([-.]\d+)?")
_WORD_HEADERS = ("word", "words", "token", "tokens", "form")
_PART_OF_SPEECH = re.compile(r"[A-Z$#.,:;?!'`\"()/|+*_-]{1,12}")


def head_of(path: str) -> list[str]:
    """The lines that decide. Raises UserError if the file cannot be read."""
    return [line for _, line in itertools.islice(files.lines(path), _SHOWN_LINES)]


def has_columns(head: Sequence[str]) -> bool:
    """Whether lines look like CoNLL columns: a word and its tag a line, a blank line after each sentence."""
    if _universal_names(head):
        return True
    rows = [row for row in _rows(head) if row[0] != layouts.DOCUMENT_MARK]
    if len(rows) > 1 and rows[0][0].casefold() in _WORD_HEADERS:
        rows = rows[1:]
    if len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return False
    tags = [row[-1] for row in rows]
    if all(layouts.TAG.fullmatch(tag) for tag in tags):
        return True
    ends = any(not line.strip() for line in head)
    return ends and len(rows) > 1 and all(_PART_OF_SPEECH.fullmatch(tag) for tag in tags)


def _rows(head: Sequence[str]) -> list[list[str]]:
    """The columns of each line that is neither blank nor a comment."""
    comments = layouts.free_comments(enumerate(head))
    shown = [line for number, line in enumerate(head) if number not in comments and not layouts.is_comment(line)]
    return [layouts.columns_of_line(line) for line in shown if line.strip()]


def width_of(path: str) -> int:
    """Columns of the first line that has words. Raises UserError if the file cannot be read."""
    return next((len(row) for row in _rows(head_of(path)) if row[0] != layouts.DOCUMENT_MARK), 0)


def form_of(path: str, options: OwnOptions, strict: bool = True) -> ColumnForm:
    """Which columns of a file have the words and the tags.

    Args:
      path: a file in CoNLL columns.
      options: `text` and `label` may name columns, where the file names them: in CoNLL-U, or in its first line.
      strict: columns that are named must exist; otherwise the usual ones are the second choice.

    Raises:
      UserError: there is no column of that name.
    """
    head = head_of(path)
    if names := _universal_names(head):
        word = _column(names, options.text, "--data.text-column", path, strict)
        tag = _column(names, options.label, "--data.label-column", path, strict)
        if tag is None:
            tag = names.index("UPOS") if "UPOS" in names else len(names) - 1
        return ColumnForm(
            word=names.index("FORM") if word is None else word,
            tag=tag,
            universal=True,
            names=names,
            empty="_" if names[tag] in _ALWAYS_FILLED else "",
        )
    rows = _rows(head)
    header = len(rows) > 1 and len(rows[0]) > 1 and rows[0][0].casefold() in _WORD_HEADERS
    names = tuple(rows[0]) if header else ()
    word = _column(names, options.text, "--data.text-column", path, strict)
    tag = _column(names, options.label, "--data.label-column", path, strict)
    numbers = [row[0] for row in rows[header:] if len(row) > 2]
    numbered = numbers[:2] == ["1", "2"] and all(number.isdecimal() for number in numbers)
    return ColumnForm(
        word=int(numbered) if word is None else word, tag=-1 if tag is None else tag, header=header, names=names
    )


def _universal_names(head: Sequence[str]) -> tuple[str, ...]:
    """The columns of a file in CoNLL-U, CoNLL-U Plus or CoNLL-X; none if most of its lines are something else.

    Ten columns of which the last has BIO tags throughout are somebody's own.
    """
    listed = next((line.partition("=")[2].split() for line in head if line.startswith(_LISTED)), [])
    names = tuple(listed) or UNIVERSAL
    rows = [line.rstrip("\r\n").split("\t") for line in head if line.strip() and not line.startswith("#")]
    fits = 2 * sum(len(row) == len(names) and bool(_ID.fullmatch(row[0])) for row in rows) > len(rows)
    fits = fits and (bool(listed) or not all(layouts.TAG.fullmatch(row[-1]) for row in rows))
    return names if fits and names[0] == "ID" and "FORM" in names else ()


def _column(names: Sequence[str], said: str, option: str, path: str, strict: bool) -> int | None:
    """The place of a column that was named, in upper or lower case; None if none was, or it need not exist."""
    folded = [name.casefold() for name in names]
    if folded.count(said.casefold()) > 1:
        raise UserError(f"task: {path}: {option} {said}: {folded.count(said.casefold())} columns have this name")
    if said.casefold() in folded:
        return folded.index(said.casefold())
    if not said or not strict:
        return None
    has = f"it has: {', '.join(names)}" if names else "CoNLL columns have no names here; the tag is the last one"
    raise UserError(f"task: {path}: {option} {said}: no such column; {has}")
