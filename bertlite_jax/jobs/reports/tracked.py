"""The reports of runs for their trackers."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from bertlite_jax.config import files
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files
from bertlite_jax.jobs.reports import tasks
from bertlite_jax.jobs.reports.report import report
from bertlite_jax.jobs.runs import tracking
from bertlite_jax.report.trackers.opening import check_installed

_PLACES = ("config.json", "*/config.json", "*/*/config.json", "*/*/*/config.json")
"""Of a run, of seeds or tasks, of the seeds of a sweep's points or of a suite's tasks."""


def send_reports(workdir: str | os.PathLike[str]) -> None:
    """Writes the report of a run, or of each run in a folder of several, and sends it to the trackers of that run.

    The report of several runs is written too, and stays there: no record is theirs.

    Raises:
      UserError: there is no run with trackers, the library of one is missing, or a file of a run is broken.
    """
    folder = pathlib.Path(workdir)
    runs = _tracked(folder)
    if not runs:
        raise UserError(
            f"report: {folder} holds no run with run.track; give the command that trained it again, with "
            "--run.track and a tracker, which sends everything"
        )
    for config in runs.values():
        check_installed(config.run.track)
    for run, config in runs.items():
        path = report(run)
        print(f"report: wrote {path}")
        tracking.send_report(run, config, path)
    if folder not in runs and tasks.holds_tasks(folder):
        print(f"report: wrote {report(folder)}")


def _tracked(folder: pathlib.Path) -> dict[pathlib.Path, Any]:
    """The runs in a folder that have trackers, with their configs; a run has no others below it."""
    for place in _PLACES:
        configs = {path.parent: _config(path) for path in sorted(folder.glob(place))}
        tracked = {run: config for run, config in configs.items() if config is not None and config.run.track}
        if tracked or (configs and place == "config.json"):
            return tracked
    return {}


def _config(path: pathlib.Path) -> Pretrain | Finetuned | None:
    """The config of a run; None for another program's file."""
    kind = files.kind_of_run(json_files.read_object(path, "report"))
    return files.read_json(path, Finetuned if kind == "fine-tuning" else Pretrain, "report") if kind else None
