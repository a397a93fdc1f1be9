"""Reads lines of text or JSON as examples to answer."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError


@contextlib.contextmanager
def open_lines(inputs: str, job: str = "predict") -> Iterator[Iterable[bytes]]:
    """Opens the lines of a file, or of standard input for `-`.

    Args:
      inputs: the file.
      job: begins the message if the file cannot be read.

    Raises:
      UserError: the file cannot be read, or is a table by its name.
    """
    if inputs == "-":
        yield sys.stdin.buffer
        return
    if inputs.lower().endswith((".csv", ".tsv")):
        raise UserError(
            f"{job}: {inputs} is a table, whose lines and header would all be read as texts; pass one text per line, "
            'or JSON objects such as {"text": ..}'
        )
    try:
        stream = open(inputs, "rb")  # noqa: SIM115 - closed below; only opening it is the user's mistake.
    except OSError as error:
        raise UserError(f"{job}: {inputs} cannot be read: {error.strerror}") from error
    with stream:
        yield stream


def read_examples(lines: Iterable[bytes], head: Head, where: str) -> Iterator[Example]:
    """Yields an example for each line.

    The first line that is not blank decides: if it begins with `{`, all lines are JSON objects, else plain texts. Among
    texts, a blank line is an empty text; among objects, it is skipped.

    Raises:
      UserError: a line is not UTF-8, is no JSON object where one is expected or one among texts, or has a field that is
        unknown or of the wrong type. The message has the line number.
    """
    objects: bool | None = None
    blank: list[int] = []
    for number, raw in enumerate(lines, start=1):
        at = f"{where}:{number}"
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"predict: {at}: invalid UTF-8 (byte 0x{raw[error.start]:02x})") from error
        if objects is None and not line.strip():
            blank.append(number)
            continue
        if objects is None:
            objects = line.lstrip().startswith("{")
            for earlier in [] if objects else blank:
                yield _of_text("", head, earlier, f"{where}:{earlier}")
        if not objects:
            yield _of_text(line, head, number, at)
        elif line.strip():
            yield _of_object(line, head, number, at)
    for earlier in blank if objects is None else []:
        yield _of_text("", head, earlier, f"{where}:{earlier}")


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
        return Example(str(number), line, words=tuple(line.split()) or ("",))
    return Example(str(number), line.strip())


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


_FIELDS = {"classify": ("text", "pair"), "choose": ("text", "choices"), "tag": ("words", "text")}


_IGNORED = ("id", "label")


def _of_object(line: str, head: Head, number: int, at: str) -> Example:
    try:
        values = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"predict: {at}: not JSON: {error}; each line must be one JSON object") from error
    known = _FIELDS[head.kind]
    if not isinstance(values, dict):
        raise UserError(f"predict: {at}: expected a JSON object, not {type(values).__name__}")
    if unknown := [name for name in values if name not in known + _IGNORED]:
        raise UserError(f"predict: {at}: unknown field {unknown[0]!r}; known: {', '.join(known + _IGNORED)}")
    text = _typed(values, "text", str, at, needed="words" not in values) or ""
    name = str(values.get("id", number))
    if head.kind == "tag":
        words = _strings(values, "words", at) if "words" in values else tuple(text.split())
        return Example(name, text, words=words or ("",))
    if head.kind == "choose":
        return Example(name, text, choices=_strings(values, "choices", at))
    return Example(name, text.strip(), _typed(values, "pair", str, at, needed=False))


def _typed(values: Mapping[str, Any], name: str, kind: type, at: str, needed: bool) -> Any:
    value = values.get(name)
    if value is None and not needed:
        return None
    if not isinstance(value, kind):
        raise UserError(f"predict: {at}: {name!r} should be a {kind.__name__}, not {type(value).__name__}")
    return value


def _strings(values: Mapping[str, Any], name: str, at: str) -> tuple[str, ...]:
    strings = _typed(values, name, list, at, needed=True)
    if not all(isinstance(value, str) for value in strings):
        raise UserError(f"predict: {at}: {name!r} should be a list of strings")
    return tuple(strings)
