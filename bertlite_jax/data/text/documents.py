"""Documents out of files and datasets: plain text, JSON lines and Parquet, packed or not, cleaned and counted.

A document is a list of paragraphs: strings without line breaks, with single spaces, never empty. Reading is streamed:
no file, line or document is held in memory beyond the limits below, however long it is.
"""

from __future__ import annotations

import json
import logging
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from bertlite_jax.data.text import hub_datasets, object_storage
from bertlite_jax.data.text.folders import files_below
from bertlite_jax.data.text.lines import BLOCK, read_lines
from bertlite_jax.data.text.sentences import check_language, split_document
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files
from bertlite_jax.host.places import in_datasets

LINE_LIMIT = 1 << 20
"""Bytes. A longer line of plain text is cut at a space; its parts are paragraphs."""
DOCUMENT_LIMIT = 2 << 20
"""Bytes or characters. A longer document is divided between two lines; each part is a document of its own."""
JSON_LIMIT = 64 << 20
"""Bytes. A longer line of JSON is refused, since JSON has to be parsed as a whole."""

OnBadText = Literal["refuse", "replace"]

CLEANED = ("invalid_utf8", "nul", "control", "byte_order_mark", "surrogate")
"""Kinds of characters that are cleaned. Bytes that are not UTF-8 become U+FFFD, the others are removed."""

_log = logging.getLogger(__name__)
_MARK = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8, which is part of the file and not of its text."""
_MARKED_UP = {".csv": "columns", ".tsv": "columns", **dict.fromkeys((".html", ".htm", ".xml", ".tex"), "mark-up")}
"""What text has in it besides text, by the names of files."""
_REMOVED = {
    "nul": re.compile("\x00"),
    # Not the tab and the characters that end a line: those are white space.
    "control": re.compile("[\x01-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]"),
    "byte_order_mark": re.compile("\ufeff"),
    "surrogate": re.compile("[\ud800-\udfff]"),
}
_ANY_REMOVED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ud800-\udfff]")


def list_files(inputs: Sequence[str]) -> list[str]:
    """The files that `inputs` name: a folder stands for all files below it in the order of their names.

    Hidden files in folders are left out. Links are followed as `folders.files_below` says. A dataset, and a folder that
    `save_to_disk` wrote, is one file.

    Raises:
      UserError: something does not exist or cannot be read, or there is no file at all.
    """
    files = []
    for name in inputs:
        with object_storage.reaching(name):
            files += _files_of(name)
    if not files:
        raise UserError("corpus: no input; give text files or folders of them")
    return files


def _files_of(name: str) -> list[str]:
    if not name:  # Of `"$TEXT"` where the shell knows no TEXT; pathlib would read the folder that this runs in.
        raise UserError("corpus: an input has an empty name; give text files or folders of them")
    if in_datasets(name):
        hub_datasets.parse(name, "corpus")
        return [name]
    path = object_storage.place_of(name)
    if not path.exists():
        leads_to = f" (a link to {os.readlink(name)})" if os.path.islink(name) else ""
        raise UserError(f"corpus: {name}: does not exist{leads_to}; give text files or folders of them")
    if not path.is_dir():
        return [str(path)]
    if isinstance(path, pathlib.Path):
        saved = hub_datasets.place_of_saved(path)
        return [saved] if saved else files_below(str(path))
    visible = [p for p in _below(path) if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    if not visible:
        raise UserError(f"corpus: {name}: the folder holds no file")
    return [str(p) for p in sorted(visible, key=lambda p: p.relative_to(path).parts)]


def _below(folder: Any) -> Iterator[Any]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _below(path)
        elif path.is_file():
            yield path


def read_documents(
    inputs: Sequence[str],
    *,
    text_field: str | None = "text",
    on_bad_text: OnBadText = "refuse",
    counts: Counter[str] | None = None,
) -> Iterator[list[str]]:
    """Every document of the files, in order, as its cleaned paragraphs.

    The name decides the format: `.jsonl`, `.ndjson`, `.json` are one JSON object a line with the text in `text_field`;
    `.parquet` has a column of that name; all others are plain text with one paragraph or sentence a line and a blank
    line between documents. `.gz` and `.zst` behind it are unpacked. Each example of a dataset is a document.

    Args:
      inputs: files and folders, on the disk or `gs://...`, and datasets (`hub_datasets`).
      text_field: JSON field or Parquet column that holds the text, and a dataset's if it names none itself. None: it is
        `text`, and the job has no option for another.
      on_bad_text: refuse bytes that are not UTF-8, or put U+FFFD in their place and count them.
      counts: while reading, this counts `bytes` of text, `position` in bytes of all files as they are stored,
        `files`, `empty_files`, `empty_documents`, `long_lines`, `split_documents`, and the kinds in `CLEANED`.

    Raises:
      UserError: text cannot be read; names the file and the line.
    """
    counts = Counter() if counts is None else counts
    for path in list_files(inputs):
        before, has_text = counts["position"], False
        for document in _file_documents(path, text_field, on_bad_text, counts):
            has_text = True
            yield document
        counts["position"] = before + object_storage.size_of(path)
        counts["files"] += 1
        if not has_text:
            counts["empty_files"] += 1
            _log.warning("corpus: %s: no text in this file", path)


def read_sentences(
    inputs: Sequence[str],
    *,
    language: str = "auto",
    one_sentence_per_line: bool = False,
    text_field: str = "text",
    on_bad_text: OnBadText = "refuse",
    counts: Counter[str] | None = None,
) -> Iterator[str]:
    """Every sentence of the files, to train a tokenizer. Arguments and errors are those of `read_documents`."""
    check_language("tokenizer", language)
    documents = read_documents(inputs, text_field=text_field, on_bad_text=on_bad_text, counts=counts)
    for paragraphs in documents:
        yield from split_document(paragraphs, language, one_sentence_per_line)


def _file_documents(
    path: str, text_field: str | None, on_bad_text: OnBadText, counts: Counter[str]
) -> Iterator[list[str]]:
    suffixes = [suffix.lower() for suffix in pathlib.Path(path).suffixes]
    if suffixes[-1:] in ([".gz"], [".zst"]):
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if in_datasets(path):
        texts = hub_datasets.texts(path, text_field or "text", counts)
    elif kind == ".parquet":
        texts = _parquet_texts(path, text_field or "text", on_bad_text, counts, _naming(text_field))
    elif kind in (".jsonl", ".ndjson", ".json"):
        texts = _json_texts(path, text_field or "text", on_bad_text, counts, _naming(text_field))
    else:
        if kind in _MARKED_UP:
            _log.warning("corpus: %s: read as plain text, as it stands: with its %s", path, _MARKED_UP[kind])
        yield from _plain_documents(path, on_bad_text, counts)
        return
    for text in texts:
        paragraphs = clean(text, counts)
        del text  # it may be large
        yield from _parts(paragraphs, counts)


def _naming(text_field: str | None) -> str:
    """What to do where a file calls its text otherwise."""
    return "call it 'text'" if text_field is None else "pass --text-field NAME"


# --- Cleaning ------------------------------------------------------------------------------------------------------


def clean(text: str, counts: Counter[str]) -> list[str]:
    """Removes and counts what no tokenizer should see. Returns paragraphs with single spaces, none of them empty."""
    if _ANY_REMOVED.search(text):
        for kind, pattern in _REMOVED.items():
            text, removed = pattern.subn("", text)
            counts[kind] += removed
    lines = (part for line in text.splitlines() for part in _cut_line(line, counts))
    paragraphs = [words for line in lines if (words := " ".join(line.split()))]
    if not paragraphs:
        counts["empty_documents"] += 1
    return paragraphs


def _cut_line(line: str, counts: Counter[str]) -> Iterator[str]:
    """A line of bounded length, or several: the words of 50 MB as objects would need half a gigabyte."""
    if len(line) <= LINE_LIMIT:
        yield line
        return
    counts["long_lines"] += 1
    start = 0
    while start < len(line):
        stop = start + LINE_LIMIT
        if stop < len(line):
            stop = line.rfind(" ", start + LINE_LIMIT // 2, stop) + 1 or stop
        yield line[start:stop]
        start = stop


def _decode(raw: bytes, path: str, line: int, on_bad_text: OnBadText, counts: Counter[str], unit: str = "") -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if on_bad_text == "refuse":
            where = f"{path}: {unit} {line}" if unit else f"{path}:{line + raw[: error.start].count(10)}"
            raise UserError(
                f"corpus: {where}: invalid UTF-8 (byte 0x{raw[error.start]:02x}); "
                "pass --on-bad-text replace to keep going"
            ) from error
    text = raw.decode("utf-8", "replace")
    counts["invalid_utf8"] += text.count("\ufffd") - raw.count("\ufffd".encode())
    return text


def _parts(paragraphs: list[str], counts: Counter[str]) -> Iterator[list[str]]:
    """One document as documents of bounded length."""
    if sum(map(len, paragraphs)) <= DOCUMENT_LIMIT:
        if paragraphs:
            yield paragraphs
        return
    part, size = [], 0
    for paragraph in paragraphs:
        if size >= DOCUMENT_LIMIT:
            yield part
            counts["split_documents"] += 1
            part, size = [], 0
        part.append(paragraph)
        size += len(paragraph)
    yield part


# --- The three formats ---------------------------------------------------------------------------------------------


def _is_blank(line: bytes) -> bool:
    # White space beyond ASCII, such as the ideographic space, is looked for in short lines only.
    return not line.strip() or (len(line) < 32 and not line.decode("utf-8", "replace").strip())


def _warn_of_start(line: bytes, path: str) -> None:
    """Logs that the first line of a plain text is none of a text, or that its blank lines are not seen as such."""
    advice = ""
    if line.startswith(b"<doc id="):
        advice = "it has the tags of WikiExtractor; leave them out: sed -e '/^<doc id=/d' -e 's/^<.doc>$//'"
    elif line.startswith(b'{"') and line.rstrip().endswith(b"}"):
        advice = "its first line is a JSON object; give the file a name that ends in .jsonl"
    elif b"\r\r" in line.rstrip(b"\r"):
        advice = "blank lines between carriage returns end no document; change them: tr '\\r' '\\n'"
    if advice:
        _log.warning("corpus: %s: read as plain text, as it stands, but %s", path, advice)


def _plain_documents(path: str, on_bad_text: OnBadText, counts: Counter[str]) -> Iterator[list[str]]:
    lines, size, first, goes_on = [], 0, 1, False
    last = 0
    for number, line in read_lines(path, LINE_LIMIT, counts):
        if last == 0:
            line = line.removeprefix(_MARK)
            _warn_of_start(line, path)
        blank = _is_blank(line)
        if lines and (blank or size >= DOCUMENT_LIMIT):
            if paragraphs := clean(_decode(b"".join(lines), path, first, on_bad_text, counts), counts):
                yield paragraphs
            goes_on, lines, size = not blank, [], 0
        if not blank:
            if not lines:
                first = number
                counts["split_documents"] += goes_on
            # A part of a long line follows a carriage return: a line break that does not count as a line.
            lines.append((b"\n" if number > last else b"\r") + line if lines else line)
            size += len(line)
        last = number
    if lines and (paragraphs := clean(_decode(b"".join(lines), path, first, on_bad_text, counts), counts)):
        yield paragraphs


def _json_texts(path: str, text_field: str, on_bad_text: OnBadText, counts: Counter[str], naming: str) -> Iterator[str]:
    is_first = True
    for number, line in read_lines(path, JSON_LIMIT, counts, refuse_long=True):
        where = f"corpus: {path}:{number}"
        line = line.removeprefix(_MARK) if number == 1 else line
        if not line.strip():
            continue
        if is_first and line.lstrip().startswith(b"["):
            raise UserError(f"{where}: this is one JSON list; write one object a line: jq -c '.[]'")
        is_first = False
        record = _record(_decode(line, path, number, on_bad_text, counts), text_field, f"{path}:{number}")
        if not isinstance(record, dict):
            raise UserError(f"{where}: a JSON object is expected, with the text in the field {text_field!r}")
        if text_field not in record:
            known = ", ".join(map(str, list(record)[:10]))
            raise UserError(f"{where}: no field {text_field!r}; it has: {known}; {naming}")
        if not isinstance(record[text_field], str | None):
            kind = type(record[text_field]).__name__
            raise UserError(f"{where}: the field {text_field!r} holds {kind}, not a string")
        del line  # it may be large
        yield record.pop(text_field) or ""


def _record(line: str, text_field: str, where: str) -> Any:
    """The JSON value of a line; refuses an object that has the text's field twice, of which one text would be lost."""
    value = json_files.loads(line, where, "corpus", advice="; one object a line is expected")
    # The names alone are compared only where they may be two: most lines have the field's name once.
    if line.count(f'"{text_field}"') > 1:
        names = json.loads(line.removeprefix("\ufeff"), object_pairs_hook=lambda pairs: [name for name, _ in pairs])
        if isinstance(value, dict) and names.count(text_field) > 1:
            raise UserError(f"corpus: {where}: the field {text_field!r} occurs twice in one object")
    return value


def _parquet_texts(
    path: str, text_field: str, on_bad_text: OnBadText, counts: Counter[str], naming: str
) -> Iterator[str]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"corpus: {path}: needs pyarrow; pip install 'bertlite_jax[parquet]'") from error
    before, size, row = counts["position"], object_storage.size_of(path), 0
    try:
        with (
            object_storage.reaching(path),
            object_storage.place_of(path).open("rb") as raw_file,
            pyarrow.parquet.ParquetFile(raw_file, buffer_size=BLOCK, pre_buffer=False) as file,
        ):
            names = file.schema_arrow.names
            if text_field not in names:
                known = ", ".join(names[:10])
                raise UserError(f"corpus: {path}: no column {text_field!r}; it has: {known}; {naming}")
            if names.count(text_field) > 1:
                raise UserError(f"corpus: {path}: {names.count(text_field)} columns are called {text_field!r}")
            for batch in file.iter_batches(64, columns=[text_field], use_threads=False):
                for raw in batch.column(0).cast(pyarrow.large_binary()).to_pylist():
                    row += 1
                    counts["bytes"] += len(raw or b"")
                    yield _decode(raw or b"", path, row, on_bad_text, counts, unit="row")
                counts["position"] = before + size * row // file.metadata.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"corpus: {path}: cannot be read as Parquet with text in {text_field!r}: {reason}") from error
