"""Files and folders that are either complete or absent.

Everything is written under another name beside its place and renamed when it is complete. What a kill leaves is hidden,
and `intended_name` recognises it (NAME is that of the place; of a very long one, its `places.short_name`):

* `.NAME.<12 hex digits>.tmp`: a file or folder that was being written, or a folder that was replaced.
* `.NAME.removed.tmp`: a folder that was being removed.
* `.NAME.<12 hex digits>.former.tmp`: the whole folder that was about to be replaced. Where `NAME` is missing, it is the
  only copy: nothing deletes it, and `put_back_former` gives it its name again before the next write.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
import uuid
from collections.abc import Collection, Iterator
from typing import Any

from bertlite_jax.errors import UserError
from bertlite_jax.host import refusals
from bertlite_jax.host.places import final_place, short_name, writing

# A read meets these too, unlike those of a full disk, so that the file's name has to tell which it was.
_PLACE_ERRORS = (errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG)

# --- Whatever is in the way is replaced, and errors pass as they are -------------------------------------------------


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as strict JSON in UTF-8, indented by 2.

    Half a surrogate pair, as in a file name that is not UTF-8, becomes an escape.

    Raises:
      ValueError: `value` has a NaN or infinity, which JSON cannot say; use None.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file and waits until the disk has it."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A temporary path beside the file `path` that takes its place when the block ends, and vanishes when it fails."""
    temporary = temporary_beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_beside(place: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A new folder beside `place`; removed when the block ends, unless it was renamed (`put_folder`)."""
    temporary = temporary_beside(place)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_folder(folder: pathlib.Path, place: pathlib.Path, replace: bool = False) -> None:
    """Renames a finished folder to `place`.

    Args:
      folder: on the same disk as `place`.
      place: absent or an empty folder, unless `replace`.
      replace: what lies at `place` goes once `folder` has its name, and comes back where the rename fails. After a
        kill between the two renames, `put_back_former` finds it.

    Raises:
      OSError: something is in the way; `folder` is where it was.
    """
    if not (replace and place.exists()):
        os.rename(folder, place)
        return
    former = temporary_beside(place, ".former")
    os.rename(place, former)
    try:
        os.rename(folder, place)
    except OSError:
        os.rename(former, place)
        raise
    # First the name that says "whole" goes: what a kill leaves half removed must not be put back.
    doomed = temporary_beside(place)
    os.rename(former, doomed)
    if doomed.is_symlink():
        doomed.unlink()
    else:
        shutil.rmtree(doomed, ignore_errors=True)


def put_back_former(place: pathlib.Path) -> None:
    """Gives a folder its name again if `put_folder` was killed while it replaced it. For the start of a write."""
    if os.path.lexists(place) or not place.parent.is_dir():
        return
    name = short_name(place.name)
    former = [path for path in place.parent.iterdir() if _is_former(path.name) and intended_name(path.name) == name]
    if former:
        os.rename(max(former, key=lambda path: path.lstat().st_mtime), place)


def remove_folder(folder: pathlib.Path) -> None:
    """Removes a folder that is never seen half removed, with what a killed call left of an earlier one."""
    doomed = folder.with_name(f".{short_name(folder.name)}.removed.tmp")
    if doomed.exists():
        shutil.rmtree(doomed)
    os.rename(folder, doomed)
    shutil.rmtree(doomed)


def remove_leftovers(folder: pathlib.Path, names: Collection[str] | None = None) -> None:
    """Removes what killed calls left in `folder`; a folder that was to be replaced stays while it is the only copy.

    Args:
      folder: exists.
      names: what the caller, and nobody else at this time, writes there; None: everything.
    """
    entries = list(folder.iterdir())
    whole = {short_name(entry.name) for entry in entries}
    wanted = None if names is None else {short_name(name) for name in names}
    for entry in entries:
        name = intended_name(entry.name)
        if name is None or (wanted is not None and name not in wanted):
            continue
        if _is_former(entry.name) and name not in whole:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def sha256_of(path: str | os.PathLike[str]) -> str:
    """What is written down beside a file, so that a reader sees whether it has all of it, as it was written."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary_beside(place: str | os.PathLike[str], kind: str = "") -> pathlib.Path:
    """A name that no other process or host uses, in the folder of `place`; `kind` stands before its `.tmp`."""
    place = pathlib.Path(place)
    return place.with_name(f".{short_name(place.name)}.{uuid.uuid4().hex[:12]}{kind}.tmp")


def intended_name(name: str) -> str | None:
    """The `short_name` of what a temporary file or folder was to become; None for a name that is not of our making."""
    match = re.fullmatch(r"\.(.+)\.(?:[0-9a-f]{12}(?:\.former)?|removed)\.tmp", name)
    return match[1] if match else None


def _is_former(name: str) -> bool:
    return name.endswith(".former.tmp") and intended_name(name) is not None


# --- Outputs that a user names: nothing is replaced unasked, and what goes wrong is told in one line -----------------


@contextlib.contextmanager
def new_folder(out: os.PathLike[str] | str, overwrite: bool, mark: str, job: str = "convert") -> Iterator[pathlib.Path]:
    """A temporary folder beside `out` that takes its place when the block ends, and vanishes when it fails.

    Args:
      out: must not exist or be empty, unless `overwrite`.
      overwrite: replace a folder that holds the file `mark`. Any other folder stays, as it is no earlier output.
      mark: file that tells an earlier output from a folder of something else.
      job: first word of the error messages.

    Raises:
      UserError: `out` is in the way, cannot be made, or there is no room for what the block writes.
    """
    out = final_place(job, out)
    with writing(job, out):
        put_back_former(out)
    in_the_way = out.exists() and not (out.is_dir() and not any(out.iterdir()))
    if in_the_way and not overwrite:
        raise UserError(f"{job}: {out} exists; pass --overwrite to replace it, or name another folder")
    if in_the_way and not (out / mark).is_file():
        raise UserError(f"{job}: {out} has no {mark}, so it is no earlier output and is not replaced; name another")
    with contextlib.ExitStack() as stack:
        with writing(job, out):
            temporary = stack.enter_context(folder_beside(out))
        with output_errors(out, temporary, job):
            yield temporary
            for path in temporary.rglob("*"):
                _readable(path, temporary.stat().st_mode)
            put_folder(temporary, out, replace=in_the_way)


@contextlib.contextmanager
def new_file(out: os.PathLike[str] | str, overwrite: bool, job: str = "convert") -> Iterator[pathlib.Path]:
    """A temporary path beside the file `out` that takes its place when the block ends, and vanishes when it fails.

    Args:
      out: must not exist, unless `overwrite`; its parents are made.
      overwrite: replace the file.
      job: first word of the error messages.

    Raises:
      UserError: `out` exists, is a folder, cannot be made, or there is no room for what the block writes.
    """
    out = final_place(job, out)
    check_no_folder(out, job)
    if out.exists() and not overwrite:
        raise UserError(f"{job}: {out} exists; pass --overwrite to replace it, or name another file")
    with contextlib.ExitStack() as stack:
        with writing(job, out):
            out.parent.mkdir(parents=True, exist_ok=True)
            temporary = temporary_beside(out)
            temporary.touch()
            mode = temporary.stat().st_mode
        stack.callback(temporary.unlink, missing_ok=True)
        with output_errors(out, temporary, job):
            yield temporary
            _readable(temporary, mode)
            os.replace(temporary, out)


def check_no_folder(out: pathlib.Path, job: str = "convert") -> None:
    """Raises UserError where a file is to be written and a folder, a pipe or a device such as /dev/null lies.

    So it does where a file stands in the place of a folder above.
    """
    if out.is_dir():
        raise UserError(f"{job}: {out} is a folder and is not replaced; name a file")
    if out.exists() and not out.is_file():
        raise UserError(f"{job}: {out} is a pipe or a device and is not replaced; name a file")
    above = next((folder for folder in out.absolute().parents if folder.exists()), None)
    if above is not None and not above.is_dir():
        raise UserError(f"{job}: {out} cannot be written: {above} is no folder; name another place")


def _readable(path: pathlib.Path, mode: int) -> None:
    """Gives a file the permissions that new files have here: safetensors makes its own for the owner alone."""
    if path.is_file() and not path.is_symlink():
        path.chmod(path.stat().st_mode | mode & 0o666)


@contextlib.contextmanager
def output_errors(out: pathlib.Path, temporary: pathlib.Path, job: str = "convert") -> Iterator[None]:
    """Around the calls that fill `temporary`: an error that keeps them from writing becomes one line.

    A full disk, a quota and the like concern the output, whichever call raised them, since no read does. A refused
    permission concerns it only where the file is `temporary` or lies in it. All other errors pass unchanged, and so
    do those of an input.

    Raises:
      UserError: names `out` and the reason.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = _write_error(error, str(temporary))
        if number is None:
            raise
        raise UserError(
            f"{job}: {out} cannot be written: {os.strerror(number)}; nothing of it is left. Make room or name "
            "another place"
        ) from error


def _write_error(error: Exception, temporary: str) -> int | None:
    """The error number of a failed write into `temporary`; None where the error is about something else."""
    number = refusals.error_number(error)
    if number in refusals.NO_ROOM:
        return number
    names = (error.filename, error.filename2) if isinstance(error, OSError) else ()
    inside = any(str(name or "").startswith(temporary) for name in names)
    return number if inside and number in _PLACE_ERRORS else None
