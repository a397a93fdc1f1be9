"""Which file opens a tracker's records, and whether its library is there."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence

from bertlite_jax.errors import UserError
from bertlite_jax.host.retry import first_line
from bertlite_jax.report.trackers.record import About, Record

Open = Callable[[About], Record]
"""Makes the record of a run, or goes on in the one that is there."""


def opener(tracker: str) -> Open:
    """The function that opens a record. Imports the tracker's library now, in the caller's thread.

    An import in a thread that runs beside others may fail halfway (in Python 3.11, "AST constructor recursion depth
    mismatch"), and W&B's cannot be repeated in the same process.

    Args:
      tracker: one of `config.pretrain.Tracker`.

    Raises:
      UserError: a package that the library needs is missing.
    """
    try:
        importlib.import_module(tracker)
    except ImportError as error:
        raise UserError(f'track: {tracker}: {first_line(error)}; pip install "bertlite_jax[{tracker}]"') from error
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
        found = importlib.util.find_spec(tracker)
        if found is None or found.origin is None:  # A folder `wandb`, as W&B makes them, has no origin.
            raise UserError(
                f'config: run.track = {tracker} needs a package that is missing; pip install "bertlite_jax[{tracker}]"'
            )
