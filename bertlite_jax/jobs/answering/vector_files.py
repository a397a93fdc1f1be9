"""Files of vectors, written bit by bit, complete or absent: .npy and JSON lines."""

from __future__ import annotations

import contextlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import numpy as np

from bertlite_jax.errors import UserError
from bertlite_jax.host.whole_files import new_file

Write = Callable[[Sequence[str], Sequence[np.ndarray], Sequence[np.ndarray]], None]
"""(ids, vectors [D] or [tokens, D] each, token ids of each) of the next texts."""
Pieces = Callable[[np.ndarray], list[str]]


def tokens_beside(out: pathlib.Path) -> pathlib.Path:
    """`vectors.npy` -> `vectors.tokens.npz`: `ids` [T] int32 and `offsets` [texts + 1] int64, both into its rows."""
    return out.with_name(f"{out.stem}.tokens.npz")


def check(out: str, overwrite: bool) -> None:
    """Raises UserError for a name that says no format, or a file that is there."""
    if out == "-":
        return
    if pathlib.Path(out).suffix not in (".npy", ".jsonl"):
        raise UserError(f"embed: --out {out} should end in .npy or .jsonl, or be - for JSON lines on standard output")
    if pathlib.Path(out).exists() and not overwrite:
        raise UserError(f"embed: {out} exists; pass --overwrite to replace it, or name another file")


@contextlib.contextmanager
def opened(out: str, per_token: bool, width: int, pieces: Pieces, overwrite: bool) -> Iterator[Write]:
    """A file that takes vectors until the block ends, and is not there where it fails.

    Args:
      out: as `check` lets pass.
      per_token: the vectors of a text are [tokens, D].
      width: D.
      pieces: of the tokenizer, for JSON lines of tokens.
      overwrite: replace the file.
    """
    path = pathlib.Path(out)
    if out == "-":
        yield _json_writer(sys.stdout, per_token, pieces)
    elif path.suffix == ".jsonl":
        with new_file(path, overwrite, job="embed") as fresh, fresh.open("w", encoding="utf-8") as file:
            yield _json_writer(file, per_token, pieces)
    elif not per_token:
        with new_file(path, overwrite, job="embed") as fresh, _npy(fresh, width) as add:
            yield lambda ids, values, tokens: add(np.stack(values))
    else:
        sizes: list[int] = []
        held: list[np.ndarray] = []
        tokens_path = tokens_beside(path)
        with new_file(path, overwrite, job="embed") as fresh, new_file(tokens_path, overwrite, job="embed") as beside:
            with _npy(fresh, width) as add:

                def write(ids: Sequence[str], values: Sequence[np.ndarray], tokens: Sequence[np.ndarray]) -> None:
                    sizes.extend(map(len, tokens))
                    held.extend(tokens)  # 4 bytes a token; its vector has thousands.
                    add(np.concatenate(values))

                yield write
            with beside.open("wb") as file:
                np.savez(file, ids=np.concatenate(held), offsets=np.cumsum([0, *sizes]))


def _json_writer(file: IO[str], per_token: bool, pieces: Pieces) -> Write:
    """`{"id", "vector"}`, or `{"id", "tokens", "vectors"}`, a line."""

    def write(ids: Sequence[str], values: Sequence[np.ndarray], tokens: Sequence[np.ndarray]) -> None:
        for name, vectors, own in zip(ids, values, tokens, strict=True):
            if per_token:
                line = {"id": name, "tokens": pieces(own), "vectors": [_numbers(each) for each in vectors]}
            else:
                line = {"id": name, "vector": _numbers(vectors)}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()

    return write


def _numbers(vector: np.ndarray) -> list[float]:
    """With as many digits as tell one float32 from the next."""
    return [float(str(value)) for value in vector]


@contextlib.contextmanager
def _npy(path: pathlib.Path, width: int) -> Iterator[Callable[[np.ndarray], None]]:
    """Takes [n, width] float32 at a time; how many there are is written into the header at the end."""
    count = 0
    with path.open("wb") as file:

        def header() -> None:
            shape = {"descr": "<f4", "fortran_order": False, "shape": (count, width)}
            np.lib.format.write_array_header_1_0(file, shape)

        def add(vectors: np.ndarray) -> None:
            nonlocal count
            count += len(vectors)
            file.write(np.ascontiguousarray(vectors, "<f4").tobytes())

        header()
        begin = file.tell()
        yield add
        file.seek(0)
        header()
        if file.tell() != begin:  # numpy leaves room for a longer count; a version that does not would spoil the file.
            raise RuntimeError(f"the header of {path} grew from {begin} to {file.tell()} bytes")
