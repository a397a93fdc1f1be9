"""Whether a step's folder is as it was written: `SHA256SUMS` beside its items, written once the step is committed."""

from __future__ import annotations

import concurrent.futures
import errno
import json
import os
import pathlib
from typing import Any

from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files

ITEMS = ("params", "opt", "meta")
"""What each checkpoint holds."""
SUMS = "SHA256SUMS"
"""The file that seals a step. It lists every other file of its folder; `sha256sum -c SHA256SUMS` reads it."""
UNSEALED = f"no {SUMS}; the run was stopped before the write was finished"
"""What is wrong with a step that has no such file."""
_NOT_NOW = (
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH),
)
"""Errors that say nothing about the file."""


def sums_of(step_folder: pathlib.Path) -> dict[str, str]:
    """{file: SHA-256} of every file of a step that is not sealed yet."""
    files = _files(step_folder)
    return dict(zip(files, _digests(step_folder, files), strict=True))


def write_sums(step_folder: pathlib.Path, sums: dict[str, str]) -> None:
    """Seals a step: its sums appear whole, with one rename.

    Raises:
      ValueError: the step no longer has the files that were summed up.
    """
    if changed := sorted(sums.keys() ^ set(_files(step_folder))):
        raise ValueError(f"{changed[0]} has come or gone since it was read")
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    whole_files.write_text(step_folder / SUMS, text)
    descriptor = os.open(step_folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_sealed(step_folder: pathlib.Path) -> bool:
    """Whether the sums are there; they are not compared."""
    return (step_folder / SUMS).is_file()


def damage(step_folder: pathlib.Path) -> str | None:
    """What is wrong with a step's folder, in a few words; None for nothing. Reads every file of it.

    Raises:
      UserError: that cannot be told, because of permissions or a network disk.
    """
    try:
        files = _files(step_folder)
        for item in ITEMS:
            if not any(name.startswith(f"{item}/") for name in files):
                return f"no {item}"
        if not is_sealed(step_folder):
            return UNSEALED
        listed = _read_sums(step_folder / SUMS)
        if lost := sorted(listed.keys() - set(files)):
            return f"{lost[0]} is missing"
        if added := sorted(set(files) - listed.keys()):
            return f"{added[0]} is not listed in {SUMS}"
        for name, digest in zip(files, _digests(step_folder, files), strict=True):
            if listed[name] != digest:
                return f"{name}: SHA-256 differs"
        stated = _stated_step(step_folder)
        if stated is not None and str(stated) != step_folder.name:
            return f"it holds step {stated}; its folder was copied or renamed"
    except OSError as error:
        if error.errno in _NOT_NOW:
            raise UserError(
                f"checkpoint: {error.filename or step_folder} cannot be read: {error.strerror}; it may be whole"
            ) from error
        # A bad disk: the file is as good as lost.
        return f"{error.filename or step_folder}: {error.strerror}"
    return None


def steps_in(folder: pathlib.Path) -> list[int]:
    """All folders that look like a step, ascending, damaged or not; [] where `folder` does not exist."""
    if not folder.is_dir():
        return []
    names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal() and str(int(name)) == name)


def newest_whole(folder: pathlib.Path) -> tuple[int | None, list[tuple[int, str]]]:
    """The newest step without damage (None: there is none), and the newer ones with their damage, newest first."""
    damaged = []
    for step in reversed(steps_in(folder)):
        problem = damage(folder / str(step))
        if problem is None:
            return step, damaged
        damaged.append((step, problem))
    return None, damaged


def read_meta(step_folder: pathlib.Path) -> Any:
    """What `save` was given beside the arrays."""
    return json.loads((step_folder / "meta" / "metadata").read_bytes())


def _stated_step(step_folder: pathlib.Path) -> int | None:
    """The step that the meta data of a whole folder states; None where they state none."""
    meta = read_meta(step_folder)
    return meta.get("step") if isinstance(meta, dict) else None


def _read_sums(path: pathlib.Path) -> dict[str, str]:
    """{file: SHA-256}. A broken line gives a name that no file has, or leaves one out; `damage` finds either."""
    lines = path.read_bytes().decode("utf-8", errors="backslashreplace").split("\n")
    complete = lines[:-1]  # What follows the last line break is empty, or a line that was cut off.
    return {name: digest for digest, _, name in (line.partition("  ") for line in complete)}


def _files(step_folder: pathlib.Path) -> list[str]:
    """Every file below a step's folder as sorted relative names, without SHA256SUMS and its temporary file."""

    def refuse(error: OSError) -> None:  # A folder that may not be read is not an empty one.
        if error.errno != errno.ENOENT:
            raise error

    walked = os.walk(step_folder, onerror=refuse)
    names = (
        pathlib.Path(folder, file).relative_to(step_folder).as_posix() for folder, _, files in walked for file in files
    )
    return sorted(name for name in names if SUMS not in (name, whole_files.intended_name(name)))


def _digests(step_folder: pathlib.Path, files: list[str]) -> list[str]:
    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:  # Hashing releases the interpreter's lock.
        return list(pool.map(whole_files.sha256_of, (step_folder / name for name in files)))
