"""Lines of text or JSON become examples to answer."""

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
    """The lines of a file, or of standard input for `-`. `job` begins the message where the file cannot be read."""
    if inputs == "-":
        yield sys.stdin.buffer
        return
    if inputs.lower().endswith((".csv", ".tsv")):
        raise UserError(
            f"{job}: {inputs} is a table, and each of its lines would be a text, the header too; give one text a line, "
            'or JSON objects such as {"text": ..}'
        )
    try:
        stream = open(inputs, "rb")  # noqa: SIM115 - closed below; only opening it is the user's mistake.
    except OSError as error:
        raise UserError(f"{job}: {inputs} cannot be read: {error.strerror}") from error
    with stream:
        yield stream


def read_examples(lines: Iterable[bytes], head: Head, where: str) -> Iterator[Example]:
    """An example for each line.

    The first line that is not blank decides: if it begins with `{`, all lines are JSON objects, else plain texts. A
    blank line is an empty text among texts, and nothing among objects.

    Raises:
      UserError: with the number of the line: not UTF-8, no JSON object, an object among texts, a field of the wrong
        kind or unknown.
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
        raise UserError(f"predict: {at}: a JSON object among plain texts; the first line decides what all lines are")
    if head.kind == "choose":
        raise UserError(f'predict: {at}: this model chooses, so each line is an object {{"text": .., "choices": [..]}}')
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
        raise UserError(f"predict: {at}: not JSON: {error}; one object a line is expected") from error
    known = _FIELDS[head.kind]
    if not isinstance(values, dict):
        raise UserError(f"predict: {at}: a JSON object is expected, not {type(values).__name__}")
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
        raise UserError(f"predict: {at}: {name!r} should be a {kind.__name__}, and is {type(value).__name__}")
    return value


def _strings(values: Mapping[str, Any], name: str, at: str) -> tuple[str, ...]:
    found = _typed(values, name, list, at, needed=True)
    if not all(isinstance(each, str) for each in found):
        raise UserError(f"predict: {at}: {name!r} should be a list of strings")
    return tuple(found)
