"""A run's record in a tracker: what each of them can do, and which file opens it."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bertlite_jax.errors import UserError

PROJECT = "bertlite"
"""Where neither the run nor the tracker's environment names a project."""


class About(NamedTuple):
    """What a record says of its run."""

    id: str
    """Letters and digits; of this run alone, and the same whenever it resumes."""
    name: str
    """Shown in the tracker; other runs may have it too."""
    project: str
    """Empty: as the tracker's environment says, else `PROJECT`."""
    settings: Mapping[str, Any]
    """The config by its fields, such as `optim.learning_rate`; values as JSON has them."""
    folder: pathlib.Path
    """The work directory, for trackers that write files beside the run."""


class Record(NamedTuple):
    """An open record. Each function raises what the tracker's library raises."""

    where: str
    """What to say about where it can be looked at."""
    last: Mapping[str, int]
    """The last step that the record has of each figure. Of a figure that is missing here, it has none."""
    send: Callable[[int, Mapping[str, float]], None]
    """Takes a step and its figures, by name. Steps of a figure rise."""
    artifact: Callable[[pathlib.Path], None]
    """Adds a file, or replaces the one of that name."""
    close: Callable[[bool], None]
    """Returns when everything is where it belongs. True: the run failed."""


Open = Callable[[About], Record]
"""Makes the record of a run, or goes on in the one that is there."""


def opener(tracker: str) -> Open:
    """The function that opens a record; imports the tracker's library when it is called.

    Args:
      tracker: one of `config.pretrain.Tracker`.
    """
    match tracker:
        case "trackio":
            from bertlite_jax.report.trackers import trackio_record

            return trackio_record.open_record
        case "wandb":
            from bertlite_jax.report.trackers import wandb_record

            return wandb_record.open_record
        case "mlflow":
            from bertlite_jax.report.trackers import mlflow_record

            return mlflow_record.open_record
    raise ValueError(f"no tracker {tracker}")


def check_installed(trackers: Sequence[str]) -> None:
    """Raises UserError for a tracker whose library is missing. Imports none."""
    for tracker in trackers:
        if importlib.util.find_spec(tracker) is None:
            raise UserError(
                f'config: run.track = {tracker} needs a package that is missing; pip install "bertlite_jax[{tracker}]"'
            )
