"""Rows of CSV and TSV files as records: a header with the names of the columns, then one record a row."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

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


class Quoting(NamedTuple):
    """Whether quotes around the fields of a table are quoting.

    Attributes:
      on: they are taken off; otherwise a quote is a character like any other.
      taken_off: how many fields lose theirs although the file would be a table with them as well.
      problem: why they are none, where a field begins with a quote.
    """

    on: bool
    taken_off: int = 0
    problem: str = ""


def quoting_of(path: str, lines: Lines, delimiter: str) -> Quoting:
    """Whether quotes explain a table that pandas may have written, or a program that does not know of any, as GLUE's.

    They do where each field that begins with a quote ends with one, with doubled quotes inside, and each row has the
    header's number of fields. Of two lines that are rows by themselves, none goes on in the other.
    """
    taken: list[str] = []
    width = quoted = taken_off = 0
    plain, first = True, True
    try:
        for number, row in quoted_rows(path, _noted(lines, taken), delimiter, Counter()):
            alone = [line.split(delimiter) for line in taken if line.strip(" ")]
            taken.clear()
            if first and len(row) <= 2 and row[0].startswith("sep="):
                continue
            quoted += sum(field.startswith('"') for fields in alone for field in fields)
            width, plain = width or len(row), plain and not (first and quoted)
            if not is_row(row, width):
                return Quoting(False, problem=f"{path}:{number}: {len(row)} fields with quotes, and not {width}")
            fits = all(is_row(fields, width) for fields in alone)
            if fits and width > 1 and len(alone) > 1:
                return Quoting(False, problem=f"{path}:{number}: a quote would join rows")
            plain, first = plain and fits, False
            taken_off += sum(len(field) > 1 and field[0] == field[-1] == '"' for fields in alone for field in fields)
    except UserError as error:  # A line that cannot be read at all is refused by whoever reads the rows.
        return Quoting(False, problem=str(error).removeprefix("task: ").replace("\t", "tab"))
    return Quoting(quoted > 0, taken_off if plain else 0)


def is_row(fields: list[str], width: int) -> bool:
    """Whether fields make a row: as many as the header has, and empty ones beyond, which spreadsheets write."""
    blank = len(fields) > 1 and not any(field.strip() for field in fields)
    return blank or (len(fields) >= width and not any(field.strip() for field in fields[width:]))


def _noted(lines: Lines, taken: list[str]) -> Lines:
    """The same lines; each is added to `taken`."""
    for number, line in lines:
        taken.append(line)
        yield number, line


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
