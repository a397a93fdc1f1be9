"""Opening a file to read, which may be a pipe: `mkfifo`, or the `<(command)` of a shell."""

from __future__ import annotations

import os
import stat
import threading
from typing import IO

from bertlite_jax.errors import UserError

PATIENCE_SECONDS = 30.0
"""A named pipe that no program has opened for writing by then is refused."""


def open_file(path: str) -> IO[bytes]:
    """Opens a file on the disk for reading.

    Raises:
      UserError: it is a named pipe, and nobody writes to it.
      OSError: it cannot be opened.
    """
    if not stat.S_ISFIFO(os.stat(path).st_mode):
        return open(path, "rb")
    opened: list[IO[bytes] | OSError] = []

    def wait_for_writer() -> None:
        try:
            opened.append(open(path, "rb"))  # noqa: SIM115  # The caller closes it.
        except OSError as error:
            opened.append(error)

    waiting = threading.Thread(target=wait_for_writer, daemon=True, name=f"open {path}")
    waiting.start()
    waiting.join(PATIENCE_SECONDS)
    if not opened:
        # A writer that comes and goes lets the thread end.
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        waiting.join()
        if not isinstance(opened[0], OSError):
            opened[0].close()
        raise UserError(f"corpus: {path}: a pipe that no program has written to for {PATIENCE_SECONDS:.0f} s")
    if isinstance(opened[0], OSError):
        raise opened[0]
    return opened[0]
