"""How fast the models of a family answer one text, beside the teacher in PyTorch and in ONNX Runtime.

As in `bench infer`: each has a process of its own, and they take turns.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import tempfile
from typing import Any, Literal, NamedTuple

from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu
from bertlite_jax.jobs.benchmarks import sample_rows
from bertlite_jax.jobs.benchmarks.runtimes import catalogue, turns
from bertlite_jax.jobs.benchmarks.runtimes.onnx_files import load_onnxruntime
from bertlite_jax.jobs.benchmarks.runtimes.process import Batch, Load
from bertlite_jax.jobs.benchmarks.runtimes.runtime import Runtime, task_of
from bertlite_jax.jobs.compressing import floor, handed_over
from bertlite_jax.jobs.compressing.students import Plan
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.report import terminal

PYTORCH = "torch-f32"


def pytorch(weights: Weights, folder: pathlib.Path, name: str = "PyTorch float32") -> tuple[Runtime | None, str]:
    """A model in `transformers`, or None and why it cannot be timed there.

    Args:
      weights: are written as a folder of `transformers`.
      folder: gets that folder.
      name: of the runtime.
    """
    chosen, skipped = catalogue.choose((PYTORCH,), task=task_of(weights))
    if not chosen:
        return None, skipped[0]
    try:
        path, load = chosen[0].prepare(weights, folder, [])
    except UserError as error:  # No class of transformers holds it.
        return None, f"{PYTORCH} is skipped: {str(error).removeprefix('convert: to-hf: ')}"
    return _ready(name, path, load), ""


def of_shape(name: str, teacher: Weights) -> Weights:
    """Random weights of a published shape, with the teacher's head and room for the texts that the teacher reads.

    Raises:
      UserError: no preset has that name.
    """
    model, least = sample_rows.known_preset(name, "compress: --over"), teacher.model
    pieces, positions = max(model.vocab_size, least.vocab_size), max(model.max_positions, least.max_positions)
    model = dataclasses.replace(model, vocab_size=pieces, max_positions=positions)
    return sample_rows.random_weights(model, teacher.head)


def of_file(name: str, path: pathlib.Path, teacher: Weights) -> Runtime:
    """An ONNX file that is there, in ONNX Runtime."""
    return _ready(name, path, functools.partial(load_onnxruntime, str(path), task_of(teacher)))


def _ready(name: str, path: pathlib.Path, load: Load) -> Runtime:
    def prepare(source: Weights, folder: pathlib.Path, texts: list[Batch]) -> tuple[pathlib.Path, Load]:
        del source, folder, texts
        return path, load

    return Runtime(name, "a file that is there", (), prepare)


class Listed(NamedTuple):
    """A model in the table."""

    name: str
    kind: Literal["teacher", "point", "floor"]
    figures: str
    """Name of its stored figures."""
    folder: pathlib.Path
    file: pathlib.Path
    """In ONNX."""


def listed(plan: Plan) -> list[Listed]:
    """All models with files: the teacher, the points, and the floor where there is one."""
    points, found = plan.folder / handed_over.POINTS, []
    whole = points / handed_over.TEACHER
    for name, products in (("ONNX float32", "float32"), ("ONNX INT8", "int8")):
        file = handed_over.served_file(whole, products)
        found.append(Listed(name, "teacher", f"{handed_over.TEACHER}-{products}", whole, file))
    for point in plan.points:
        file = handed_over.file_of(plan.folder, point)
        found.append(Listed(point.name, "point", point.name, points / point.name, file))
    if floor.is_for(plan.teacher):
        place = points / handed_over.FLOOR
        found.append(Listed("mean of word vectors", "floor", handed_over.FLOOR, place, place / floor.MODEL))
    return found


def _row(folder: pathlib.Path, model: Listed, metric: str, measured: dict[str, float]) -> dict[str, Any]:
    """A row of the summary: what is measured now, and what was written of the model when it was scored."""
    figures = handed_over.stored_figures(folder, model.figures, metric)
    assert figures is not None
    return {
        "name": model.name,
        "kind": model.kind,
        metric: figures["scores"][metric],
        "agreement": figures["agreement"],
        **measured,
        "parameters": figures["parameters"],
        "layers": figures["layers"],
        "folder": str(model.folder),
    }


def family(plan: Plan, setup: Setup) -> dict[str, Any]:
    """Times all models in turns. Returns the content of `summary.json`."""
    models = listed(plan)
    runtimes = [of_file(each.name, each.file, plan.teacher) for each in models]
    length = plan.settings.length or setup.start.config.data.length
    shape = (plan.settings.threads, length, 1)
    with tempfile.TemporaryDirectory(prefix="bertlite-compress-") as scratch:
        reference, note = pytorch(plan.teacher, pathlib.Path(scratch) / "teacher")
        if reference:
            runtimes = [reference, *runtimes]
            models = [models[0]._replace(name=reference.name), *models]
        other = None
        if plan.settings.over:
            shown = of_shape(plan.settings.over, plan.teacher)
            other, missing = pytorch(shown, pathlib.Path(scratch) / "over", f"{plan.settings.over} in PyTorch float32")
            note = note or missing
            runtimes = [other, *runtimes] if other else runtimes
        entries = turns.time_runtimes(plan.teacher, runtimes, [shape], plan.settings.rounds, terminal.open_console())
    metric, first = setup.task.metrics[0], entries[0].timed[shape].fastest
    rows = []
    for model, entry in zip(models, entries[1:] if other else entries, strict=True):
        seconds = entry.timed[shape].fastest
        measured = {"milliseconds": 1e3 * seconds, "speed_up": first / seconds, "bytes": entry.file_bytes}
        rows.append(_row(plan.folder, model, metric, measured))
    return {
        "task": setup.task.name,
        "metric": metric,
        "compressed_from": plan.run,
        "reference": models[0].name,
        "over": plan.settings.over if other else "",
        "over_milliseconds": 1e3 * first if other else None,
        "note": note,
        "length": length,
        "threads": plan.settings.threads,
        "cpu": cpu.name(),
        "models": rows,
    }
