"""Output folders and files that are either complete or absent."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from bertlite_jax.config import UserError, writing


@contextlib.contextmanager
def new_folder(out: os.PathLike[str] | str, overwrite: bool, mark: str) -> Iterator[pathlib.Path]:
    """A temporary folder beside `out` that takes its place when the block ends, and vanishes when it fails.

    Args:
      out: must not exist or be empty, unless `overwrite`.
      overwrite: replaces a folder that holds the file `mark`; any other folder is kept, as it is no earlier output.
      mark: file that tells an earlier output from a folder of something else.

    Raises:
      UserError: `out` is in the way, or cannot be made.
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
        yield temporary
        if in_the_way:
            former = out.parent / f".{out.name}.former-{os.getpid()}"
            os.rename(out, former)
            os.rename(temporary, out)
            shutil.rmtree(former)
        else:
            os.rename(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
    try:
        yield temporary
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: pathlib.Path, values: dict[str, Any]) -> None:
    """Writes `values` as indented JSON, as transformers does."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
