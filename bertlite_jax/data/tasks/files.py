"""Lines and records from the files of a task, one at a time, each with the number of its line.

Rules: text that is not UTF-8 is refused, with its line; a byte order mark and carriage returns at line ends are
removed; only a line feed ends a line (a U+2028 or a form feed in a text does not), except in a file without any line
feed, where carriage returns do; blank lines are left out and counted. In TSV files of the known tasks a quote is a
character like any other, as in GLUE's: it never joins lines (`tables.quoting_of` decides for one's own). CSV files are
quoted as RFC 4180 says. `.gz` files are unpacked.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import pathlib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from bertlite_jax.data.tasks import tables
from bertlite_jax.data.tasks.task import Columns
from bertlite_jax.data.text.foreign import START, refuse_foreign
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files

LINE_LIMIT = 64 << 20
"""Bytes. A longer line is refused."""
_PEEKED = 1 << 13
"""Bytes at the start of a file that show how its lines end."""

_CONVERT = "; convert it from its own encoding, such as iconv -f windows-1252 -t utf-8"

Record = dict[str, Any]


def lines(path: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its end) of every line.

    Raises:
      UserError: the file cannot be read, a line is not UTF-8, or longer than `LINE_LIMIT`.
    """
    with _reading(path), open_bytes(path) as file:
        yield from decoded_lines(_raw_lines(file), path)


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turns what goes wrong with a file inside into a UserError."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"task: {path}: truncated or damaged gz file ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(f"task: {path}: cannot be read: {error.strerror or error}") from error


def start_of(path: str) -> bytes:
    """The first bytes of a file, unpacked. Raises UserError if they cannot be read."""
    with _reading(path), open_bytes(path) as file:
        return file.read(START)


def open_bytes(path: str) -> gzip.GzipFile | BinaryIO:
    """The bytes of a file, unpacked if its name ends in `.gz`. Raises OSError."""
    return gzip.open(path, "rb") if path.lower().endswith(".gz") else open(path, "rb", buffering=_PEEKED)


def suffix_of(path: str) -> str:
    """The end of a file's name that tells its format, in lower case and without `.gz`: `.csv` of `A.CSV.gz`."""
    return pathlib.Path(path.lower().removesuffix(".gz")).suffix


def _raw_lines(file: Any) -> Iterable[bytes]:
    start = file.peek(_PEEKED)
    if b"\r" in start and b"\n" not in start:
        return _ended_by_returns(file)
    return iter(lambda: file.readline(LINE_LIMIT + 1), b"")


def _ended_by_returns(file: gzip.GzipFile | BinaryIO) -> Iterator[bytes]:
    rest = b""
    while block := file.read(_PEEKED):
        *whole, rest = (rest + block).split(b"\r")
        yield from whole
        if len(rest) > LINE_LIMIT:
            break
    if rest:
        yield rest


def decoded_lines(raw_lines: Iterable[bytes], where: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its end) of lines of bytes.

    Args:
      raw_lines: with or without their ends.
      where: names their file in messages.

    Raises:
      UserError: a line is not UTF-8, or longer than `LINE_LIMIT`, or the first one begins a file that is no text.
    """
    for number, raw in enumerate(raw_lines, 1):
        if number == 1:
            refuse_foreign(raw, where, "task")
        if len(raw) > LINE_LIMIT:
            raise UserError(f"task: {where}:{number}: a line longer than {LINE_LIMIT >> 20} MB")
        yield number, _decode(raw, f"{where}:{number}", first=number == 1)


def _decode(raw: bytes, where: str, first: bool) -> str:
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    try:
        # A file that was marked twice begins with two.
        return raw.decode("utf-8").lstrip("\ufeff") if first else raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"task: {where}: invalid UTF-8 (byte 0x{raw[error.start]:02x}){_CONVERT}") from error


class RecordNumber(int):
    """The number of a record, from 1, in a file whose records have no lines of their own.

    It is a number like any other, but `f"{path}:{number}"` reads `PATH: record 51`, where a line is `PATH:51`.
    """

    def __format__(self, spec: str) -> str:
        return f" record {int(self):{spec}}"


def whole_text(path: str) -> str:
    """The text of a whole file. Raises UserError as `lines`."""
    with _reading(path), open_bytes(path) as file:
        content = file.read()
    refuse_foreign(content[:START], path, "task")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"task: {path}:{line}: invalid UTF-8 (byte 0x{content[error.start]:02x}){_CONVERT}") from error


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
    suffix = suffix_of(path)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return json_lines(path, counts)
    if suffix == ".csv":
        return tables.quoted(path, lines(path), counts)
    return tables.tab_separated(path, lines(path), columns, counts)


def json_lines(path: str, counts: Counter[str]) -> Iterator[tuple[int, Record]]:
    """One JSON object a line.

    Raises:
      UserError: as `lines`, or a line is no object; or has half of a surrogate pair in an escape, which UTF-8 cannot
        encode, or a name twice.
    """
    for number, line in lines(path):
        if not line.strip():
            counts["blank_lines"] += 1
            continue
        yield number, json_files.parse_object(line, f"{path}:{number}", "task", names_once=True)


def first_line(path: str) -> str:
    """The first line of a file that is not blank, empty if there is none. Raises UserError as `lines`."""
    return next((line for _, line in lines(path) if line.strip()), "")


def object_in(line: str) -> Record | None:
    """The JSON object that a line holds; None if it holds something else."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
