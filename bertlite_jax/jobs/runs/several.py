"""The folder of a job that makes several runs, and is no work directory of a run itself."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from bertlite_jax.errors import UserError
from bertlite_jax.host import folder_lock, whole_files
from bertlite_jax.jobs.runs import workdir


def refuse_other_content(folder: pathlib.Path, mark: str, job: str, content: str, early: Sequence[str] = ()) -> None:
    """Raises UserError for a folder that holds something else than what the job makes; it may be empty or absent.

    Args:
      folder: the job's `--workdir`.
      mark: file by which the job knows a folder of its own.
      job: begins the message.
      content: what the folder should hold, for the message.
      early: other files that a kill may leave without the mark.
    """
    if (folder / workdir.CONFIG).is_file():
        raise UserError(f"{job}: {folder} holds a single run; name another --workdir")
    if not folder.is_dir() or (folder / mark).is_file():
        return
    ours = (folder_lock.FILE, mark, *early)
    names = sorted(entry.name for entry in folder.iterdir())
    others = [name for name in names if (whole_files.intended_name(name) or name) not in ours]
    if others:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise UserError(
            f"workdir: {folder} is not empty ({shown}) and holds no {content}; name a new or empty directory"
        )
