"""The work directory of pruning: the table of latencies, and the models that were chosen by it.

All models of a directory come from one table, which `latencies.json` holds together with what it was measured for. A
model of another table cannot be told by its name, so that a directory is refused or cleared as a whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bertlite_jax.config.compression.prune import Prune
from bertlite_jax.convert.weights.folder import FILE, Weights
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, json_files, json_shapes, whole_files
from bertlite_jax.host.json_shapes import NUMBER
from bertlite_jax.jobs.runs import one_job, several, workdir
from bertlite_jax.train.compression.choice import Latencies

TABLE = "latencies.json"
"""The first file that is written into a directory, and the last that is replaced."""
IMPORTANCE = "importance.json"
"""What the whole model is worth: its scores, and the importance of heads and layers."""
SUMMARY = "summary.json"
"""What all models are worth and take."""
_PRUNED = "-pruned"
_RUN = re.compile(r"\d[\d.e+-]*x")
"""Names of `run_of`."""
SHAPE = {"heads": [NUMBER], "widths": [int], "neurons": [NUMBER], "layer": NUMBER, "rest": NUMBER}
"""Of a table as JSON."""


def run_of(folder: pathlib.Path, speed_up: float) -> pathlib.Path:
    """The fine-tuning run of what is left for a speed-up: `2x`."""
    return folder / f"{speed_up:g}x"


def pruned_of(folder: pathlib.Path, speed_up: float) -> pathlib.Path:
    """The model as pruning left it: `2x-pruned`."""
    return folder / f"{speed_up:g}x{_PRUNED}"


def source_of(settings: Prune, weights: Weights, run: pathlib.Path, length: int) -> dict[str, Any]:
    """What a table is measured for, and what models are chosen by it."""
    return {
        "cpu": cpu.name(),
        "run": str(run.resolve()),
        "model": dataclasses.asdict(weights.model),
        "weights": weights.digest(),
        "length": length,
        "threads": settings.threads,
        "products": settings.products,
        "examples": settings.examples,
    }


def refuse_foreign(folder: pathlib.Path) -> None:
    """Raises UserError for a directory that holds something else than pruned models; it may be empty or absent."""
    several.refuse_other_content(folder, TABLE, "prune", f"{TABLE} of pruning")


def stored_table(folder: pathlib.Path, source: dict[str, Any]) -> Latencies | None:
    """The table of an earlier start; None where there is none.

    Raises:
      UserError: it is damaged, or of another model, machine or text: then the models beside it are not what is asked
        for now.
    """
    path = folder / TABLE
    if not path.is_file():
        return None
    held = json_files.read_object(path, "prune")
    json_shapes.check(held, SHAPE, str(path), "prune")
    now = json.loads(json.dumps(source))  # Tuples as lists.
    for name, value in now.items():
        if held.get(name) != value:
            with_what = f"with {name} = {held.get(name)}, and this is {value}"
            how = "from another model" if name in ("model", "weights") else with_what
            raise UserError(
                f"workdir: {folder} holds models that were pruned {how}; name another --workdir, or pass --overwrite "
                "to start again"
            )
    return from_json(held)


def write_table(folder: pathlib.Path, source: dict[str, Any], latencies: Latencies) -> None:
    """Writes `latencies.json`."""
    whole_files.write_json(folder / TABLE, source | as_json(latencies))


def as_json(latencies: Latencies) -> dict[str, Any]:
    """A table as JSON, of the shape `SHAPE`."""
    return {name: np.asarray(value).tolist() for name, value in latencies._asdict().items()}


def from_json(values: Mapping[str, Any]) -> Latencies:
    """The table that `as_json` has stored, whatever stands beside it."""
    arrays = {name: np.asarray(values[name]) for name in ("heads", "widths", "neurons")}
    return Latencies(**arrays, layer=values["layer"], rest=values["rest"])


def clear(folder: pathlib.Path, read: Sequence[str]) -> None:
    """Removes the models of an earlier table, for whichever speed-ups: the next table will choose others.

    The table itself stays until `write_table` replaces it, so that a start after a kill still knows whose the remaining
    models are.

    Args:
      folder: exists.
      read: files and folders that are read now, and must not be deleted.

    Raises:
      UserError: one of them is among the models, or another job is at work in a run. Nothing is removed then.
    """
    whole_files.remove_leftovers(folder)
    entries = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.is_symlink()]
    runs = [entry for entry in entries if _RUN.fullmatch(entry.name) and (entry / workdir.CONFIG).is_file()]
    with contextlib.ExitStack() as alone:
        for run in runs:
            alone.enter_context(one_job.alone_in(run))
            workdir.refuse_to_clear(run, read)
        for run in runs:
            workdir.clear(run)
    for name in (SUMMARY, IMPORTANCE):
        (folder / name).unlink(missing_ok=True)
    for entry in entries:
        if entry in runs and not any(entry.iterdir()):
            entry.rmdir()
        elif _RUN.fullmatch(entry.name.removesuffix(_PRUNED)) and (entry / FILE).is_file():
            whole_files.remove_folder(entry)
