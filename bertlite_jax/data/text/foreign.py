"""Files that are no text in UTF-8, whatever they are called: told by their first bytes, refused with what helps.

A file gets the wrong name when its ending is lost in a download, or because a program adds `.csv` to everything. What
it holds then reads as damaged text, or, where bytes are replaced, as text of nothing.
"""

from __future__ import annotations

import re

from bertlite_jax.data.text import shell_lines
from bertlite_jax.errors import UserError

START = 1 << 13
"""Bytes that tell all formats apart."""

_MARKS = (
    (rb"\x1f\x8b", "compressed by gzip; give it a name that ends in .gz, or unpack it: gzip -dc < FILE > TEXT"),
    (rb"BZh[1-9]1AY&SY", "compressed by bzip2; unpack it: bzip2 -dc < FILE > TEXT"),
    (rb"\xfd7zXZ\x00", "compressed by xz; unpack it: xz -dc < FILE > TEXT"),
    (rb"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it: zstd -dc < FILE > TEXT"),
    (rb"\x04\x22\x4d\x18", "compressed by lz4; unpack it: lz4 -dc < FILE > TEXT"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it: 7z x FILE"),
    (rb"Rar!\x1a\x07", "a RAR archive; unpack it: unrar x FILE"),
    (
        rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "a workbook or document of Office; save the sheet as CSV (UTF-8), or as text",
    ),
    (rb"%PDF-", "a PDF; write its text to a file: pdftotext FILE TEXT"),
    (rb"\{\\rtf\d", "a document in rich text (RTF); save it as plain text (UTF-8)"),
    (rb"PAR1\x15", "Parquet; give it a name that ends in .parquet"),
    (rb"SQLite format 3\x00", "an SQLite database; export the table: sqlite3 -header -csv FILE 'select * from TABLE'"),
    (rb"ARROW1\x00", "an Arrow or Feather file; write it as Parquet or CSV"),
    (rb"Obj\x01", "an Avro file; write it as Parquet or as JSON lines"),
    (rb"\x89HDF\r\n", "an HDF5 file; write it as CSV or as text"),
    (rb"\x93NUMPY", "an array of NumPy; write it as CSV or as text"),
    (
        rb"version https://git-lfs\.github\.com/spec/",
        "a pointer of Git LFS, not the file itself; fetch it: git lfs pull",
    ),
)
"""How files begin, and what they are, with what to do."""
_ENCODINGS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),  # Before UTF-16, whose mark it begins with.
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_SHORTEST_WITHOUT_MARK = 16
"""Bytes that show how the zeros of an encoding without a mark are spread."""
_SHORTEST_BINARY = 64
_MOST_CONTROL = 0.05
"""Share of control characters in text. Bytes at random have twice as many."""
_CONTROL = bytes([*range(9), *range(14, 27), *range(28, 32), 127])
"""Not white space, and not the escape that colours a terminal."""


def refuse_foreign(start: bytes, where: str, job: str) -> None:
    """Refuses a file by its first bytes.

    Args:
      start: the first bytes, unpacked where the name says that the file is packed; of a short one all, else at best
        `START`. A first line is enough for most formats.
      where: the file, for the message.
      job: first word of the message.

    Raises:
      UserError: the file is compressed, an archive, a document, a database or in another encoding, and says how it
        becomes text; or it is something else than text.
    """
    what = next((text for mark, text in _MARKS if re.match(mark, start)), "") or _archive(start)
    if what:
        raise UserError(f"{job}: {where}: this is {what}")
    if encoding := _encoding(start):
        line = shell_lines.rewriting(f"iconv -f {encoding.lower()} -t utf-8", where, "utf8")
        raise UserError(f"{job}: {where}: this is {encoding}, not UTF-8; convert it: {line}")
    control = len(start) - len(start.translate(None, _CONTROL))
    if len(start) >= _SHORTEST_BINARY and control > _MOST_CONTROL * len(start):
        share = control / len(start)
        raise UserError(f"{job}: {where}: this is no text: {share:.0%} of its first bytes are control characters")


def _archive(start: bytes) -> str:
    """What a zip or tar archive holds, as the names of its first files tell; empty for other files."""
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it: tar -xf FILE"
    if not start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ""
    if b"xl/" in start or b"opendocument.spreadsheet" in start:
        return "a workbook (.xlsx, .ods); save the sheet as CSV (UTF-8)"
    if b"word/" in start or b"opendocument.text" in start:
        return "a text document (.docx, .odt); save it as plain text (UTF-8)"
    if b"[Content_Types].xml" in start:
        return "a document of Office; save the sheet as CSV (UTF-8), or as plain text"
    return "a zip archive; unpack it: unzip FILE"


def _encoding(start: bytes) -> str:
    """UTF-16 or UTF-32, by its mark, or as almost every second byte, or three of four, are 0; else empty.

    The latter is so in Western text without a mark.
    """
    if marked := next((name for mark, name in _ENCODINGS if start.startswith(mark)), ""):
        return marked
    if len(start) < _SHORTEST_WITHOUT_MARK:
        return ""
    start = start[: 1 << 10]
    zeros = [part.count(0) / len(part) for part in (start[offset::4] for offset in range(4))]
    for order, letters in (("LE", (0, 2)), ("BE", (3, 1))):
        last = {0: (1, 2, 3), 3: (0, 1, 2)}[letters[0]]
        if zeros[letters[0]] < 0.1 and min(zeros[place] for place in last) > 0.9:
            return f"UTF-32{order}"
        others = [place for place in range(4) if place not in letters]
        if max(zeros[place] for place in letters) < 0.1 and min(zeros[place] for place in others) > 0.9:
            return f"UTF-16{order}"
    return ""
