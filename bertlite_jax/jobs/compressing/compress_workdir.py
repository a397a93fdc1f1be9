"""The work directory of compression: whose family it holds, when it is refused, and what is cleared.

`compress.json` says for which teacher, recipe, data, settings and machine its models were made, and holds what was
measured to decide which of them are made. Points may be added: they are not among what it compares.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from bertlite_jax.config import files
from bertlite_jax.config.compression.compress import Compress, is_name
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.convert.weights.folder import FILE, Weights
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, json_files, json_shapes, whole_files
from bertlite_jax.jobs.compressing import family
from bertlite_jax.jobs.compressing.handed_over import FLOOR, POINTS, TEACHER
from bertlite_jax.jobs.compressing.students import ANSWERS, START, STUDENTS
from bertlite_jax.jobs.finetuning.prepare import digests
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.jobs.runs import one_job, several, workdir
from bertlite_jax.train.compression.choice import Latencies

SOURCE = "compress.json"
"""The first file that is written."""
SUMMARY, TABLE, PICTURE = "summary.json", "table.md", "family.png"
"""What is written last."""
_BESIDE = (TEACHER, f"{TEACHER}-float32", f"{TEACHER}-int8", FLOOR)
"""Names in the folder of points, beside theirs."""
_FREE = ("points", "rounds", "over")
"""Settings that may differ from start to start."""
_SHAPE = {
    **{"settings": {}, "recipe": {}, "run": str, "weights": str, "cpu": str},
    **{"data": {...: str}, "teachers": {...: str}, "usual_points": [str], "latencies": {...: family.SHAPE}},
}


class Decided(NamedTuple):
    """What was decided when a family was begun, and stays so whenever it is gone on with."""

    usual: tuple[str, ...] = ()
    """Names of the points that are made where none are asked for; empty where that has not happened."""
    latencies: Mapping[str, Latencies] = MappingProxyType({})
    """As in `Plan`: on another day, a point might just be out of reach."""


def source_of(config: Finetune, settings: Compress, setup: Setup, run: str, weights: Weights) -> dict[str, Any]:
    """What a family is made for, as JSON.

    Args:
      config: the recipe.
      settings: of the job.
      setup: of the task; hashes of its data, and of the models that label or change texts.
      run: of the teacher.
      weights: of the teacher, as exports have them.
    """
    recipe = {name: value for name, value in files.flat(config).items() if name not in workdir.FREE_TO_CHANGE}
    held = {name: value for name, value in dataclasses.asdict(settings).items() if name not in _FREE}
    source = {"settings": held, "recipe": recipe, "run": os.path.realpath(run), "weights": weights.digest()}
    source |= {"cpu": cpu.name(), "data": digests(setup), "teachers": dict(setup.extra.digests)}
    return json.loads(json.dumps(source))


def refuse_foreign(folder: pathlib.Path) -> None:
    """Raises UserError for a directory that holds something else than a family; it may be empty or absent."""
    several.refuse_other_content(folder, SOURCE, "compress", f"{SOURCE} of compression")


def decided_in(folder: pathlib.Path, source: dict[str, Any]) -> Decided:
    """What an earlier start has decided; nothing where there was none.

    Raises:
      UserError: the file is damaged, or its family is of another teacher, recipe, machine or settings, or of data or
        teachers that have changed since.
    """
    path = folder / SOURCE
    if not path.is_file():
        return Decided()
    held = json_files.read_object(path, "compress")
    json_shapes.check(held, _SHAPE, str(path), "compress")
    if how := _difference(held, source):
        raise UserError(
            f"workdir: {folder} holds models that were made {how}; name another --workdir, or pass --overwrite to "
            "start again"
        )
    tables = {kind: family.from_json(values) for kind, values in held["latencies"].items()}
    return Decided(tuple(held["usual_points"]), tables)


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How models were made otherwise than now; "" if they were not."""
    if before["run"] != now["run"]:
        return "from another teacher"
    then, today = ({"cpu": each["cpu"]} | each["settings"] | each["recipe"] for each in (before, now))
    for name in then | today:
        if then.get(name) != today.get(name):
            return f"with {name} = {_shown(then.get(name))}, and this is {_shown(today.get(name))}"
    if before["weights"] != now["weights"]:  # Their hash has the shape in it, which the recipe's dropout is part of.
        return "from another teacher"
    for entry, what in (("data", "data"), ("teachers", "weights")):
        for place, digest in now[entry].items():
            if before[entry].get(place) != digest:
                return f"with other {what} than {place} now holds"
    return ""


def write_source(folder: pathlib.Path, source: dict[str, Any], decided: Decided) -> None:
    """Writes `compress.json`."""
    tables = {kind: family.as_json(table) for kind, table in decided.latencies.items()}
    whole_files.write_json(folder / SOURCE, source | {"usual_points": list(decided.usual), "latencies": tables})


def clear(folder: pathlib.Path, read: Sequence[str]) -> None:
    """Removes the models and figures of an earlier family, and nothing else that lies there.

    Args:
      folder: holds `compress.json`.
      read: files and folders that are read now, and must not be deleted.

    Raises:
      UserError: one of them is among the models, or another job is at work in a run. Nothing is removed then.
    """
    students, points = folder / STUDENTS, folder / POINTS
    _refuse_to_clear(folder, read)
    whole_files.remove_leftovers(folder)
    runs = [run.parent for pattern in ("*", "*/*") for run in sorted(students.glob(f"{pattern}/{workdir.CONFIG}"))]
    runs = [run for run in runs if not (run / FILE).is_file()]  # That of weights is called so too.
    with contextlib.ExitStack() as alone:
        for run in runs:
            alone.enter_context(one_job.alone_in(run))
        for table in sorted(students.glob(f"*/{family.TABLE}")):
            family.clear(table.parent, read)
            table.unlink()
        for run in runs:
            if run.is_dir():
                workdir.clear(run)
    for start in sorted(students.glob(f"*{START}")):
        if (start / FILE).is_file():
            whole_files.remove_folder(start)
    _clear_points(points)
    for parts in (folder / ANSWERS).glob("*.parts"):
        whole_files.remove_folder(parts)
    written = (folder / name for name in (SUMMARY, TABLE, PICTURE, "report.html"))
    for entry in (*(folder / ANSWERS).glob("*.npy"), *written):
        entry.unlink(missing_ok=True)
    for part in (*runs, *students.glob("*"), students, points, folder / ANSWERS):
        with contextlib.suppress(OSError):  # It is gone already, or a user has put something into it.
            part.rmdir()


def _clear_points(points: pathlib.Path) -> None:
    for entry in sorted(points.glob("*")):
        name = entry.name.removesuffix(".json")
        if not is_name(name) and name not in _BESIDE:
            continue
        if entry.is_dir() and not entry.is_symlink():
            whole_files.remove_folder(entry)
        elif entry.suffix == ".json":
            entry.unlink()


def _refuse_to_clear(folder: pathlib.Path, read: Sequence[str]) -> None:
    here = pathlib.Path(os.path.realpath(folder))
    for place in filter(None, read):
        inside = pathlib.Path(os.path.realpath(place))
        if inside.is_relative_to(here) and inside.relative_to(here).parts[:1] in ((), (STUDENTS,), (POINTS,)):
            raise UserError(
                f"workdir: --overwrite would delete {place}, which this job reads; name another --workdir, or copy it "
                "first"
            )


def _shown(value: Any) -> str:
    return "nothing" if value in (None, "") else str(value)
