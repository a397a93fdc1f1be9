"""JSON files that are not one object a line: a list, pretty-printed objects, columns as `pandas` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from bertlite_jax.data.tasks import files
from bertlite_jax.data.tasks.files import Record
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files

_ROWS = ("data", "examples", "rows", "records", "items", "instances", "train", "validation", "dev", "test")
"""Fields of an object that holds all examples of a file; others may be part of an example."""
_SPACE = " \t\r\n"


def format_of(path: str, start: bytes) -> Literal["json", "json_lines"]:
    """Whether a JSON file is to be parsed as a whole, or holds an object a line.

    Args:
      path: the file.
      start: its first bytes, without white space and byte order mark.
    """
    if start.startswith(b"["):
        return "json"
    if not start.startswith(b"{"):
        return "json_lines"
    line = next((line for _, line in files.lines(path) if line.strip()), "")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        # Broken in its first line, or an object over several lines.
        return "json" if line.rstrip().endswith(("{", "[", ",", ":")) else "json_lines"
    return "json" if isinstance(value, dict) and _rows_within(value) is not None else "json_lines"


def has_object_lines(path: str) -> bool:
    """Whether the first line of a file is a JSON object."""
    line = next((line for _, line in files.lines(path) if line.strip()), "")
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def records(path: str) -> Iterator[tuple[int, Record]]:
    """(number of the line where it begins, object) of all examples. The file is read whole.

    Raises:
      UserError: the file is not JSON, or an element is no object; names the line.
    """
    text = files.whole_text(path)
    place, in_list = _after_space(text, 0), False
    if text[place : place + 1] == "[":
        place, in_list = place + 1, True
    line, counted, decoder = 1, 0, json.JSONDecoder()
    while True:
        place = _after_space(text, place, "," if in_list else "")
        line, counted = line + text.count("\n", counted, place), place
        if in_list and text[place : place + 1] == "]":
            if _after_space(text, place + 1) < len(text):
                raise UserError(f"task: {path}:{line}: there is something behind the end of the list")
            return
        if place >= len(text):
            if in_list:
                raise UserError(f"task: {path}:{line}: not JSON: the list has no end")
            return
        where = f"{path}:{line}"
        value, end = _value_at(text, place, decoder, where)
        if not isinstance(value, dict):
            raise UserError(f"task: {where}: a JSON object is expected, not {type(value).__name__}")
        if not in_list and (rows := _rows_within(value)) is not None:
            yield from ((number, row) for number, row in enumerate(rows, 1))
        else:
            yield line, value
        place = end


def _after_space(text: str, place: int, also: str = "") -> int:
    while place < len(text) and text[place] in _SPACE + also:
        place += 1
    return place


def _value_at(text: str, place: int, decoder: json.JSONDecoder, where: str) -> tuple[Any, int]:
    try:
        value, end = decoder.raw_decode(text, place)
    except json.JSONDecodeError as error:
        path = where.rpartition(":")[0]
        raise UserError(f"task: {path}:{error.lineno}: not JSON: {error.msg} (column {error.colno})") from error
    except (RecursionError, ValueError):
        # Says what it is, in one line.
        json_files.parse(text[place:], where, "task")
        raise
    if "\\u" in text[place:end]:
        json_files.parse(text[place:end], where, "task")
    return value, end


def _rows_within(value: dict[str, Any]) -> list[Record] | None:
    """The examples in an object that holds all of them; None if it is an example itself.

    Three forms: `{"data": [{...}, ...]}`, columns as lists `{"text": [...], "label": [...]}`, and columns as objects
    `{"text": {"0": ...}, "label": {"0": ...}}`, which `pandas` writes.
    """
    parts = list(value.values())
    for name, part in value.items():
        is_list = isinstance(part, list) and part and all(isinstance(row, dict) for row in part)
        if is_list and "paragraphs" not in part[0] and (len(parts) == 1 or name.casefold() in _ROWS):
            return part
    if len(parts) < 2:
        return None
    if all(isinstance(each, dict) for each in parts) and len({tuple(each) for each in parts}) == 1 and parts[0]:
        return [{name: column[key] for name, column in value.items()} for key in parts[0]]
    named = [name for name in value if name.casefold() in ("text", "sentence", "sentence1", "premise", "question")]
    if named and all(isinstance(each, list) for each in parts) and len({len(each) for each in parts}) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*parts, strict=True)]
    return None
