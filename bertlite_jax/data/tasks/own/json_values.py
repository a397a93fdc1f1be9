"""JSON files that are not one object a line: a list, pretty-printed objects, columns as `pandas` writes them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any, Literal

from bertlite_jax.data.tasks import files
from bertlite_jax.data.tasks.files import Record, RecordNumber
from bertlite_jax.data.tasks.own.options import TEXT
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files

_ROWS = ("data", "examples", "rows", "records", "items", "instances", "train", "validation", "dev", "test")
"""Fields of an object that holds all examples of a file; others may be part of an example."""
_NAMES = ("labels", "label_names", "classes", "class_names", "names", "categories")
"""Fields beside the examples that may hold the names of the labels."""
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
    line = files.first_line(path)
    value = files.object_in(line)
    if value is None:
        # Broken in its first line, or an object over several lines.
        return "json" if line.rstrip().endswith(("{", "[", ",", ":")) else "json_lines"
    return "json" if _rows_within(value, path) is not None else "json_lines"


def records(path: str) -> Iterator[tuple[int, Record]]:
    """(number of the line where it begins, object) of all examples; of those within an object, their own numbers.

    The file is read whole.

    Raises:
      UserError: the file is not JSON, or an element is no object; names the line. Or an object holds several lists of
        objects.
    """
    text = files.whole_text(path)
    place, in_list = _after_space(text, 0), False
    if text[place : place + 1] == "[":
        place, in_list = place + 1, True
    line, counted = 1, 0
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
        value, end = _value_at(text, place, where)
        if not isinstance(value, dict):
            raise UserError(f"task: {where}: a JSON object is expected, not {type(value).__name__}")
        if not in_list and (rows := _rows_within(value, path)) is not None:
            yield from ((RecordNumber(number), row) for number, row in enumerate(rows, 1))
        else:
            yield line, value
        place = end


def names_beside(path: str) -> tuple[str, tuple[str, ...]]:
    """The field of a file's object that may hold the names of its labels, and those names; empty if there is none.

    Raises:
      UserError: as `records`.
    """
    text = files.whole_text(path).lstrip(_SPACE)
    if not text.startswith("{"):
        return "", ()
    value, _ = _value_at(text, 0, f"{path}:1")
    if not any(is_rows(part) for part in value.values()) or _rows_within(value, path) is None:
        return "", ()
    for name, part in value.items():
        if name.casefold() in _NAMES and isinstance(part, list) and all(isinstance(each, str) for each in part):
            return name, tuple(part)
    return "", ()


def _after_space(text: str, place: int, also: str = "") -> int:
    while place < len(text) and text[place] in _SPACE + also:
        place += 1
    return place


def _value_at(text: str, place: int, where: str) -> tuple[Any, int]:
    once = functools.partial(json_files.object_with_names_once, where=where, job="task")
    decoder = json.JSONDecoder(object_pairs_hook=once)
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


def is_rows(part: Any) -> bool:
    """Whether a value may hold examples: a list of objects, which are not SQuAD's."""
    return (
        isinstance(part, list)
        and bool(part)
        and all(isinstance(row, dict) for row in part)
        and "paragraphs" not in part[0]
    )


def _fits(row: Any, names: list[Any]) -> bool:
    return isinstance(row, list) and len(row) == len(names)


def _rows_within(value: dict[str, Any], path: str) -> list[Record] | None:
    """The examples in an object that holds all of them; None if it is an example itself.

    Forms: `{"data": [{...}, ...]}`, columns as lists `{"text": [...], "label": [...]}`, and what `pandas` writes:
    columns as objects `{"text": {"0": ...}, "label": {"0": ...}}`, rows as objects `{"0": {"text": ...}}`, and rows as
    lists `{"columns": ["text", "label"], "data": [[...], ...]}`.

    Raises:
      UserError: there are several lists of objects.
    """
    parts = list(value.values())
    lists = [name for name, part in value.items() if is_rows(part)]
    if any(len(parts) == len(lists) or name.casefold() in _ROWS for name in lists):
        if len(lists) > 1:
            raise UserError(
                f"task: {path}: it holds {len(lists)} lists of objects: {', '.join(map(repr, lists[:8]))}; a file has "
                "one list of examples, so write each of them to a file of its own"
            )
        return value[lists[0]]
    if len(parts) < 2:
        return None
    named = [name for name in value if name.casefold() in TEXT]
    if all(isinstance(each, dict) for each in parts) and len({tuple(each) for each in parts}) == 1 and parts[0]:
        if not named and any(name.casefold() in TEXT for name in parts[0]):
            return parts
        return [{name: column[key] for name, column in value.items()} for key in parts[0]]
    names, rows = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(rows, list) and all(_fits(row, names) for row in rows) and rows:
        return [dict(zip(map(str, names), row, strict=True)) for row in rows]
    if named and all(isinstance(each, list) for each in parts) and len({len(each) for each in parts}) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*parts, strict=True)]
    return None
