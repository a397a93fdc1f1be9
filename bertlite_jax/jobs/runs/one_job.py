"""One job at a time in a work directory: a second one is refused before it has touched anything.

Jobs that only read a run (evaluate, predict, embed, convert, report) may do so while it goes on.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

from bertlite_jax.errors import UserError
from bertlite_jax.host import folder_lock
from bertlite_jax.host.places import check_on_disk, writing
from bertlite_jax.host.plain_path import plain
from bertlite_jax.jobs.runs.workdir import refuse_no_run


@contextlib.contextmanager
def alone_in(path: str | os.PathLike[str], of_runs: bool = False) -> Iterator[None]:
    """Inside, no other job writes into this work directory. Makes it; if it is empty at the end, it goes again.

    The same thread may enter again, as a job does that calls others. For the first process of a job only.

    Args:
      path: the job's `--workdir`.
      of_runs: it holds the work directories of several runs, and no run itself.

    Raises:
      UserError: another job is at work in it, or it is no place for a run. Then nothing in it is touched.
    """
    check_on_disk("workdir", path)
    folder = pathlib.Path(path)
    with contextlib.ExitStack() as inside:
        with writing("workdir", folder):
            if folder.exists() and not folder.is_dir():
                raise UserError(f"workdir: {folder} is a file; name a directory")
            if not of_runs and not (folder / folder_lock.FILE).exists():  # Else the lock tells more.
                refuse_no_run(folder)
            if not folder.exists():
                folder.mkdir(parents=True, exist_ok=True)
                inside.callback(_remove_if_empty, folder)
            inside.enter_context(plain(folder))  # Raises now what checkpoints would raise later.
            holder = inside.enter_context(folder_lock.held(folder))
        if holder:
            raise UserError(
                f"workdir: {folder} is in use by {holder}; wait until it ends, stop it, or name another --workdir"
            )
        yield


def _remove_if_empty(folder: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # It is not empty, or gone.
        folder.rmdir()
