"""store.json: what a store was made of, how its records are laid out, and once it is complete, its files.

A store is a function of what it was made of: seed, corpora, choice of rows, masking, tokenizer, teachers. The index has
all of that, corpora, tokenizer and teachers as hashes, and a run whose own is different is refused.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bertlite_jax.data.teaching.records import KINDS, Entry, Layout
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files, json_shapes, whole_files
from bertlite_jax.host.places import check_on_disk

FORMAT = 1
INDEX = "store.json"
STEPS, TOP, COMPUTE = "run.steps", "top_k", "compute"
"""Entries of `Index.of` that a run may have other values of: fewer steps, pieces of a prediction, its own precision."""
_SHAPE: dict[Any, Any] = {
    "format": int,
    "of": {STEPS: int, TOP: int, COMPUTE: str},
    "layouts": {...: [[json_shapes.ANYTHING]]},
    "files?": [{"first_step": int, "rows": int, "bytes": int}],
}


class File(NamedTuple):
    """One record file, with the rows of whole steps."""

    first_step: int
    rows: int
    bytes: int


class Index(NamedTuple):
    """The content of store.json."""

    of: dict[str, Any]
    """What the store was made of, by the names of settings; hashes for what is no setting."""
    layouts: dict[int, Layout]
    """Of the records, by the tokens of a row."""
    files: tuple[File, ...] = ()
    """All of them once the store is complete; before, none."""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return bool(self.files)


def file_name(number: int) -> str:
    """Of a record file, from 0."""
    return f"teacher-{number:05}.array_record"


def write_index(folder: pathlib.Path, index: Index) -> None:
    """Writes store.json, whole or not at all."""
    value = {
        "format": FORMAT,
        "of": index.of,
        "layouts": {str(length): [list(entry) for entry in layout] for length, layout in index.layouts.items()},
    }
    files = {"files": [file._asdict() for file in index.files]} if index.complete else {}
    whole_files.write_json(folder / INDEX, value | files)


def read_index(folder: str, job: str) -> Index:
    """The index of a store, complete or not.

    Raises:
      UserError: the folder is no store, or its index is damaged.
    """
    check_on_disk(job, folder)
    path = pathlib.Path(folder) / INDEX
    if not path.exists():
        raise UserError(f"{job}: {folder} is no store of a teacher (no {INDEX}); write one with `bertlite teach`")
    again = "write the store again"
    try:
        value = json_files.read_object(path, job)
        if value.get("format") != FORMAT:
            raise UserError(f"{job}: {path}: format {value.get('format')}, but this version reads {FORMAT}")
        json_shapes.check(value, _SHAPE, str(path), job)
    except UserError as error:
        raise UserError(f"{error}; {again}") from error
    layouts = {}
    for length, entries in value["layouts"].items():
        layout = [_entry(*entry) if len(entry) == 3 else None for entry in entries]
        if not length.isdecimal() or None in layout:
            raise UserError(f"{job}: {path}: layouts.{length} is damaged; {again}")
        layouts[int(length)] = tuple(layout)
    files = tuple(File(**file) for file in value.get("files", ()))
    if any(min(file) < 1 for file in files) or [file.first_step for file in files[:1]] not in ([], [1]):
        raise UserError(f"{job}: {path}: files is damaged; {again}")
    return Index(value["of"], layouts, files)


def _entry(name: Any, kind: Any, shape: Any) -> Entry | None:
    if not isinstance(name, str) or kind not in KINDS or not isinstance(shape, list):
        return None
    sizes = [size for size in shape if isinstance(size, int) and not isinstance(size, bool) and size > 0]
    return Entry(name, kind, tuple(sizes)) if len(sizes) == len(shape) else None


def digest(folder: str) -> str:
    """SHA-256 of store.json, by which a complete store is identified."""
    return hashlib.sha256((pathlib.Path(folder) / INDEX).read_bytes()).hexdigest()


# --- What a store was made of ----------------------------------------------------------------------------------------


def plain(of: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON gives them back, so that both sides of a comparison are alike."""
    return json.loads(json.dumps(dict(of)))


def difference(stored: Mapping[str, Any], wanted: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first of these in which a store differs from what is wanted, in words; empty if there is none."""
    for name in names:
        ours, theirs = wanted.get(name), stored.get(name)
        if ours == theirs:
            continue
        if name in HASHES:
            return f"with {HASHES[name]} (SHA-256 {_shown(theirs)}, not {_shown(ours)})"
        return f"with {name} = {_shown(theirs)}, not {_shown(ours)}"
    return ""


HASHES = {"tokenizer": "another tokenizer", "corpora": "other corpora", "teachers": "other teachers"}
"""Entries of `Index.of` that are hashes, and what is said of different ones."""


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_shown, value)) or "none"
    text = str(value)
    return text[:12] if len(text) == 64 else text
