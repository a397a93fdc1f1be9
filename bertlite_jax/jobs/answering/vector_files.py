"""Files of vectors, .npy and JSON lines, written in parts, whole or not at all."""

from __future__ import annotations

import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

import numpy as np

from bertlite_jax.errors import UserError
from bertlite_jax.host.whole_files import check_no_folder, new_file
from bertlite_jax.jobs.answering.json_output import write_line

Write = Callable[[Sequence[str], Sequence[np.ndarray], Sequence[np.ndarray]], None]
"""(ids, vectors, token ids) of the next texts; each text's vectors are [D] or [tokens, D]."""
Pieces = Callable[[np.ndarray], list[str]]
"""(token ids) -> pieces."""


def tokens_beside(out: pathlib.Path) -> pathlib.Path:
    """`vectors.npy` -> `vectors.tokens.npz`: `ids` [T] int32 and `offsets` [texts + 1] int64, both into its rows."""
    return out.with_name(f"{out.stem}.tokens.npz")


def check(out: str, overwrite: bool, per_token: bool = False) -> None:
    """Raises UserError if the name has no known format, is a folder's, or the file exists and may not be replaced.

    For vectors of tokens in `.npy`, the file beside it is checked too.
    """
    if out == "-":
        return
    path = pathlib.Path(out)
    if path.suffix not in (".npy", ".jsonl"):
        raise UserError(f"embed: --out {out} should end in .npy or .jsonl, or be - for JSON lines on standard output")
    for place in (path, tokens_beside(path)) if per_token and path.suffix == ".npy" else (path,):
        check_no_folder(place, job="embed")
        if place.exists() and not overwrite:
            raise UserError(f"embed: {place} exists; pass --overwrite to replace it, or name another file")


@contextlib.contextmanager
def opened(out: str, per_token: bool, width: int, pieces: Pieces, overwrite: bool) -> Iterator[Write]:
    """Opens a file to write vectors to. If the block fails, the file is not there.

    Args:
      out: a name that `check` accepts.
      per_token: whether the vectors of a text are [tokens, D].
      width: D.
      pieces: of the tokenizer, for JSON lines of tokens.
      overwrite: whether an existing file is replaced.
    """
    path = pathlib.Path(out)
    if out == "-":
        yield _json_writer(sys.stdout, per_token, pieces)
    elif path.suffix == ".jsonl":
        with new_file(path, overwrite, job="embed") as unfinished, unfinished.open("w", encoding="utf-8") as file:
            yield _json_writer(file, per_token, pieces)
    elif not per_token:
        with new_file(path, overwrite, job="embed") as unfinished, _npy(unfinished, width) as add:
            yield lambda ids, values, tokens: add(np.stack(values))
    else:
        sizes: list[int] = []
        all_tokens: list[np.ndarray] = []
        with (
            new_file(path, overwrite, job="embed") as unfinished,
            new_file(tokens_beside(path), overwrite, job="embed") as beside,
        ):
            with _npy(unfinished, width) as add:

                def write(ids: Sequence[str], values: Sequence[np.ndarray], tokens: Sequence[np.ndarray]) -> None:
                    sizes.extend(map(len, tokens))
                    all_tokens.extend(tokens)  # 4 bytes per token; its vector has thousands.
                    add(np.concatenate(values))

                yield write
            with beside.open("wb") as file:
                np.savez(file, ids=np.concatenate(all_tokens), offsets=np.cumsum([0, *sizes]))


def _json_writer(file: TextIO, per_token: bool, pieces: Pieces) -> Write:
    """Returns a function that writes lines `{"id", "vector"}`, or `{"id", "tokens", "vectors"}`."""

    def write(ids: Sequence[str], values: Sequence[np.ndarray], tokens: Sequence[np.ndarray]) -> None:
        for name, vectors, text_tokens in zip(ids, values, tokens, strict=True):
            if per_token:
                line = {"id": name, "tokens": pieces(text_tokens), "vectors": [_numbers(vector) for vector in vectors]}
            else:
                line = {"id": name, "vector": _numbers(vectors)}
            write_line(file, line)
        file.flush()

    return write


def _numbers(vector: np.ndarray) -> list[float]:
    """The values with as many digits as distinguish one float32 from the next."""
    return [float(str(value)) for value in vector]


@contextlib.contextmanager
def _npy(path: pathlib.Path, width: int) -> Iterator[Callable[[np.ndarray], None]]:
    """Yields a function that appends [n, width] float32; at the end, the header gets the number of vectors."""
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
