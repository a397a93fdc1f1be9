"""The folder of a corpus, which is complete or absent."""

from __future__ import annotations

import contextlib
import glob
import pathlib
import shutil
import tokenize
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from bertlite_jax.config.model import SPECIAL_IDS
from bertlite_jax.data.text import object_storage
from bertlite_jax.errors import UserError
from bertlite_jax.host import folder_lock, json_files, whole_files
from bertlite_jax.host.places import short_name, writing
from bertlite_jax.host.retry import first_line, read_with_retries

FORMAT = 1
INDEX = "corpus.json"
_LOCK = ".lock"


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
        content = read_with_retries(path.read_bytes, path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"corpus: {folder} is not a finished corpus (no corpus.json); make one with `bertlite corpus`"
        ) from error
    except OSError as error:
        raise UserError(f"corpus: {path} cannot be read: {error.strerror or error}") from error
    try:
        meta = json_files.parse(content, str(path), "corpus")
    except UserError as error:
        raise UserError(f"{error}: the file is damaged; build the corpus again") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        stated = meta.get("format") if isinstance(meta, dict) else None
        raise UserError(f"corpus: {path}: format {stated}, but this version reads {FORMAT}; build the corpus again")
    if wrong := _wrong_entry(meta):
        raise UserError(f"corpus: {path}: damaged: {wrong} is missing or has a wrong value; build the corpus again")
    for name, size in meta["sizes"].items():
        file = path.with_name(name)
        if not file.is_file():
            raise UserError(f"corpus: {folder}: {name} is missing; build the corpus again")
        if file.stat().st_size != size:
            raise UserError(f"corpus: {file}: {file.stat().st_size} bytes instead of {size}; build the corpus again")
    speed = path.with_name("build.json")
    return meta | ({"build": json_files.read_object(speed, "corpus")} if speed.is_file() else {})


def _wrong_entry(meta: dict[str, Any]) -> str:
    """The first entry of corpus.json that is missing, of another type or out of its range; "" if all are right."""
    for name in ("length", "vocab_size"):
        if not _is_count(meta.get(name)):
            return name
    if not isinstance(meta.get("tokenizer_hash"), str):
        return "tokenizer_hash"
    for name in ("special_ids", "splits", "sizes"):
        if not isinstance(meta.get(name), dict):
            return name
    for name in SPECIAL_IDS:
        value = meta["special_ids"].get(name)
        if not _is_count(value) or value >= meta["vocab_size"]:
            return f"special_ids.{name}"
    for name, counts in meta["splits"].items():
        if not isinstance(counts, dict) or not all(map(_is_count, counts.values())):
            return f"splits.{name}"
    return next((f"sizes.{name}" for name, size in meta["sizes"].items() if not _is_file_size(name, size)), "")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_file_size(name: str, size: Any) -> bool:
    return _is_count(size) and pathlib.PurePath(name).name == name and len(name) < 256


def read_array(path: pathlib.Path, columns: int = 0) -> np.ndarray:
    """An array of integers that `bertlite corpus` wrote: [N], or [N, columns].

    Raises:
      UserError: the file holds something else.
    """

    def read() -> np.ndarray:
        with path.open("rb") as file:
            return np.lib.format.read_array(file)

    try:
        array = read_with_retries(read, path)
    except (ValueError, EOFError, OverflowError, SyntaxError, tokenize.TokenError) as error:
        raise UserError(f"corpus: {path}: damaged ({first_line(error)}); build the corpus again") from error
    shape = (columns,) if columns else ()
    if array.dtype.kind not in "iu" or array.ndim == 0 or array.shape[1:] != shape:
        raise UserError(f"corpus: {path}: damaged (it has another shape or type); build the corpus again")
    return array


def unigram_counts(folders: Sequence[str], split: Literal["train", "validation"]) -> Int64[np.ndarray, " V"]:
    """How often each id occurs in a split, over all these corpora.

    Raises:
      UserError: a file is damaged, or the corpora have vocabularies of different sizes.
    """
    counts = [read_array(on_disk(folder) / f"{split}.unigram.npy") for folder in folders]
    if len({len(each) for each in counts}) > 1:
        raise UserError(f"corpus: {', '.join(folders)} have vocabularies of different sizes; build them again")
    return np.sum(counts, axis=0)


def check_out(place: pathlib.Path, overwrite: bool) -> None:
    """Raises UserError unless a corpus may be written to `place`; only a corpus is ever overwritten."""
    with writing("corpus", place):
        whole_files.put_back_former(place)
        free = not place.exists() or (place.is_dir() and not any(place.iterdir()))
    if free:
        return
    if not (place / INDEX).is_file():
        raise UserError(f"corpus: {place}: exists and is not a corpus; give another folder")
    if not overwrite:
        raise UserError(f"corpus: {place}: exists; give another folder, or pass --overwrite to replace it")


@contextlib.contextmanager
def scratch_folder(place: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new folder beside `place`, removed at the end if it is still there; those of dead builds are removed first.

    Each build holds a lock file beside its folder while it lives (`host/folder_lock`).
    """
    with writing("corpus", place):
        place.parent.mkdir(parents=True, exist_ok=True)
    name = short_name(place.name)
    for lock in place.parent.glob(f".{glob.escape(name)}.tmp-*{_LOCK}"):
        with folder_lock.locked(lock) as holder:
            if holder is None:
                shutil.rmtree(lock.with_name(lock.name[1 : -len(_LOCK)]), ignore_errors=True)
    folder = place.with_name(f"{name}.tmp-{uuid.uuid4().hex[:8]}")
    with contextlib.ExitStack() as inside:
        with writing("corpus", place):
            inside.enter_context(folder_lock.locked(folder.with_name(f".{folder.name}{_LOCK}")))
            folder.mkdir()
        inside.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def move_into_place(folder: pathlib.Path, place: pathlib.Path) -> None:
    """Renames a finished folder to `place`. A corpus that lies there is replaced."""
    whole_files.put_folder(folder, place, replace=True)
