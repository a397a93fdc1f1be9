"""Arrays that a run stores beside its checkpoints and reads again when it resumes."""

from __future__ import annotations

import contextlib
import pathlib
import tokenize
import zipfile
from collections.abc import Iterator

import numpy as np

from bertlite_jax.errors import UserError

_DAMAGE = (ValueError, EOFError, OverflowError, SyntaxError, KeyError, tokenize.TokenError, zipfile.BadZipFile)
"""What numpy raises where a file is cut off or has other bytes."""


@contextlib.contextmanager
def reading(path: pathlib.Path) -> Iterator[None]:
    """Around the calls that read one file of arrays, and nothing else.

    Raises:
      UserError: the file is damaged.
    """
    try:
        yield
    except _DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"finetune: {path} is damaged ({reason}); put back a copy, or pass --overwrite to start again"
        ) from error


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
