"""Reading a store: what the teachers say of some rows of a step. Safe to call from several threads.

Letters: B rows.
"""

from __future__ import annotations

import bisect
import dataclasses
import pathlib
import threading
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from jaxtyping import Int

from bertlite_jax.data.corpus.records import READER_OPTIONS
from bertlite_jax.data.teaching import records
from bertlite_jax.data.teaching.index import Index, file_name, read_index
from bertlite_jax.errors import UserError
from bertlite_jax.host.retry import first_line, read_with_retries

_OPEN_FILES = 4
"""Steps come in order, and few threads read ahead."""


@dataclasses.dataclass(frozen=True)
class Store:
    """A complete store."""

    folder: str
    job: str
    """First word of messages."""
    index: Index
    readers: dict[int, ArrayRecordReader] = dataclasses.field(default_factory=dict, repr=False)
    """Of the files that were read last, by number."""
    lock: Any = dataclasses.field(default_factory=threading.Lock, repr=False)


def open_store(folder: str, job: str) -> Store:
    """Opens a store, and looks whether its files are there.

    Args:
      folder: that `bertlite teach` wrote.
      job: first word of messages.

    Raises:
      UserError: it is no complete store.
    """
    index = read_index(folder, job)
    if not index.complete:
        raise UserError(f"{job}: {folder} is not complete; the `bertlite teach` that began it goes on with it")
    for number, file in enumerate(index.files):
        path = pathlib.Path(folder) / file_name(number)
        if not path.is_file():
            raise UserError(f"{job}: {folder}: {path.name} is missing; the same `bertlite teach` writes it again")
        if path.stat().st_size != file.bytes:
            raise UserError(
                f"{job}: {path}: {path.stat().st_size} bytes instead of {file.bytes}; remove the file, and the same "
                "`bertlite teach` writes it again"
            )
    return Store(folder, job, index)


def read(
    store: Store,
    step: int,
    rows: Int[np.ndarray, " B"],
    length: int,
    names: Collection[str],
    rows_of: Callable[[int], int],
) -> dict[str, np.ndarray]:
    """What the teachers say of rows.

    Args:
      store: of `open_store`.
      step: from 1.
      rows: their numbers in the global batch of the step.
      length: tokens in a row.
      names: of the arrays that are wanted.
      rows_of: the rows of a step in the global batch.

    Returns:
      [B, ...] each, by name.

    Raises:
      UserError: a file is damaged.
    """
    number = bisect.bisect_right([file.first_step for file in store.index.files], step) - 1
    before = sum(map(rows_of, range(store.index.files[number].first_step, step)))
    places, path = (before + rows).tolist(), str(pathlib.Path(store.folder) / file_name(number))
    try:
        raw = read_with_retries(lambda: _read(store, number, path, places), path)
        return records.from_records(store.index.layouts[length], raw, names)
    except (ValueError, RuntimeError, IndexError, OSError) as error:
        raise UserError(
            f"{store.job}: {path}: cannot be read ({first_line(error)}); if the disk is healthy, the file is damaged: "
            "remove it, and the same `bertlite teach` writes it again"
        ) from error


def _read(store: Store, number: int, path: str, places: list[int]) -> list[bytes]:
    with store.lock:
        reader = store.readers.pop(number, None) or ArrayRecordReader(path, READER_OPTIONS)
        store.readers[number] = reader  # The last one read is the last one to go.
        if len(store.readers) > _OPEN_FILES:
            del store.readers[next(iter(store.readers))]
    try:
        return reader.read(places)
    except RuntimeError:
        with store.lock:
            store.readers.pop(number, None)  # The open file itself may have gone bad.
        raise
