"""The work directory of compression: whose family it holds, when it is refused, and what is cleared.

`compress.json` says for which teacher, recipe, settings and machine its models were made. Points may be added: they are
not among what it compares.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlite_jax.config import files
from bertlite_jax.config.compression.compress import Compress
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.convert import bundled
from bertlite_jax.convert.onnx.folder import MODEL
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import FILE, Weights
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, folder_lock, json_files, json_shapes, whole_files
from bertlite_jax.jobs.compressing import family
from bertlite_jax.jobs.compressing.handed_over import FLOOR, POINTS
from bertlite_jax.jobs.compressing.students import ANSWERS, START, STUDENTS
from bertlite_jax.jobs.runs import one_job, workdir

SOURCE = "compress.json"
"""The first file that is written."""
SUMMARY, TABLE, PICTURE = "summary.json", "table.md", "family.png"
"""What is written last."""
USUAL = "usual_points"
"""Key of the points that were made where none were named."""
_FREE = ("points", "rounds")
"""Settings that may differ from start to start."""
_SHAPE = {"settings": {}, "recipe": {}, "run": str, "weights": str, "cpu": str, f"{USUAL}?": [str]}


def source_of(config: Finetune, settings: Compress, run: str, weights: Weights) -> dict[str, Any]:
    """What a family is made for, as JSON."""
    digest = hashlib.sha256()
    for _, value in sorted(parameters.flatten(weights.params).items()):
        digest.update(np.ascontiguousarray(value).data)
    recipe = {name: value for name, value in files.flat(config).items() if name not in workdir.FREE_TO_CHANGE}
    held = {name: value for name, value in dataclasses.asdict(settings).items() if name not in _FREE}
    source = {"settings": held, "recipe": recipe, "run": os.path.realpath(run)}
    return json.loads(json.dumps(source | {"weights": digest.hexdigest(), "cpu": cpu.name()}))


def refuse_foreign(folder: pathlib.Path) -> None:
    """Raises UserError for a directory that holds something else than a family; it may be empty or absent."""
    if (folder / workdir.CONFIG).is_file():
        raise UserError(f"compress: {folder} holds a single run; name another --workdir")
    if not folder.is_dir() or (folder / SOURCE).is_file():
        return
    # A kill during the very first write leaves a temporary file and a lock behind.
    ours = (folder_lock.FILE, SOURCE)
    foreign = [e.name for e in folder.iterdir() if (whole_files.intended_name(e.name) or e.name) not in ours]
    if foreign:
        raise UserError(
            f"workdir: {folder} is not empty ({min(foreign)}) and holds no {SOURCE} of compression; name a new or "
            "empty directory"
        )


def usual_of(folder: pathlib.Path, source: dict[str, Any]) -> tuple[str, ...]:
    """The usual points of an earlier start; empty where there was none, or it was given others.

    Raises:
      UserError: the file is damaged, or its family is of another teacher, recipe, machine or settings.
    """
    path = folder / SOURCE
    if not path.is_file():
        return ()
    held = json_files.read_object(path, "compress")
    json_shapes.check(held, _SHAPE, str(path), "compress")
    before, now = (_flat({name: value for name, value in each.items() if name != USUAL}) for each in (held, source))
    for name in before | now:
        if before.get(name) == now.get(name):
            continue
        with_what = f"with {name} = {_shown(before.get(name))}, and this is {_shown(now.get(name))}"
        how = "from another teacher" if name in ("run", "weights") else with_what
        raise UserError(
            f"workdir: {folder} holds models that were made {how}; name another --workdir, or pass --overwrite to "
            "start again"
        )
    return tuple(held.get(USUAL, ()))


def write_source(folder: pathlib.Path, source: dict[str, Any]) -> None:
    """Writes `compress.json`: what `source_of` returns, with the usual points."""
    whole_files.write_json(folder / SOURCE, source)


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
    for point in sorted(points.glob("*")):
        if any((point / mark).is_file() for mark in (bundled.ABOUT, MODEL)) or point.name == FLOOR:
            whole_files.remove_folder(point)
        elif point.suffix == ".json":
            point.unlink()
    for parts in (folder / ANSWERS).glob("*.parts"):
        whole_files.remove_folder(parts)
    for entry in [*(folder / ANSWERS).glob("*.npy"), *(folder / name for name in (SUMMARY, TABLE, PICTURE))]:
        entry.unlink(missing_ok=True)
    for part in (*runs, *students.glob("*"), students, points, folder / ANSWERS):
        with contextlib.suppress(OSError):  # It is gone already, or a user has put something into it.
            part.rmdir()


def _refuse_to_clear(folder: pathlib.Path, read: Sequence[str]) -> None:
    here = pathlib.Path(os.path.realpath(folder))
    for place in filter(None, read):
        inside = pathlib.Path(os.path.realpath(place))
        if inside.is_relative_to(here) and inside.relative_to(here).parts[:1] in ((), (STUDENTS,), (POINTS,)):
            raise UserError(
                f"workdir: --overwrite would delete {place}, which this job reads; name another --workdir, or copy it "
                "first"
            )


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """The settings and the recipe field by field, beside what has no fields."""
    found = {name: value for name, value in values.items() if name not in ("settings", "recipe")}
    return found | values["settings"] | values["recipe"]


def _shown(value: Any) -> str:
    return "nothing" if value in (None, "") else str(value)
