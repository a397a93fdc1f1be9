"""Which format a file of one's own has, by its name and its content, and its records.

Tables (CSV, TSV and others with a header), JSON (an object a line, or a whole file with a list), Parquet, CoNLL
columns, and plain lines of text.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from bertlite_jax.data.tasks import files, tables
from bertlite_jax.data.tasks.files import Record, RecordNumber
from bertlite_jax.data.tasks.own import conll, json_values
from bertlite_jax.data.tasks.own.options import DELIMITERS, LABEL, PAIR, TAGS, TEXT, WORDS, OwnOptions
from bertlite_jax.data.tasks.tables import Quoting
from bertlite_jax.data.text.foreign import refuse_foreign
from bertlite_jax.errors import UserError

Format = Literal["table", "json_lines", "json", "parquet", "columns", "text"]
"""`columns`: CoNLL. `text`: lines without a header, or none of the others."""

UNQUOTED = "fields_without_the_quotes_around_them"
"""Counts fields whose quotes may have been meant as characters."""

_JSON = (".jsonl", ".ndjson", ".json")
_COLUMNS = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".bioes")
_QUOTED = Quoting(True)
_ROWS_TO_NAME = 200
"""Objects whose fields are known before others are read."""
_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods")


@dataclasses.dataclass(frozen=True)
class OwnFile:
    """A file of one's own whose format is known."""

    path: str
    format: Format
    names: tuple[str, ...] = ()
    """Columns of a table or of Parquet, or fields of the first JSON object; of a JSON list, of its first objects."""
    first: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The first record."""
    first_line: int = 1
    """Number of the line that has the names, for messages."""
    delimiter: str = ""
    """Between the columns of a table."""
    quoting: Quoting = _QUOTED
    """Whether quotes around the fields of a table are taken off."""
    class_names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Of a Parquet file of `datasets`: names of the classes by column."""

    def records(self, counts: Counter[str]) -> Iterator[tuple[int, Record]]:
        """(number of its line, or `RecordNumber`, record) of every example; nothing for `columns` and `text`.

        Args:
          counts: `blank_lines` is added to.

        Raises:
          UserError: a line cannot be read; names the file and the line.
        """
        if self.format == "table":
            return table_records(self, counts)
        if self.format == "json_lines":
            return files.json_lines(self.path, counts)
        if self.format == "json":
            return json_values.records(self.path)
        return _parquet_records(self.path) if self.format == "parquet" else iter(())


def open_file(path: str, options: OwnOptions) -> OwnFile:
    """Recognises the format of a file, and reads the names of its columns.

    Raises:
      UserError: the file cannot be read, is no text (`refuse_foreign`), or holds no example.
    """
    form = format_of(path, options)
    if form in ("columns", "text"):
        return OwnFile(path, form)
    delimiter = delimiter_of(path, options) if form == "table" else ""
    quoting = tables.quoting_of(path, files.lines(path), delimiter) if delimiter == "\t" else _QUOTED
    file = OwnFile(path, form, delimiter=delimiter, quoting=quoting)
    for line, record in file.records(Counter()):
        names = _fields_of(file) if record and form == "json" else tuple(map(str, record))
        first_line = _header_line(path) if form == "table" else line
        return dataclasses.replace(
            file, names=names, first=record, first_line=first_line,
            class_names=_class_names(path) if form == "parquet" else {},
        )  # fmt: skip
    raise UserError(f"task: {path}: the file holds no example")


def _fields_of(file: OwnFile) -> tuple[str, ...]:
    """The fields of the first objects of a list, of which each may lack some; it is in memory anyway."""
    first = itertools.islice(file.records(Counter()), _ROWS_TO_NAME)
    return tuple(dict.fromkeys(str(name) for _, record in first for name in record))


def format_of(path: str, options: OwnOptions) -> Format:
    """The format of a file, by its name and by what it begins with.

    Raises:
      UserError: the file cannot be read, or is no text (`refuse_foreign`).
    """
    suffix, start = files.suffix_of(path), files.start_of(path)
    if suffix == ".parquet" or start.startswith(b"PAR1"):
        return "parquet"
    if suffix in _WORKBOOKS:
        raise UserError(f"task: {path}: a workbook cannot be read; save the sheet as CSV (UTF-8)")
    refuse_foreign(start, path, "task")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if suffix in (*_JSON, ".csv", ".tsv") and text[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise UserError(f"task: {path}: this is a web page, perhaps in place of the file that it speaks of")
    if suffix in _JSON:
        return json_values.format_of(path, text)
    if suffix not in (".csv", ".tsv") and text.startswith(b"{") and files.object_in(files.first_line(path)) is not None:
        return "json_lines"
    if suffix == ".csv":
        return "table"
    if suffix in _COLUMNS or options.kind == "tag":
        return "columns"
    return _form_of_lines(path, suffix, options)


def _form_of_lines(path: str, suffix: str, options: OwnOptions) -> Format:
    """Of a file that is neither JSON nor CSV by its name."""
    head = conll.head_of(path)
    first = next((line for line in head if line.strip()), "")
    known = _known(options)
    second = next((line for line in head[head.index(first) + 1 :] if line.strip()), "") if first else ""
    second = "" if second.startswith('"') else second  # Its row may end in a later line.
    given = _given_delimiter(options)
    for delimiter in given or DELIMITERS:
        fields = header_fields(first, delimiter)
        # "Text, image and sound." begins a text, not a table.
        sentence = any(field.startswith(" ") for field in fields) or (second and delimiter not in second)
        if len(fields) > 1 and not sentence and known & {name.strip().casefold() for name in fields}:
            return "table"
    if conll.has_columns(head):
        return "columns"
    delimited = "\t" in first or (given and given in first)
    return "table" if suffix in (".tsv", ".tab") or delimited else "text"


# --- Tables ----------------------------------------------------------------------------------------------------------


def _known(options: OwnOptions) -> set[str]:
    given = (options.text, options.pair, options.id, *options.label.split(","), *options.choices)
    return {name.strip().casefold() for name in (*given, *TEXT, *PAIR, *LABEL, *WORDS, *TAGS) if name.strip()}


def header_fields(line: str, delimiter: str) -> list[str]:
    """The fields of a line, without quotes around them; of a very long one, those at its start."""
    # A lone carriage return ends no line here, and csv refuses it.
    return next(csv.reader([line[:100_000].replace("\r", " ")], delimiter=delimiter), [])


def _given_delimiter(options: OwnOptions) -> str:
    given = "\t" if options.delimiter in ("\\t", "tab") else options.delimiter
    if len(given) > 1 or given in ('"', "\r", "\n"):
        raise UserError(f"task: the delimiter {given!r} must be one character, such as ; or tab")
    return given


def delimiter_of(path: str, options: OwnOptions) -> str:
    """What stands between the columns: as said, or what divides the header into most names that are known."""
    if given := _given_delimiter(options):
        return given
    usual = "," if files.suffix_of(path) == ".csv" else "\t"
    line = files.first_line(path)
    if line.startswith("sep=") and len(line) == 5:
        return line[4]
    known = _known(options)

    def fitness(delimiter: str) -> tuple[int, bool, int]:
        names = {name.strip().casefold() for name in header_fields(line, delimiter)}
        return len(names & known) if len(names) > 1 else 0, delimiter == usual and len(names) > 1, len(names)

    best = max((usual, *(each for each in DELIMITERS if each != usual)), key=fitness)
    return best if fitness(best)[2] > 1 else usual


def _header_line(path: str) -> int:
    shown = (number for number, line in files.lines(path) if line.strip() and not line.startswith("sep="))
    return next(shown, 1)


def table_records(file: OwnFile, counts: Counter[str]) -> Iterator[tuple[int, Record]]:
    """The records of a table. Columns without a name are left out, as are empty fields beyond the header."""
    path, delimiter, quoting = file.path, file.delimiter, file.quoting
    read = functools.partial(tables.quoted_rows, path) if quoting.on else tables.plain_rows
    counts[UNQUOTED] += quoting.taken_off
    names: list[str] = []
    for number, row in read(files.lines(path), delimiter, counts):
        if not names:
            if not (len(row) <= 2 and row[0].startswith("sep=")):
                names = _header(row, f"{path}:{number}")
            continue
        if len(row) > 1 and not any(field.strip() for field in row):
            counts["blank_lines"] += 1
            continue
        if not tables.is_row(row, len(names)):
            wrong = tables.wrong_fields(f"{path}:{number}", row, names)
            advice = "; if something else divides the columns, name it with --data.delimiter" if len(names) < 2 else ""
            quotes = f"; its quotes are read as characters, because: {quoting.problem}" if quoting.problem else ""
            raise UserError(f"{wrong}{quotes}{advice}")
        yield number, {name: field for name, field in zip(names, row, strict=False) if name}


def _header(fields: list[str], where: str) -> list[str]:
    names = [field.strip() for field in fields]
    tables.header([name for name in names if name], where)
    return names


# --- Parquet ---------------------------------------------------------------------------------------------------------


def _parquet_file(path: str) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"task: {path}: needs pyarrow; pip install 'bertlite_jax[parquet]'") from error
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"task: {path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def _parquet_records(path: str) -> Iterator[tuple[int, Record]]:
    """The rows of a Parquet file, numbered from 1; a batch of them is in memory.

    Raises:
      UserError: the file is damaged, or two columns have one name.
    """
    with _parquet_file(path) as file:
        import pyarrow

        tables.header(file.schema_arrow.names, path)
        number = 0
        try:
            for batch in file.iter_batches(256, use_threads=False):
                for record in batch.to_pylist():
                    number += 1
                    yield RecordNumber(number), record
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"task: {path}: row {number + 1}: {str(error).splitlines()[0]}") from error


def _class_names(path: str) -> dict[str, tuple[str, ...]]:
    """The names of classes that `datasets` stores beside the columns."""
    with _parquet_file(path) as file:
        stored = (file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(stored)["info"]["features"]
        found = {name: feature.get("feature", feature).get("names") for name, feature in features.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {name: tuple(map(str, names)) for name, names in found.items() if isinstance(names, list)}
