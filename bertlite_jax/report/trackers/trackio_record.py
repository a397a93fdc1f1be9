"""A record in Trackio: a local SQLite file for each project, which `trackio show` reads and `trackio sync` uploads.

Trackio's own `log` only queues, drops what it cannot write and says so in a warning. So figures go to its storage
directly, which returns when they are on the disk, and raises.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from bertlite_jax.report.trackers.record import PROJECT, About, Record


def open_record(about: About) -> Record:
    """Opens the run's record in Trackio's folder, TRACKIO_DIR or the one in the user's cache."""
    from trackio import Run  # pyright: ignore[reportMissingImports]
    from trackio.sqlite_storage import SQLiteStorage  # pyright: ignore[reportMissingImports]
    from trackio.utils import TRACKIO_DIR  # pyright: ignore[reportMissingImports]

    project = about.project or PROJECT
    SQLiteStorage.validate_project_name(project)
    last = {
        name: step
        for row in SQLiteStorage.get_logs(project, run_id=about.id)
        if isinstance(step := row["step"], int)
        for name in row.keys() - {"step", "timestamp"}
    }

    unsent = [dict(about.settings)]  # They go with the first figures: Trackio has no runs without any.

    def send(step: int, figures: Mapping[str, float]) -> None:
        config = unsent.pop() if unsent else None
        SQLiteStorage.bulk_log(project, about.name, [dict(figures)], steps=[step], config=config, run_id=about.id)

    def artifact(path: pathlib.Path) -> None:
        run = Run(url=None, project=project, client=None, name=about.name, run_id=about.id)
        run.log_artifact(path, name=f"{path.stem}-{about.id}", type=path.stem, overwrite=True)
        run.finish()

    where = f"trackio: {about.name} in {TRACKIO_DIR}; trackio show --project {project} opens it"
    return Record(where, last, send, artifact, lambda failed: None)
