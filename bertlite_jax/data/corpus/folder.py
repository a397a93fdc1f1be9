"""The folder of a corpus, which is complete or absent."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import glob
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from bertlite_jax.data.text import object_storage
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.host.places import writing
from bertlite_jax.host.retry import read_with_retries

FORMAT = 1
INDEX = "corpus.json"


def on_disk(folder: str) -> pathlib.Path:
    """The folder, or its copy where it lies in object storage (`object_storage.local_folder`)."""
    return object_storage.local_folder(folder, INDEX)


def read_meta(folder: str) -> dict[str, Any]:
    """corpus.json of a complete corpus, with the content of build.json under `build` if there is one.

    Raises:
      UserError: the folder is not a corpus, has another format, or lacks (part of) a file.
    """
    path = on_disk(folder) / INDEX
    try:
        meta = json.loads(read_with_retries(lambda: path.read_text(encoding="utf-8"), path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"corpus: {folder} is not a finished corpus (no corpus.json); make one with `bertlite corpus`"
        ) from error
    except ValueError as error:
        raise UserError(f"corpus: {path}: damaged ({error}); build the corpus again") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        stated = meta.get("format") if isinstance(meta, dict) else None
        raise UserError(f"corpus: {path}: format {stated}, but this version reads {FORMAT}; build the corpus again")
    for name, size in meta["sizes"].items():
        file = path.with_name(name)
        if not file.is_file():
            raise UserError(f"corpus: {folder}: {name} is missing; build the corpus again")
        if file.stat().st_size != size:
            raise UserError(f"corpus: {file}: {file.stat().st_size} bytes instead of {size}; build the corpus again")
    speed = path.with_name("build.json")
    return meta | ({"build": json.loads(speed.read_text(encoding="utf-8"))} if speed.is_file() else {})


def unigram_counts(folders: Sequence[str], split: Literal["train", "validation"]) -> Int64[np.ndarray, " V"]:
    """How often each id occurs in a split, over all these corpora."""
    files = [on_disk(folder) / f"{split}.unigram.npy" for folder in folders]
    return np.sum([read_with_retries(functools.partial(np.load, file), file) for file in files], axis=0)


def check_out(place: pathlib.Path, overwrite: bool) -> None:
    """Raises UserError unless a corpus may be written to `place`; only a corpus is ever overwritten."""
    with writing("corpus", place):
        whole_files.put_back_former(place)
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not (place / "corpus.json").is_file():
        raise UserError(f"corpus: {place}: exists and is not a corpus; give another folder")
    if not overwrite:
        raise UserError(f"corpus: {place}: exists; give another folder, or pass --overwrite to replace it")


@contextlib.contextmanager
def scratch_folder(place: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new folder beside `place`, removed at the end if it is still there; those of dead builds are removed first.

    A live build holds a lock on its folder, which the system releases when the process ends, however it ends.
    """
    with writing("corpus", place):
        place.parent.mkdir(parents=True, exist_ok=True)
    for stale in place.parent.glob(f"{glob.escape(place.name)}.tmp-*"):
        with _locked(stale) as mine:
            if mine:
                shutil.rmtree(stale, ignore_errors=True)
    with writing("corpus", place):
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{place.name}.tmp-", dir=place.parent))
    with _locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[bool]:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # another build was faster
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except BlockingIOError:
            mine = False
        yield mine
    finally:
        os.close(handle)


def move_into_place(folder: pathlib.Path, place: pathlib.Path) -> None:
    """Renames a finished folder to `place`. A corpus that lies there is replaced."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)  # mkdtemp makes folders that only their owner can read
    whole_files.put_folder(folder, place, replace=True)
