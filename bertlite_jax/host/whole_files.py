"""Output folders and files that are either complete or absent."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import safetensors

from bertlite_jax.errors import UserError
from bertlite_jax.host.places import writing

# Only a write meets these: a full disk, a quota, a limit on the size of files, a read-only file system.
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# A read meets these too, so that the file's name has to tell which it was.
_PLACE_ERRORS = (errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG)


@contextlib.contextmanager
def new_folder(out: os.PathLike[str] | str, overwrite: bool, mark: str) -> Iterator[pathlib.Path]:
    """A temporary folder beside `out` that takes its place when the block ends, and vanishes when it fails.

    Args:
      out: must not exist or be empty, unless `overwrite`.
      overwrite: replaces a folder that holds the file `mark`; any other folder is kept, as it is no earlier output.
      mark: file that tells an earlier output from a folder of something else.

    Raises:
      UserError: `out` is in the way, cannot be made, or there is no room for what the block writes.
    """
    out = pathlib.Path(os.path.abspath(out))
    in_the_way = out.exists() and not (out.is_dir() and not any(out.iterdir()))
    if in_the_way and not overwrite:
        raise UserError(f"convert: {out} exists; pass --overwrite to replace it, or name another folder")
    if in_the_way and not (out / mark).is_file():
        raise UserError(f"convert: {out} has no {mark}, so it is no earlier output and is not replaced; name another")
    temporary = out.parent / f".{out.name}.partial-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    with writing("convert", out):
        temporary.mkdir(parents=True)
    try:
        with output_errors(out, temporary):
            yield temporary
            for path in temporary.rglob("*"):
                _readable(path, temporary.stat().st_mode)
            if in_the_way:
                _exchange(temporary, out)
            else:
                os.rename(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _readable(path: pathlib.Path, mode: int) -> None:
    """Gives a file the permissions that new files have here: safetensors makes its own for the owner alone."""
    if path.is_file() and not path.is_symlink():
        path.chmod(path.stat().st_mode | mode & 0o666)


def _exchange(temporary: pathlib.Path, out: pathlib.Path) -> None:
    """Puts `temporary` where the folder `out` is; that comes back where it fails."""
    former = out.parent / f".{out.name}.former-{os.getpid()}"
    os.rename(out, former)
    try:
        os.rename(temporary, out)
    except OSError:
        os.rename(former, out)
        raise
    shutil.rmtree(former)


@contextlib.contextmanager
def new_file(out: os.PathLike[str] | str, overwrite: bool) -> Iterator[pathlib.Path]:
    """A temporary path beside the file `out` that takes its place when the block ends, and vanishes when it fails."""
    out = pathlib.Path(os.path.abspath(out))
    if out.exists() and not overwrite:
        raise UserError(f"convert: {out} exists; pass --overwrite to replace it, or name another folder")
    temporary = out.parent / f".{out.name}.partial-{os.getpid()}"
    with writing("convert", out):
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
    try:
        with output_errors(out, temporary):
            yield temporary
            _readable(temporary, mode)
            os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def output_errors(out: pathlib.Path, temporary: pathlib.Path) -> Iterator[None]:
    """Around the calls that fill `temporary`: what keeps them from writing is named in one line.

    A full disk, a quota and the like are the output's, whichever call met them, since no read does. A refused
    permission is the output's only where the file is `temporary` or lies in it; any other error passes, and so does
    every error of an input.

    Raises:
      UserError: names `out` and the reason.
    """
    try:
        yield
    except (OSError, safetensors.SafetensorError) as error:
        number = _write_error(error, str(temporary))
        if number is None:
            raise
        raise UserError(
            f"convert: {out} cannot be written: {os.strerror(number)}; nothing of it is left. Make room or name "
            "another place"
        ) from error


def _write_error(error: Exception, temporary: str) -> int | None:
    """The error number of a failed write into `temporary`; None where the error is about something else."""
    if isinstance(error, OSError) and error.errno is not None:
        inside = any(str(name or "").startswith(temporary) for name in (error.filename, error.filename2))
        known = _WRITE_ERRORS + _PLACE_ERRORS if inside else _WRITE_ERRORS
        return error.errno if error.errno in known else None
    # Rust's writer of safetensors says "(os error 28)", and copytree gathers lines with "[Errno 28]".
    numbers = {int(found) for found in re.findall(r"(?:os error |\[Errno )(\d+)", str(error))}
    return next((number for number in _WRITE_ERRORS if number in numbers), None)


def write_json(path: pathlib.Path, values: dict[str, Any]) -> None:
    """Writes `values` as indented JSON, as transformers does."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
