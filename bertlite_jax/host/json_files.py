"""JSON that a user or another program wrote: whatever is wrong with it is told in one line.

Python's reader is generous and its failures are many: nesting that exhausts the stack, integers whose digits it will
not convert, bytes that are no UTF-8, halves of surrogate pairs that no output can encode. Each becomes a `UserError`
that names the place.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
from typing import Any

from bertlite_jax.errors import UserError


def parse(text: str | bytes, where: str, job: str, *, names_once: bool = False) -> Any:
    """Parses one JSON value.

    Args:
      text: as bytes in UTF-8, with or without a byte order mark.
      where: file, or file and line, for the message.
      job: first word of the message.
      names_once: refuse an object that has a name twice, of which Python's reader keeps the last.

    Raises:
      UserError: it is no JSON, or JSON that cannot be used: too deep, a number of thousands of digits, half a surrogate
        pair, bytes that are not UTF-8.
    """
    if isinstance(text, bytes):
        text = _decoded(text, where, job)
    value = loads(text, where, job, names_once=names_once)
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"{job}: {where}: an escape \\ud800 to \\udfff without its other half") from error
    return value


def loads(text: str, where: str, job: str, *, by_line: bool = False, names_once: bool = False, advice: str = "") -> Any:
    """`parse` of text that may have halves of surrogate pairs.

    Args:
      text: with or without a byte order mark.
      where: as for `parse`.
      job: as for `parse`.
      by_line: `where` is a file and `text` all of it, so that the message can name the line as `FILE:LINE`.
      names_once: as for `parse`.
      advice: ends the message of what is no JSON.

    Raises:
      UserError: as `parse`.
    """
    once = functools.partial(object_with_names_once, where=where, job=job) if names_once else None
    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=once)
    except json.JSONDecodeError as error:
        place = f"{where}:{error.lineno}" if by_line else where
        line = f"line {error.lineno}, " if error.lineno > 1 and not by_line else ""
        raise UserError(f"{job}: {place}: not JSON: {error.msg} ({line}column {error.colno}){advice}") from error
    except RecursionError as error:
        raise UserError(f"{job}: {where}: not usable JSON: lists or objects are nested too deeply") from error
    except ValueError as error:  # The only other one: an integer of more digits than Python converts.
        raise UserError(f"{job}: {where}: not usable JSON: a number has thousands of digits") from error


def _decoded(text: bytes, where: str, job: str) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = text[error.start]
        encoding = "UTF-16 or UTF-32" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else "not UTF-8"
        raise UserError(
            f"{job}: {where}: not JSON: byte 0x{byte:02x} at {error.start}; the file is {encoding}"
        ) from error


def parse_object(text: str | bytes, where: str, job: str, *, names_once: bool = False) -> dict[str, Any]:
    """`parse`, for a value that must be an object.

    Raises:
      UserError: as `parse`, or the value is no object.
    """
    value = parse(text, where, job, names_once=names_once)
    if not isinstance(value, dict):
        raise UserError(f"{job}: {where}: a JSON object is expected, not {_KINDS.get(type(value), 'null')}")
    return value


def object_with_names_once(pairs: list[tuple[str, Any]], where: str, job: str) -> dict[str, Any]:
    """An object from its names and values, as of `object_pairs_hook`. Raises UserError if a name occurs twice."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{job}: {where}: an object has the name {twice!r} twice; only one of them can be meant")
    return value


def read(path: str | os.PathLike[str], job: str) -> Any:
    """`parse` of a whole file.

    Raises:
      UserError: as `parse`, or the file is missing or cannot be read.
    """
    return parse(_content(path, job), os.fspath(path), job)


def read_object(path: str | os.PathLike[str], job: str) -> dict[str, Any]:
    """`parse_object` of a whole file.

    Raises:
      UserError: as `parse_object`, or the file is missing or cannot be read.
    """
    return parse_object(_content(path, job), os.fspath(path), job)


_KINDS = {list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}


def _content(path: str | os.PathLike[str], job: str) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{job}: {path} does not exist") from error
    except OSError as error:
        raise UserError(f"{job}: {path} cannot be read: {error.strerror or error}") from error
