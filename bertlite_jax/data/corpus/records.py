"""Windows read from a corpus folder, many at a time.

TFDS's own decoding makes 12,600 windows a second on one core. A batched read of ArrayRecord and one pass over the wire
format for the whole batch cost a few microseconds a window, so that one core feeds several million tokens a second.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import resource

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from bertlite_jax.data.corpus.boundaries import Windows
from bertlite_jax.errors import UserError
from bertlite_jax.host.retry import first_line, read_with_retries

READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:1"
"""For random access, where reading ahead would fetch records that are not needed."""
SPARE_FILES = 512
"""Open files that a job may need beside its corpora."""
FEATURES = ("document", "sentence_ends", "tokens", "word_starts")
"""In the order of a deterministic serialisation."""


@dataclasses.dataclass(frozen=True)
class Records:
    """The record files of one split of a corpus; safe to read from several threads."""

    folder: str
    split: str
    files: tuple[str, ...]
    readers: list[ArrayRecordReader]
    """One a file. One that failed is replaced by a new one."""
    starts: np.ndarray
    """[shards + 1] int64: number of the first record of each file."""
    token_type: str
    """`<u2` or `<u4`."""


def open_records(folder: str, split: str, vocab_size: int) -> Records:
    """Opens the files CORPUS/*-SPLIT.array_record-* .

    Raises:
      UserError: there are none, one is missing, or one cannot be opened.
    """
    pattern = re.compile(rf".*-{split}\.array_record-(\d+)(-of-(\d+))?")
    paths = {}
    for path in pathlib.Path(folder).iterdir():
        if match := pattern.fullmatch(path.name):
            paths[int(match[1])] = path
    if not paths:
        raise UserError(f"corpus: {folder}: has no records of the split {split}; build it again with `bertlite corpus`")
    if missing := set(range(max(paths) + 1)) - set(paths):
        raise UserError(f"corpus: {folder}: record file {min(missing)} of the split {split} is missing; build it again")
    files = tuple(str(paths[index]) for index in sorted(paths))
    _allow_open_files(folder, len(files))
    readers = []
    for file in files:
        try:
            readers.append(read_with_retries(lambda file=file: _open(file), file))
        except (ValueError, RuntimeError) as error:
            raise UserError(f"corpus: {file}: cannot be read ({first_line(error)}); build it again") from error
    starts = np.cumsum([0, *(reader.num_records() for reader in readers)], dtype=np.int64)
    return Records(str(folder), split, files, readers, starts, "<u2" if vocab_size <= 65_536 else "<u4")


def _allow_open_files(folder: str, count: int) -> None:
    """Every record file stays open, and many systems allow 1,024 open files unless a process asks for more."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")) + count + SPARE_FILES
    if allowed == resource.RLIM_INFINITY or wanted <= allowed:
        return
    if most != resource.RLIM_INFINITY and wanted > most:
        raise UserError(
            f"corpus: {folder} has {count} record files, which stay open, and this system allows a process {most} open "
            f"files; allow {wanted} (`ulimit -Hn`)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _open(file: str) -> ArrayRecordReader:
    reader = ArrayRecordReader(file, READER_OPTIONS)
    if not reader.ok():
        reader.read([0])  # Opening never fails; the first read says what is wrong.
    return reader


def read_windows(records: Records, numbers: np.ndarray) -> Windows:
    """Reads the windows with these numbers, in the given order.

    Args:
      records: from `open_records`.
      numbers: [W] integers in 0..windows - 1, repetitions allowed.

    Raises:
      UserError: a record cannot be read or is not what `bertlite corpus` writes.
    """
    return parse(_raw_records(records, numbers), records, numbers)


def _raw_records(records: Records, numbers: np.ndarray) -> list[bytes]:
    shards = np.searchsorted(records.starts, numbers, side="right") - 1
    raw: list[bytes] = [b""] * len(numbers)
    for shard in np.unique(shards).tolist():
        where = np.flatnonzero(shards == shard)
        of_shard = _read(records, shard, (numbers[where] - records.starts[shard]).tolist())
        for index, record in zip(where.tolist(), of_shard, strict=True):
            raw[index] = record
    return raw


def _read(records: Records, shard: int, places: list[int]) -> list[bytes]:
    """The records at these places of one file."""
    file = records.files[shard]

    def read() -> list[bytes]:
        try:
            return records.readers[shard].read(places)
        except RuntimeError:
            records.readers[shard] = _open(file)  # The open file itself may have gone bad.
            raise

    try:
        return read_with_retries(read, file)
    except (ValueError, RuntimeError, IndexError, OSError) as error:
        raise UserError(
            f"corpus: {file}: cannot be read ({first_line(error)}); if the disk is healthy, the file is damaged: build "
            "the corpus again"
        ) from error


# --- The wire format of tf.train.Example ---------------------------------------------------------------------------
#
# Example { 1: Features { 1 (repeated): entry { 1: key, 2: Feature { 1: BytesList { 1: bytes }
#                                                                | 3: Int64List { 1: packed varints } } } } }
# All records have the same entries in the same order, so one position a record walks through all of them at once.


class _Damaged(Exception):
    """The number of a record that is not one of ours."""

    def __init__(self, index: int):
        super().__init__(index)
        self.index = index


def parse(raw: list[bytes], records: Records, numbers: np.ndarray) -> Windows:
    """Serialised `tf.train.Example`s of the corpus's four features as windows.

    Raises:
      UserError: a record is something else; names the first.
    """
    try:
        return _parse(raw, records.token_type)
    except _Damaged as error:
        raise UserError(
            f"corpus: {records.folder}: window {int(numbers[error.index])} of the split {records.split} is damaged or "
            "of another format; build the corpus again"
        ) from error


def _parse(raw: list[bytes], token_type: str) -> Windows:
    sizes = np.fromiter(map(len, raw), np.int64, len(raw))
    ends = np.cumsum(sizes)
    joined = b"".join(raw) + bytes(64)  # so that a truncated record is read beyond its end, not beyond the buffer
    buffer = np.frombuffer(joined, np.uint8)
    at, length = _message(buffer, ends - sizes, 0x0A)
    _check(at + length == ends)
    fields = {}
    for name in FEATURES:
        at, entry = _message(buffer, at, 0x0A)
        after = at + entry
        at, size = _message(buffer, at, 0x0A)
        key = np.frombuffer(name.encode(), np.uint8)
        _check((size == key.size) & (after <= ends))
        _check((buffer[at[:, None] + np.arange(key.size)] == key).all(axis=1))
        at, _ = _message(buffer, at + key.size, 0x12)
        at, size = _message(buffer, at, 0x1A if name == "document" else 0x0A)
        at, size = _message(buffer, at, 0x0A)
        _check((at + size == after) | (at == after))
        fields[name] = (at, np.where(at < after, size, 0))
        at = after
    _check(at == ends)
    documents, after = _varint(buffer, fields["document"][0])
    tokens, offsets = _column(joined, fields["tokens"], token_type)
    ends, end_offsets = _column(joined, fields["sentence_ends"], "<u2")
    bits, byte_offsets = _column(joined, fields["word_starts"], "u1")
    counts = np.diff(offsets)
    _check(np.diff(byte_offsets) == (counts + 7) // 8)
    # A window's bits begin at a byte, so up to seven of them lie between two windows.
    where = np.arange(offsets[-1]) + np.repeat(8 * byte_offsets[:-1] - offsets[:-1], counts)
    word_starts = np.unpackbits(bits, bitorder="little")[where].astype(bool)
    limits = np.repeat(counts, np.diff(end_offsets))
    _check(np.bincount(np.repeat(np.arange(len(raw)), np.diff(end_offsets))[ends > limits], minlength=len(raw)) == 0)
    return Windows(
        tokens=tokens.astype(np.int32),
        word_starts=word_starts,
        offsets=offsets,
        ends=ends.astype(np.int64),
        end_offsets=end_offsets,
        documents=documents,
    )


def _check(good: np.ndarray) -> None:
    """good: [W] bool. Raises for the first record where it is not."""
    if not good.all():
        raise _Damaged(int(np.flatnonzero(~good)[0]))


def _message(buffer: np.ndarray, at: np.ndarray, tag: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads a tag of one byte and a length: (start of the content [W], its length [W])."""
    _check((at >= 0) & (at < buffer.size - 32))
    _check(buffer[at] == tag)
    length, at = _varint(buffer, at + 1)
    _check(at + length <= buffer.size - 64)
    return at, length


def _varint(buffer: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Base-128 numbers at [W]: (values [W] int64, positions behind them [W])."""
    byte = buffer[at].astype(np.int64)
    value, at, more = byte & 0x7F, at + 1, byte >= 0x80
    shift = 7
    while more.any():
        if shift > 56:
            raise _Damaged(int(np.flatnonzero(more)[0]))
        byte = np.where(more, buffer[np.where(more, at, 0)], 0).astype(np.int64)
        value, at, more = value | (byte & 0x7F) << shift, at + more, byte >= 0x80
        shift += 7
    return value, at


def _column(joined: bytes, field: tuple[np.ndarray, np.ndarray], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The W byte strings at (start [W], bytes [W]) as one array of `kind`: (values, offsets [W + 1])."""
    at, size = field
    width = np.dtype(kind).itemsize
    _check(size % width == 0)
    values = b"".join([joined[a:b] for a, b in zip(at.tolist(), (at + size).tolist(), strict=True)])
    return np.frombuffer(values, kind), np.concatenate([[0], np.cumsum(size // width)])
