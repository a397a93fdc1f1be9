"""`results.jsonl`: a line for each trial, written as it ends, so that a search that is killed repeats none.

A trial is a shape with a learning rate and a number of steps, over all seeds. Its line is found by a hash of everything
that its figures follow from, so a search with other settings in the same folder trains only what is new.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any

from bertlite_jax.config.search.settings import Shape, Surrogate
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_lines, json_shapes
from bertlite_jax.host.json_shapes import NUMBER
from bertlite_jax.search import surrogate
from bertlite_jax.search.trials import Trial

FILE = "results.jsonl"
DONE, DIVERGED, NO_MEMORY = "done", "diverged", "no memory"
"""How a trial ended. Only those that are done have an error, and can be chosen."""

_LINE: dict[Any, Any] = {
    "key": str,
    "teacher": str,
    "status": str,
    "reason": str,
    "shape": {...: json_shapes.ANYTHING},
    "learning_rate": NUMBER,
    "steps": int,
    "seeds": [int],
    "seconds": NUMBER,
    "figures": {...: {...: [(*NUMBER, NoneType)]}},
}


@dataclasses.dataclass(frozen=True)
class Line:
    """A trial that has ended."""

    key: str
    """Of `surrogate.memo_key`: what is trained, on what."""
    teacher: str
    """Key of the maximum point that it was compared with; empty where it was not."""
    status: str
    reason: str
    """Why it has no error; empty where it has one."""
    shape: dict[str, Any]
    learning_rate: float
    steps: int
    seeds: list[int]
    seconds: float
    """Its share of the time of its group, which is trained at once."""
    figures: dict[str, dict[str, list[float | None]]]
    """Step to figures by name, one for each seed; None where it is no number. See `training.Figures`."""

    @property
    def trial(self) -> Trial:
        """What was trained."""
        return Trial(Shape(**self.shape), self.learning_rate, self.steps)


Lines = dict[tuple[str, str], Line]
"""By `key` and `teacher`, and by `key` and "": what does not compare with a maximum point is the same beside any."""


def by_key(lines: Iterable[Line]) -> Lines:
    """The lines as they are looked up; of equal keys the last."""
    return {(line.key, teacher): line for line in lines for teacher in (line.teacher, "")}


def read(path: pathlib.Path) -> list[Line]:
    """The lines; none before there is a file. A last line that a kill has torn is left out.

    Raises:
      UserError: a line is damaged.
    """
    found = []
    for where, values in json_lines.read(path, "search"):
        json_shapes.check(values, _LINE, where, "search")
        fields = {field.name: values[field.name] for field in dataclasses.fields(Line)}
        if not {field.name for field in dataclasses.fields(Shape)} == set(values["shape"]):
            raise UserError(f"search: {where}: shape does not have the fields of a shape; remove the line")
        found.append(Line(**fields))
    return found


def append(path: pathlib.Path, lines: Sequence[Line]) -> None:
    """Writes the lines in one go, as `json_lines.append`."""
    json_lines.append(path, [dataclasses.asdict(line) for line in lines])


# --- What a line says ------------------------------------------------------------------------------------------------


def errors(line: Line, kind: str, extrapolate_to: int = 0, share: int = 1) -> list[float]:
    """The error of each seed.

    Args:
      line: of a trial.
      kind: as `Surrogate.kind`.
      extrapolate_to: as `Surrogate.extrapolate_to`.
      share: 1: after all steps; 2, 4: after a half or a quarter of them, on the way of the same schedule.

    Returns:
      NaN for a trial that has none.
    """
    if line.status != DONE:
        return [math.nan] * len(line.seeds)
    if kind == "extrapolated":
        losses = [_at(line, "mlm", part) for part in (4, 2, 1)]
        return [surrogate.extrapolated(each, line.steps, extrapolate_to) for each in zip(*losses, strict=True)]
    return _at(line, kind, share)


def error(line: Line, settings: Surrogate) -> float:
    """Mean over the seeds of the error that the search is about."""
    return mean(errors(line, settings.kind, settings.extrapolate_to))


def mean(values: Sequence[float]) -> float:
    """NaN where one of them is."""
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan


def as_json(value: float) -> float | None:
    """The number, or None where JSON has none for it."""
    return float(value) if math.isfinite(value) else None


def _at(line: Line, name: str, share: int) -> list[float]:
    """Figures of the seeds after a share of the steps; NaN where they were not looked at."""
    values: Mapping[str, list[float | None]] = line.figures.get(str(line.steps // share), {})
    return [math.nan if value is None else value for value in values.get(name, [None] * len(line.seeds))]
