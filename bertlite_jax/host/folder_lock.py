"""One job at a time writes into a folder: a lock that the system releases when the job ends, however it ends.

The lock is an advisory one (`flock`) on a file in the folder, which says who holds it. Where the file system has no
such locks, the holder touches the file every few seconds instead, and a file that was left untouched for a minute
counts for nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator

FILE = ".bertlite-lock"
"""In the folder while the lock is held, and after its holder was killed."""
BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
"""Only where there are no locks: so long after its last beat a holder counts as dead."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)


class _NoLocks(Exception):
    """The file system has no locks."""


_guard = threading.Lock()
_taken: dict[tuple[int, int], int] = {}
"""Folders (device, inode) whose lock this process holds or is taking, and the thread that does."""


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[str | None]:
    """Inside, this thread holds the lock of a folder, unless another job does. Never waits.

    Args:
      folder: exists. A thread that holds its lock already may enter again.

    Yields:
      None, or who holds the lock instead: `process 12 on node-3, at work since 2026-01-31 10:02:07`.

    Raises:
      OSError: the folder is gone, or no file can be made in it.
    """
    entry = os.stat(folder)
    key, thread = (entry.st_dev, entry.st_ino), threading.get_ident()
    with _guard:
        owner = _taken.setdefault(key, 0)
        if not owner:
            _taken[key] = thread
    if owner:
        yield None if owner == thread else "another job of this process"
        return
    try:
        with locked(folder / FILE) as holder:
            yield holder
    finally:
        with _guard:
            del _taken[key]


@contextlib.contextmanager
def locked(file: pathlib.Path) -> Iterator[str | None]:
    """Inside, this `with` block alone holds a lock file, unless another one does. Never waits, and removes the file.

    Yields:
      None, or who holds it instead.
    """
    try:
        descriptor, has_locks = _flock(file), True
    except _NoLocks:
        descriptor, has_locks = None, False
    if not has_locks:
        with _beating(file) as holder:
            yield holder
        return
    if descriptor is None:
        yield _holder(file)
        return
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, _signature(), 0)
        yield None
    finally:
        if _is(descriptor, file):
            file.unlink()  # While it is locked: who has opened it meanwhile sees that it is gone (`_flock`).
        os.close(descriptor)


def _flock(file: pathlib.Path) -> int | None:
    """The file, opened and locked; None where another process has locked it.

    Raises:
      _NoLocks: the file system has none.
    """
    while True:
        descriptor, is_new = _opened(file)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            if is_new:  # Else it would pass for that of a holder who touches it.
                file.unlink(missing_ok=True)
            if error.errno in _NO_LOCKS:
                raise _NoLocks from error
            raise
        if _is(descriptor, file):
            return descriptor
        os.close(descriptor)  # Its holder has just ended and removed it.


def _opened(file: pathlib.Path) -> tuple[int, bool]:
    """A descriptor of the file, and whether it was made for it."""
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(file, os.O_RDWR | os.O_CREAT, 0o666), False


def _is(descriptor: int, file: pathlib.Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


# --- Who holds it ----------------------------------------------------------------------------------------------------


def _signature(token: str = "") -> bytes:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "token": token}
    return json.dumps(who).encode()


def _holder(file: pathlib.Path) -> str:
    try:
        who = json.loads(file.read_bytes())
        return f"process {who['pid']} on {who['host']}, at work since {who['since']}"
    except (FileNotFoundError, ValueError, TypeError, KeyError):  # It ends, or begins, at this very moment.
        return "another job"


# --- Without locks ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _beating(file: pathlib.Path) -> Iterator[str | None]:
    """Holds a lock by touching its file, unless another job does so."""
    content = _signature(uuid.uuid4().hex)
    _remove_stale(file)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        yield f"{_holder(file)} (if that was killed: start again in a minute)"
        return
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # A beat that fails once; if the disk is gone, the job will say so.
                os.utime(file)

    thread = threading.Thread(target=beat, name="hold the folder's lock", daemon=True)
    thread.start()
    try:
        yield None
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(FileNotFoundError):
            if file.read_bytes() == content:
                file.unlink()


def _remove_stale(file: pathlib.Path) -> None:
    """Removes the lock file of a holder that has stopped touching it."""
    if not file.exists():
        return
    fresh = file.with_name(f"{file.name}.{uuid.uuid4().hex[:12]}")
    try:
        fresh.touch()  # Its time is told by the same clock as that of the other file, which may be a server's.
        with contextlib.suppress(FileNotFoundError):
            seen = file.stat()
            if fresh.stat().st_mtime - seen.st_mtime > STALE_SECONDS:
                os.rename(file, fresh)
                if not os.path.samestat(seen, fresh.stat()):  # Another start was faster: this is its new file.
                    os.rename(fresh, file)
    finally:
        fresh.unlink(missing_ok=True)
