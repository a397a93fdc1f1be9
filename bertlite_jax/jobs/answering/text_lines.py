"""Examples to answer from lines: one text each, or one JSON object."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bertlite_jax.config.model import Head
from bertlite_jax.convert.bundled.words import split_words
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files

OfObject = Callable[[dict[str, Any], int, str], Example]
"""(object, number of its line, file and line) -> example."""

REPLACED = "replaced"
"""Counts lines with half of a surrogate pair."""

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


def read_examples(
    lines: Iterable[tuple[int, str]], head: Head, where: str, of_object: OfObject, counts: dict[str, int]
) -> Iterator[Example]:
    """Yields an example for each line.

    The first line that is not blank decides: if it begins with `{`, all lines are JSON objects, else plain texts. Among
    texts, a blank line is an empty text; among objects, it is skipped. An escape that is half of a surrogate pair,
    which no text can hold, becomes U+FFFD.

    Args:
      lines: numbers and texts, without line ends.
      head: of the model. Words of plain text are split as its `splits` say.
      where: file, for messages.
      of_object: makes an example of a JSON object.
      counts: `REPLACED` is added to.

    Raises:
      UserError: a line is no JSON object where one is expected, or one among texts; or `of_object` refuses it. The
        message has the line number.
    """
    objects: bool | None = None
    blank: list[int] = []
    for number, line in lines:
        at = f"{where}:{number}"
        if objects is None and not line.strip():
            blank.append(number)
            continue
        if objects is None:
            objects = line.lstrip().startswith("{")
            _refuse_list(line, at)
            for earlier in [] if objects else blank:
                yield _of_text("", head, earlier, f"{where}:{earlier}")
        if not objects:
            yield _of_text(line, head, number, at)
        elif line.strip():
            yield of_object(parse_line(line, at, counts), number, at)
    for earlier in blank if objects is None else []:
        yield _of_text("", head, earlier, f"{where}:{earlier}")


def parse_line(line: str, at: str, counts: dict[str, int]) -> dict[str, Any]:
    """The JSON object of a line, with U+FFFD for each half of a surrogate pair.

    Raises:
      UserError: it is none.
    """
    whole = _whole_escapes(line)
    counts[REPLACED] = counts.get(REPLACED, 0) + (whole != line)
    return json_files.parse_object(whole, at, "predict", names_once=True)


def plain_words(text: str, head: Head) -> tuple[str, ...]:
    """The words of a plain text for a tagger; an empty text has none."""
    return tuple(text[start:end] for start, end in split_words(text, head.splits))


def _of_text(line: str, head: Head, number: int, at: str) -> Example:
    if line.lstrip().startswith("{") and _is_object(line):
        raise UserError(
            f"predict: {at}: a JSON object among plain texts; the first line decides how all lines are read"
        )
    if head.kind == "choose":
        raise UserError(
            f'predict: {at}: this model chooses, so each line must be an object {{"text": .., "choices": [..]}}'
        )
    if head.kind == "tag":
        return Example(str(number), line, words=plain_words(line, head))
    return Example(str(number), line.strip())


def _is_object(line: str) -> bool:
    try:
        json_files.parse_object(_whole_escapes(line), "", "")
    except UserError:
        return False
    return True


def _refuse_list(line: str, at: str) -> None:
    """Raises UserError where lines, of standard input for one, are those of one JSON list."""
    if re.match(r"\s*\[\s*($|\{)", line):
        raise UserError(f"predict: {at}: this is one JSON list; pass its file with --input, or use: jq -c '.[]'")


def _whole_escapes(line: str) -> str:
    r"""The same JSON with U+FFFD for an escape \ud800 to \udfff without its other half."""
    if "\\u" not in line:
        return line
    escapes = [(match.span(), int(match[1] or "0", 16)) for match in _ESCAPE.finditer(line)]
    parts, at, skipped = [], 0, False
    for index, ((start, end), code) in enumerate(escapes):
        if skipped or not 0xD800 <= code <= 0xDFFF:
            skipped = False
            continue
        following = escapes[index + 1] if index + 1 < len(escapes) else ((-1, -1), 0)
        skipped = code < 0xDC00 and following[0][0] == end and 0xDC00 <= following[1] <= 0xDFFF
        if not skipped:
            parts += [line[at:start], "\\ufffd"]
            at = end
    return "".join([*parts, line[at:]])
