"""Writing a store file by file, so that one that is killed goes on where it stopped, with the same bytes.

Which steps a file holds follows from the sizes of their records alone. A file is written beside its place and renamed
when it is whole; the index gets its list of files last.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from bertlite_jax.data.corpus.records import READER_OPTIONS
from bertlite_jax.data.corpus.shards import WRITER_OPTIONS
from bertlite_jax.data.teaching import index, records
from bertlite_jax.errors import UserError
from bertlite_jax.host import folder_lock, whole_files
from bertlite_jax.host.places import final_place, writing

FILE_BYTES = 32 << 20
"""Bytes of records, before compression, from which on the next step opens a new file. What a kill loses is one file."""


class Part(NamedTuple):
    """The steps of one file."""

    number: int
    """Of the file, from 0."""
    first: int
    last: int
    rows: int


def parts_of(sizes: Sequence[tuple[int, int]]) -> list[Part]:
    """Which steps each file holds.

    Args:
      sizes: of each step from 1 on, its rows and the bytes of their records.
    """
    parts, first, rows, held = [], 1, 0, 0
    for step, (step_rows, step_bytes) in enumerate(sizes, start=1):
        rows, held = rows + step_rows, held + step_bytes
        if held >= FILE_BYTES or step == len(sizes):
            parts.append(Part(len(parts), first, step, rows))
            first, rows, held = step + 1, 0, 0
    return parts


@contextlib.contextmanager
def opened(out: str, made: index.Index, overwrite: bool) -> Iterator[pathlib.Path]:
    """The folder of a store of which no file, some or all are written; inside, no other job writes there.

    Args:
      out: absent, empty, or a store that was made of the same things, unless `overwrite`.
      made: without files.
      overwrite: delete a store of other things, or this one.

    Yields:
      The folder, which exists and has its index.

    Raises:
      UserError: something else lies there, or another job is at work. Then nothing is written.
    """
    place = check_place(out)
    if (place / index.INDEX).exists() and not overwrite:
        _compare(place, made)
    with contextlib.ExitStack() as inside:
        with writing("teach", place):
            place.mkdir(parents=True, exist_ok=True)
            holder = inside.enter_context(folder_lock.held(place))
        if holder:
            raise UserError(f"teach: {place} is in use by {holder}; wait until it ends, stop it, or name another --out")
        whole_files.remove_leftovers(place)
        if overwrite:
            _clear(place)
        if not (place / index.INDEX).exists():
            index.write_index(place, made)
        yield place


def check_place(out: str) -> pathlib.Path:
    """Where a store will lie. Raises UserError if something else than a store lies there."""
    place = final_place("teach", out)
    if place.exists() and not place.is_dir():
        raise UserError(f"teach: {place} is no folder; name another --out")
    if place.is_dir() and not (place / index.INDEX).exists():
        ours = (folder_lock.FILE, index.INDEX)  # A kill during the first write leaves these.
        if any((whole_files.intended_name(entry.name) or entry.name) not in ours for entry in place.iterdir()):
            raise UserError(f"teach: {place} is not empty and is no store; name a new or empty folder")
    return place


def _compare(place: pathlib.Path, made: index.Index) -> None:
    stored = index.read_index(str(place), "teach")
    wrong = index.difference(stored.of, made.of, list(made.of))
    if wrong or stored.layouts != made.layouts:
        raise UserError(
            f"teach: {place} was written {wrong or 'for other losses'}; name another --out, or pass --overwrite to "
            "write it again"
        )


def _clear(place: pathlib.Path) -> None:
    for path in sorted(place.glob("teacher-*.array_record")):
        path.unlink()
    (place / index.INDEX).unlink(missing_ok=True)


def missing(place: pathlib.Path, parts: Sequence[Part]) -> list[list[Part]]:
    """The parts that have no file yet: all behind those that are written, or what a user removed. In stretches.

    Raises:
      UserError: a file has another number of records.
    """
    stretches: list[list[Part]] = []
    for part in parts:
        path = place / index.file_name(part.number)
        if path.exists():
            reader = ArrayRecordReader(os.fspath(path), READER_OPTIONS)
            if not reader.ok() or reader.num_records() != part.rows:
                raise UserError(f"teach: {path} is damaged; remove it, and the same command writes it again")
        elif stretches and stretches[-1][-1].number == part.number - 1:
            stretches[-1].append(part)
        else:
            stretches.append([part])
    return stretches


@contextlib.contextmanager
def file_of(place: pathlib.Path, part: Part) -> Iterator[ArrayRecordWriter]:
    """A writer of the part's file, which gets its name when the block ends, and vanishes when it fails."""
    with whole_files.replacing(place / index.file_name(part.number)) as temporary:
        writer = ArrayRecordWriter(os.fspath(temporary), WRITER_OPTIONS)
        try:
            yield writer
        finally:
            writer.close()
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())


def append(writer: ArrayRecordWriter, layout: records.Layout, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the rows of a step."""
    for record in records.to_records(layout, arrays):
        writer.write(record)


def finish(place: pathlib.Path, made: index.Index, parts: Sequence[Part]) -> None:
    """Writes the list of files into the index: from here on the store is complete."""
    files = tuple(
        index.File(part.first, part.rows, (place / index.file_name(part.number)).stat().st_size) for part in parts
    )
    index.write_index(place, made._replace(files=files))
