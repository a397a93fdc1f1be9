"""Lines and records from the files of a task, one at a time, each with the number of its line.

Rules: text that is not UTF-8 is refused, with its line; a byte order mark and carriage returns at line ends are
removed; only a line feed ends a line (a U+2028 or a form feed in a text does not); blank lines are left out and
counted. In TSV files a quote is a character like any other, as in GLUE's files: it never joins lines. CSV files are
quoted as RFC 4180 says.
"""

from __future__ import annotations

import csv
import json
import pathlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from bertlite_jax.data.tasks.task import Columns
from bertlite_jax.errors import UserError

LINE_LIMIT = 64 << 20
"""Bytes. A longer line is refused."""

Record = dict[str, Any]


def lines(path: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its end) of every line.

    Raises:
      UserError: the file cannot be read, a line is not UTF-8, or longer than `LINE_LIMIT`.
    """
    try:
        with open(path, "rb") as file:
            number = 0
            while raw := file.readline(LINE_LIMIT + 1):
                number += 1
                if len(raw) > LINE_LIMIT:
                    raise UserError(f"task: {path}:{number}: a line longer than {LINE_LIMIT >> 20} MB")
                yield number, _decode(raw, f"{path}:{number}", first=number == 1)
    except OSError as error:
        raise UserError(f"task: {path}: cannot be read: {error.strerror or error}") from error


def _decode(raw: bytes, where: str, first: bool) -> str:
    if first and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"task: {where}: this is UTF-16, not UTF-8; convert it: iconv -f utf-16 -t utf-8")
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return (raw.removeprefix(b"\xef\xbb\xbf") if first else raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"task: {where}: invalid UTF-8 (byte 0x{raw[error.start]:02x})") from error


def records(path: str, columns: Columns, counts: Counter[str]) -> Iterator[tuple[int, Record]]:
    """(number of its line, record) of every example; the name decides the format.

    `.jsonl`, `.ndjson` and `.json` hold one JSON object a line, `.csv` is comma-separated, all others tab-separated.
    The values of CSV and TSV files are strings.

    Args:
      path: the file.
      columns: its `header` names the columns of a TSV file whose first line lacks the text's name.
      counts: `blank_lines` and `wrong_fields` (lines left out for their number of fields) are added to.

    Raises:
      UserError: a line cannot be read; names the file and the line.
    """
    suffix = pathlib.Path(path).suffix.lower()
    if suffix in (".jsonl", ".ndjson", ".json"):
        return json_lines(path, counts)
    if suffix == ".csv":
        return _csv(path, counts)
    return _tsv(path, columns, counts)


def field_names(path: str) -> list[str]:
    """The columns of a CSV or TSV file, or the fields of a JSON file's first object."""
    for _, record in records(path, Columns(), Counter()):
        return list(record)
    raise UserError(f"task: {path}: the file holds no example")


def json_lines(path: str, counts: Counter[str]) -> Iterator[tuple[int, Record]]:
    """One JSON object a line. Half of a surrogate pair in an escape is refused: UTF-8 cannot encode it."""
    for number, line in lines(path):
        if not line.strip():
            counts["blank_lines"] += 1
            continue
        yield number, json_object(line, f"{path}:{number}")


def json_object(text: str, where: str) -> Record:
    """Parses one JSON object.

    Raises:
      UserError: it is not JSON, not an object, or has half of a surrogate pair.
    """
    try:
        record = json.loads(text)
        if "\\u" in text:
            json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"task: {where}: an escape \\ud800 to \\udfff without its other half") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"task: {where}: not JSON: {error}; one object a line is expected") from error
    if not isinstance(record, dict):
        raise UserError(f"task: {where}: a JSON object is expected, not {type(record).__name__}")
    return record


def _tsv(path: str, columns: Columns, counts: Counter[str]) -> Iterator[tuple[int, Record]]:
    names: list[str] = []
    for number, line in lines(path):
        if not line.strip(" "):
            counts["blank_lines"] += 1
            continue
        fields = line.split("\t")
        if not names:
            headless = columns.header and not set(columns.text) & set(fields)
            names = list(columns.header) if headless else _header(fields, f"{path}:{number}")
            if not headless:
                continue
        if len(fields) == len(names):
            yield number, dict(zip(names, fields, strict=True))
        elif columns.wrong_fields == "leave_out":
            counts["wrong_fields"] += 1
        else:
            raise _wrong_fields(f"{path}:{number}", fields, names)


def _csv(path: str, counts: Counter[str]) -> Iterator[tuple[int, Record]]:
    # The limit belongs to the whole process; the default refuses texts beyond 131,072 characters.
    csv.field_size_limit(max(csv.field_size_limit(), LINE_LIMIT))
    rows = csv.reader((line + "\n" for _, line in lines(path)), strict=True)
    names: list[str] = []
    while True:
        first = rows.line_num + 1
        try:
            fields = next(rows, None)
        except csv.Error as error:
            last = f" (read up to line {rows.line_num})" if rows.line_num > first else ""
            raise UserError(
                f"task: {path}:{first}: {error}{last}; a quote inside a quoted field is written twice"
            ) from error
        if fields is None:
            return
        if not any(field.strip() for field in fields) and len(fields) < 2:
            counts["blank_lines"] += 1
        elif not names:
            names = _header(fields, f"{path}:{first}")
        elif len(fields) != len(names):
            raise _wrong_fields(f"{path}:{first}", fields, names)
        else:
            yield first, dict(zip(names, fields, strict=True))


def _header(fields: list[str], where: str) -> list[str]:
    names = [field.strip() for field in fields]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"task: {where}: two columns are called {twice!r}")
    return names


def _wrong_fields(where: str, fields: list[str], names: list[str]) -> UserError:
    return UserError(f"task: {where}: {len(fields)} fields, and the header has {len(names)}: {', '.join(names)}")
