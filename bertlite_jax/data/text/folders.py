"""The files below a folder on the disk: links are followed, nothing is read twice, and what is left out is named."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator

from bertlite_jax.errors import UserError

_log = logging.getLogger(__name__)
_SHOWN = 3
_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def files_below(folder: str) -> list[str]:
    """The files below a folder in the order of their names. Hidden files and folders are left out.

    A link to a file or folder is followed if that was not reached before: links in a circle, and links to what lies in
    the folder anyway, add nothing. A link that leads nowhere (an unmounted disk, a file that git-annex has not fetched)
    and what is neither file nor folder are left out; one line says how many, and which.

    Raises:
      UserError: a folder cannot be read, or there is no file.
    """
    left_out: list[str] = []
    files = list(_walk(folder, left_out))
    more = "; ..." if len(left_out) > _SHOWN else ""
    said = f"{len(left_out)} left out: {'; '.join(left_out[:_SHOWN])}{more}"
    if not files:
        raise UserError(f"corpus: {folder}: the folder holds no file" + (f" to read; {said}" if left_out else ""))
    if left_out:
        _log.warning("corpus: %s: %s", folder, said)
    return files


def _walk(top: str, left_out: list[str]) -> Iterator[str]:
    """The files, each once. Adds a line to `left_out` for each thing that is none."""
    reached = {os.path.realpath(top)}
    folders_and_files = [top]
    while folders_and_files:
        path = folders_and_files.pop()
        if not os.path.isdir(path):
            yield path
            continue
        new = []
        # What is there itself comes before links, so that in one folder no link takes the place of a file.
        for child in sorted(_children(path), key=lambda child: (os.path.islink(child), child)):
            target = os.path.realpath(child)
            if target not in reached and _is_readable(child, left_out):
                reached.add(target)
                new.append(child)
        folders_and_files += sorted(new, reverse=True)


def _children(folder: str) -> list[str]:
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise UserError(f"corpus: {folder}: cannot be read: {error.strerror}") from error


def _is_readable(path: str, left_out: list[str]) -> bool:
    """Whether this is a file or folder; adds it to `left_out` if not."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno not in _LEADS_NOWHERE:
            raise UserError(f"corpus: {path}: cannot be read: {error.strerror}") from error
        leads_to = f" -> {os.readlink(path)}" if os.path.islink(path) else ""
        left_out.append(f"{path}{leads_to} ({error.strerror})")
        return False
    if os.path.isdir(path) or os.path.isfile(path):
        return True
    left_out.append(f"{path} (neither file nor folder)")
    return False
