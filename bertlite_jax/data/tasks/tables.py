"""Rows of CSV and TSV files as records: a header with the names of the columns, then one record a row."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from bertlite_jax.data.tasks.task import Columns
from bertlite_jax.errors import UserError

_FIELD_LIMIT = 64 << 20
"""Characters. The limit of the csv module belongs to the whole process; its default refuses texts beyond 131,072."""

Lines = Iterable[tuple[int, str]]
"""(number from 1, text without its end)."""
Rows = Iterator[tuple[int, list[str]]]
"""(number of its first line, fields)."""


def tab_separated(
    path: str, lines: Lines, columns: Columns, counts: Counter[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records of a TSV file without quotes. See `files.records`."""
    names: list[str] = []
    for number, fields in plain_rows(lines, "\t", counts):
        if not names:
            headless = columns.header and not set(columns.text) & set(fields)
            names = list(columns.header) if headless else header(fields, f"{path}:{number}")
            if not headless:
                continue
        if len(fields) == len(names):
            yield number, dict(zip(names, fields, strict=True))
        elif columns.wrong_fields == "leave_out":
            counts["wrong_fields"] += 1
        else:
            raise wrong_fields(f"{path}:{number}", fields, names)


def quoted(path: str, lines: Lines, counts: Counter[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records of a CSV file with commas and quotes. See `files.records`."""
    names: list[str] = []
    for number, fields in quoted_rows(path, lines, ",", counts):
        if not names:
            names = header(fields, f"{path}:{number}")
        elif len(fields) != len(names):
            raise wrong_fields(f"{path}:{number}", fields, names)
        else:
            yield number, dict(zip(names, fields, strict=True))


def plain_rows(lines: Lines, delimiter: str, counts: Counter[str]) -> Rows:
    """The fields of each line that is not blank; a quote is a character like any other."""
    for number, line in lines:
        if line.strip(" "):
            yield number, line.split(delimiter)
        else:
            counts["blank_lines"] += 1


def quoted_rows(path: str, lines: Lines, delimiter: str, counts: Counter[str]) -> Rows:
    """The fields of each row that is not blank, with quotes as in RFC 4180: a field may go over several lines.

    Raises:
      UserError: a quote stands where none may be, or there is a zero byte; names the line.
    """
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))
    rows = csv.reader((line + "\n" for line in _without_zero_bytes(path, lines)), delimiter=delimiter, strict=True)
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
        else:
            yield first, fields


def _without_zero_bytes(path: str, lines: Lines) -> Iterator[str]:
    for number, line in lines:
        if "\0" in line:
            raise UserError(
                f"task: {path}:{number}: a zero byte, which no text has; the file is damaged or is no table"
            )
        yield line


def header(fields: list[str], where: str) -> list[str]:
    """The names of the columns. Raises UserError if two are the same."""
    names = [field.strip() for field in fields]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"task: {where}: two columns are called {twice!r}")
    return names


def wrong_fields(where: str, fields: list[str], names: list[str]) -> UserError:
    """The error for a row with more or fewer fields than the header."""
    return UserError(f"task: {where}: {len(fields)} fields, and the header has {len(names)}: {', '.join(names)}")
