"""A run's record in a tracker: what it says of the run, and what can be done with it."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
