"""Lines of bytes from files, packed or not; memory stays bounded however long a line is."""

from __future__ import annotations

import gzip
import pathlib
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import IO

import zstandard

from bertlite_jax.data.text import object_storage
from bertlite_jax.data.text.foreign import START, refuse_foreign
from bertlite_jax.errors import UserError

BLOCK = 1 << 20
"""Bytes read at a time."""


def _blocks(path: str, counts: Counter[str]) -> Iterator[bytes]:
    """The unpacked bytes of a file in blocks; `counts["position"]` follows the position in the stored file.

    Raises:
      UserError: the file cannot be read or is damaged, or is no text by its first bytes.
    """
    before = counts["position"]
    suffix = pathlib.Path(path).suffix.lower()
    try:
        with object_storage.reaching(path), object_storage.open_file(path) as raw:
            seekable = raw.seekable()  # A pipe is not, and has no position.
            stream = gzip.GzipFile(fileobj=raw) if suffix == ".gz" else raw
            blocks = _zstd_blocks(raw) if suffix == ".zst" else iter(lambda: stream.read(BLOCK), b"")
            for number, block in enumerate(blocks):
                if number == 0:
                    refuse_foreign(block[:START], path, "corpus")
                counts["bytes"] += len(block)
                counts["position"] = before + raw.tell() if seekable else counts["bytes"]
                yield block
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise UserError(f"corpus: {path}: truncated or damaged {suffix[1:]} file ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(f"corpus: {path}: cannot be read: {error.strerror or error}") from error


def _zstd_blocks(raw: IO[bytes]) -> Iterator[bytes]:
    # zstandard's own file reader ends silently where a file is cut off; its frames tell whether they ended.
    frame = None
    while data := raw.read(BLOCK >> 6):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            block = frame.decompress(data)
            data = b""
            if frame.eof:
                data, frame = frame.unused_data, None
            if block:
                yield block
    if frame is not None:
        raise EOFError("it ends inside a frame")


def read_lines(path: str, limit: int, counts: Counter[str], refuse_long: bool = False) -> Iterator[tuple[int, bytes]]:
    """(number of the line from 1, its bytes without the line feed); one longer than `limit` bytes comes in parts.

    Where such a line is cut does not depend on how the file was read. `.gz` and `.zst` are unpacked.

    Args:
      path: the file.
      limit: bytes.
      counts: `bytes`, `position` and `long_lines` are added to (see `documents.read_documents`).
      refuse_long: refuse long lines instead.

    Raises:
      UserError: the file cannot be read or is damaged, or a line is too long.
    """
    number, rest, is_long = 1, b"", False
    for block in _blocks(path, counts):
        pieces = (rest + block).split(b"\n")[::-1]
        # Nothing here holds on to a line that was handed out: it may be large.
        while len(pieces) > 1 or len(pieces[0]) > limit:
            if len(pieces[-1]) <= limit:
                yield number, pieces.pop()
                number, is_long = number + 1, False
                continue
            if refuse_long:
                size = f"longer than {limit >> 20} MB"
                raise UserError(f"corpus: {path}:{number}: {size}; write one document a line")
            counts["long_lines"] += not is_long
            is_long = True
            line = pieces.pop()
            cut = _cut_place(line, limit)
            pieces.append(line[cut:])
            yield number, line[:cut]
        rest = pieces.pop()
    if rest:
        yield number, rest


def _cut_place(line: bytes, limit: int) -> int:
    """Behind the last space before `limit`; where there is none, before the character that would not fit."""
    cut = line.rfind(b" ", limit // 2, limit) + 1
    if cut:
        return cut
    cut = limit
    while cut > limit - 4 and line[cut] & 0xC0 == 0x80:  # a byte inside a character
        cut -= 1
    return cut
