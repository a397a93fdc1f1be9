"""Object storage: text is read in place, folders are copied once to this machine's disk and read from there.

Rows hold windows from anywhere in a corpus, and a bucket answers a random read in tens of milliseconds, so reading in
place would leave the accelerator waiting. A corpus that does not fit on the disk is read through a mounted bucket
(docs/tpu.md).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import logging
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import IO

import platformdirs
from etils import epath

from bertlite_jax.data.text import pipes
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.host.places import in_datasets, in_object_storage
from bertlite_jax.host.retry import first_line, read_with_retries

_log = logging.getLogger(__name__)
_CLIENTS = ("gcsfs", "google", "s3fs", "botocore", "adlfs", "azure", "aiohttp", "requests")
"""Packages that talk to buckets. Their errors report missing rights, a missing login or an unknown account."""


def local_folder(folder: str | os.PathLike[str], index: str) -> pathlib.Path:
    """The folder itself; of a folder in object storage, its copy on this disk, which is made on first use.

    The copy lies in the user's cache folder (XDG_CACHE_HOME moves it). Nothing removes it; deleting it is safe. It is
    found by the content of the index, so a folder that was built again is copied again. Of several processes on a
    machine one copies and the others wait.

    Args:
      folder: a path, `gs://BUCKET/...` or another scheme that `etils.epath` knows.
      index: the file in it that names or hashes all others, such as corpus.json.

    Raises:
      UserError: the folder has no such file, cannot be read, or does not fit on the disk.
    """
    return pathlib.Path(copied_folder(os.fspath(folder), index)) if in_object_storage(folder) else pathlib.Path(folder)


def place_of(name: str) -> pathlib.Path | epath.Path:
    """A file or folder by its name, on the disk or in object storage."""
    return epath.Path(name) if in_object_storage(name) else pathlib.Path(name)


def open_file(name: str) -> IO[bytes]:
    """Opens a file for reading, on the disk or in object storage; on the disk it may be a pipe."""
    return epath.Path(name).open("rb") if in_object_storage(name) else pipes.open_file(name)


def size_of(name: str) -> int:
    """Bytes of a file, on the disk or in object storage; 0 of a dataset, whose size nobody knows before it is read."""
    if in_datasets(name):
        return 0
    if not in_object_storage(name):
        return os.path.getsize(name)
    with reaching(name):
        return read_with_retries(epath.Path(name).stat, name).length


@contextlib.contextmanager
def reaching(name: str) -> Iterator[None]:
    """Around calls to object storage: a missing client library or a refused access becomes an error of one line."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"data: {name}: {first_line(error)}; for gs://, `pip install 'bertlite_jax[gcs]'`") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        raise UserError(f"data: {name} cannot be read: {first_line(error)}; are you logged in there?") from error


@functools.cache
def copied_folder(folder: str, index: str) -> str:
    """The copy of a folder in object storage (`local_folder`); looked up once a process."""
    try:
        with reaching(folder):
            remote = epath.Path(folder)
            content = read_with_retries((remote / index).read_bytes, remote / index)
            key = hashlib.sha256(folder.encode() + b"\n" + content).hexdigest()[:16]
            cache = pathlib.Path(platformdirs.user_cache_dir("bertlite_jax", appauthor=False)) / "staged"
            cache.mkdir(parents=True, exist_ok=True)
            with _locked(cache / f"{key}.lock"):
                if not (cache / key).is_dir():
                    _fetch(remote, cache / key)
            return str(cache / key)
    except FileNotFoundError as error:
        raise UserError(f"data: {folder} has no {index}; name another place, or finish the upload") from error
    except (OSError, RuntimeError) as error:
        raise UserError(f"data: {folder} cannot be copied to this disk: {first_line(error)}") from error


def _fetch(remote: epath.Path, place: pathlib.Path) -> None:
    """Copies all files of a flat folder, whole or not at all."""
    sizes = {
        file.name: read_with_retries(file.stat, file).length
        for file in read_with_retries(lambda: [*remote.iterdir()], remote)
    }
    free = shutil.disk_usage(place.parent).free
    if sum(sizes.values()) > free:
        raise UserError(
            f"data: {remote} has {sum(sizes.values()):,} bytes, and {place.parent} has room for {free:,}; mount the "
            "bucket and give the mounted path, or set XDG_CACHE_HOME to a larger disk"
        )
    _log.info("data: copying %s (%s bytes) to %s", remote, f"{sum(sizes.values()):,}", place)
    with whole_files.folder_beside(place) as folder:
        for name, size in sizes.items():
            read_with_retries(functools.partial(_fetch_file, remote / name, folder / name, size), remote / name)
        whole_files.put_folder(folder, place)


def _fetch_file(remote: epath.Path, local: pathlib.Path, size: int) -> None:
    with remote.open("rb") as source, open(local, "wb") as target:
        shutil.copyfileobj(source, target, 16 << 20)
    if local.stat().st_size != size:
        raise OSError(f"{remote}: {local.stat().st_size} bytes arrived instead of {size}")


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    with open(path, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # Released when the file is closed, however that happens.
        yield
