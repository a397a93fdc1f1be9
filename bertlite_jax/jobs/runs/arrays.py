"""Arrays that a job stores beside its results and reads again when it resumes."""

from __future__ import annotations

import contextlib
import errno
import pathlib
import tokenize
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np

from bertlite_jax.errors import UserError

_DAMAGE = (
    *(ValueError, EOFError, OverflowError, SyntaxError, KeyError, tokenize.TokenError, zipfile.BadZipFile),
    RuntimeError,  # A flag that says that an archive is encrypted, or packed in an unknown way.
)
"""What numpy raises where a file is cut off or has other bytes."""
START_AGAIN = "put back a copy, or pass --overwrite to start again"
"""What helps a run of fine-tuning."""


@contextlib.contextmanager
def reading(path: pathlib.Path, job: str = "finetune", remedy: str = START_AGAIN) -> Iterator[None]:
    """Around the calls that read one file of arrays, and nothing else.

    Args:
      path: of the file.
      job: that reads it; begins the message.
      remedy: ends it.

    Raises:
      UserError: the file is damaged.
    """
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # That is a seek to before the file.
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{job}: {path} is damaged ({reason}); {remedy}") from error


@contextlib.contextmanager
def opened(path: pathlib.Path, job: str = "finetune", remedy: str = START_AGAIN) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of a .npz file by their names, which are read as they are asked for. Arguments as of `reading`.

    Raises:
      UserError: the file is damaged, or an array that is asked for is not there.
    """
    # numpy leaves a file open that it has opened itself and that is no archive.
    with reading(path, job, remedy), open(path, "rb") as file:
        stored = np.load(file)
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise ValueError("it is no archive of arrays")
        with stored:
            yield stored


def load(path: pathlib.Path, shape: tuple[int, ...], mapped: bool = False) -> np.ndarray:
    """A .npy file of this shape.

    Args:
      path: exists.
      shape: that the array has to have.
      mapped: read it piece by piece as it is used, instead of now.

    Raises:
      UserError: the file is damaged, or has another shape.
    """
    with reading(path):
        array = np.load(path, mmap_mode="r" if mapped else None)
        if not isinstance(array, np.ndarray) or array.shape != shape:
            raise ValueError(f"its shape should be {list(shape)}")
        return array
