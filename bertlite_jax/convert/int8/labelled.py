"""Labelled examples from a file: JSON lines {"text", "pair"?, "label", "id"?}, or a .tsv with these columns."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from bertlite_jax.config.model import Head
from bertlite_jax.errors import UserError

_KEYS = ("text", "pair", "label", "id")


def read_labelled(path: str, head: Head) -> list[dict[str, Any]]:
    """The examples in order; blank lines are skipped.

    Args:
      path: a file in UTF-8; quotes have no meaning in a .tsv.
      head: has the labels.

    Raises:
      UserError: names the line, what is wrong in it, and what would be right.
    """
    examples = []
    for where, example in _examples(pathlib.Path(path)):
        _check_example(where, example, head)
        examples.append(example)
    if not examples:
        raise UserError(f"convert: {path}:1: no example; {_right(head)}")
    return examples


def _right(head: Head) -> str:
    return f'{{"text": "...", "label": {json.dumps(head.labels[0], ensure_ascii=False)}}} is a valid line'


def _check_example(where: str, example: dict[str, Any], head: Head) -> None:
    """Raises UserError where keys, texts or the label are wrong; `where` is file and line."""
    unknown = [key for key in example if key not in _KEYS]
    if unknown:
        raise UserError(f"convert: {where}: unknown {', '.join(map(repr, unknown))}; known: {', '.join(_KEYS)}")
    missing = [key for key in ("text", "label") if key not in example]
    if missing:
        raise UserError(f"convert: {where}: {' and '.join(missing)} missing; {_right(head)}")
    for key in ("text", "pair"):
        if key in example and not isinstance(example[key], str) and (key == "text" or example[key] is not None):
            kind = type(example[key]).__name__
            raise UserError(f"convert: {where}: {key} is {kind}, not a string; {_right(head)}")
    label = example["label"]
    if isinstance(label, bool) or not isinstance(label, str | int) or str(label) not in head.labels:
        raise UserError(
            f"convert: {where}: the label is {json.dumps(label, ensure_ascii=False)}; the model's labels are: "
            f"{', '.join(head.labels)}"
        )


def _examples(path: pathlib.Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, example) of each line that is not blank."""
    lines = _lines(path)
    columns = None
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        if path.suffix.lower() != ".tsv":
            yield where, _json_object(where, line)
        elif columns is None:
            columns = _columns(where, line)
        else:
            cells = line.split("\t")
            if len(cells) != len(columns):
                raise UserError(f"convert: {where}: {len(cells)} columns, and the header has {len(columns)}")
            yield where, dict(zip(columns, cells, strict=True))


def _lines(path: pathlib.Path) -> list[str]:
    """Lines without their ends and without a byte order mark. Raises UserError for no file, or one not in UTF-8."""
    if not path.exists():
        raise UserError(f"convert: {path} does not exist; --data takes a file of JSON lines or a .tsv")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"convert: {path} cannot be read: {error.strerror}; --data takes a file") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"convert: {path}:{line}: not UTF-8 (byte 0x{content[error.start]:02x}); convert it with iconv -t utf-8"
        ) from error
    return [line.removesuffix("\r") for line in text.split("\n")]


def _columns(where: str, line: str) -> list[str]:
    """Names of a TSV's columns. Raises UserError for a header that lacks one, repeats one or has an unknown one."""
    names = line.split("\t")
    wrong = {"text", "label"} - set(names) or set(names) - set(_KEYS) or len(set(names)) != len(names)
    if wrong:
        raise UserError(
            f"convert: {where}: the first line must name the columns: text, label and, where present, pair and id; it "
            f"is {line[:60]!r}"
        )
    return names


def _json_object(where: str, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f'convert: {where}: not JSON: {reason}; write one {{"text", "label"}} a line') from error
    if not isinstance(value, dict):
        raise UserError(
            f'convert: {where}: {type(value).__name__}, not an object; write one {{"text", "label"}} a line'
        )
    return value
