"""The records of a run in trackers: which they are, and how jobs open them.

A run has one id for all trackers, drawn when it first asks for one and kept in its work directory. So it finds its
records again whenever it resumes, and `--overwrite`, which deletes the id too, begins new ones.
"""

from __future__ import annotations

import functools
import json
import pathlib
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from bertlite_jax.config.files import flat
from bertlite_jax.errors import UserError
from bertlite_jax.host import folder_lock, json_files, whole_files
from bertlite_jax.report.trackers import following
from bertlite_jax.report.trackers.opening import opener
from bertlite_jax.report.trackers.record import About, Record

FILE = "tracking.json"
"""In the work directory: the id of the run's records."""
REPORT_SECONDS = 60.0
"""As `following.LEAVING_SECONDS`, for a job that has nothing else to do."""


def records(folder: pathlib.Path, config: Any) -> Mapping[str, Callable[[], Record]]:
    """The run's trackers, each with the function that opens its record. Draws the run's id, and imports the libraries.

    Args:
      folder: the work directory, which exists.
      config: of the run; `run.track` names its trackers.

    Raises:
      UserError: the file with the id is damaged, or a library is missing.
    """
    if not config.run.track:
        return {}
    about = About(
        id=id_of(folder),
        name="/".join(folder.resolve().parts[-2:]),
        project=config.run.track_project,
        settings=json.loads(json.dumps(flat(config))),
        folder=folder,
    )
    return {tracker: functools.partial(opener(tracker), about) for tracker in config.run.track}


def id_of(folder: pathlib.Path) -> str:
    """The id of the run's records, drawn if the work directory has none.

    Raises:
      UserError: the file with it is damaged.
    """
    file = folder / FILE
    if not file.exists():
        whole_files.write_json(file, {"id": uuid.uuid4().hex[:16]})
    identity = json_files.read_object(file, "track").get("id")
    if not (isinstance(identity, str) and identity.isalnum() and identity.isascii()):
        raise UserError(f"track: {file}: `id` should be letters and digits; remove the file to begin new records")
    return identity


def send_report(folder: pathlib.Path, config: Any, report: pathlib.Path) -> None:
    """Sends a run's report to its trackers, and what they lack of its metrics. Says what could not be sent.

    A run that is being trained sends its metrics itself; then nothing is sent here. Of another one that has no summary,
    the records say that it failed.

    Raises:
      UserError: as `records`.
    """
    with folder_lock.held(folder) as holder:
        if holder:
            print(f"track: {folder} is in use by {holder}; its trackers get a report when it has ended")
            return
        file = folder / "metrics.jsonl"
        followers = [following.Follower(name, file, opens, report) for name, opens in records(folder, config).items()]
        unfinished = not (folder / "summary.json").exists()
        following.leave([following.follow(follower) for follower in followers], unfinished, REPORT_SECONDS)
