"""Another path to a folder whose own path a library would misread."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator

from bertlite_jax.errors import UserError

_MISREAD = re.compile(r"[*?\[\\\x00-\x1f\x7f\ud800-\udfff]")
"""Patterns for file names, escapes, control characters, and bytes that are no UTF-8."""
_SCHEMES = ("gs", "s3", "az", "hf")
"""`/gs/...` is `gs://...` to etils."""
_DESCRIPTORS = pathlib.Path("/proc/self/fd")


@contextlib.contextmanager
def plain(folder: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    r"""An absolute path to a folder that libraries take as it stands, for use inside the block and in this process.

    It is the folder's own, without `..`, unless that has characters with a meaning, as in `runs/lr[1e-3]` or `a\b`.
    Then the part up to the last of them is replaced by the name that the system gives to an open folder; names after it
    stay.

    Args:
      folder: exists.

    Raises:
      UserError: this system has no such names.
    """
    path = pathlib.Path(folder).absolute()
    if ".." in path.parts:  # TensorStore refuses them; behind a link they lead elsewhere than the text says.
        path = pathlib.Path(os.path.realpath(path))
    if not _misread(path):
        yield path
        return
    head = path
    while head.name and not _MISREAD.search(head.name):
        head = head.parent
    descriptor = os.open(head, os.O_RDONLY | os.O_DIRECTORY)
    try:
        other = _DESCRIPTORS / str(descriptor) / path.relative_to(head)
        if not (other.is_dir() and os.path.samefile(other, path)):
            raise UserError(
                f"workdir: {path} has a character or a first folder that checkpoints cannot have in their path on "
                f"this system (*, ?, [, \\, /{', /'.join(_SCHEMES)}); name another --workdir"
            )
        yield other
    finally:
        os.close(descriptor)


def _misread(path: pathlib.Path) -> bool:
    return _MISREAD.search(str(path)) is not None or path.parts[1:2] in [(scheme,) for scheme in _SCHEMES]
