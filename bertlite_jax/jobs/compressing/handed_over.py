"""The folder of a point: what is served, complete, and what is known of it.

`points/NAME/` is a bundle (`convert bundle`) with integers of the trained bits, or for float32 a folder of
`convert onnx`. `points/NAME.json` has its score, and is written last: with it, the point is finished.
"""

from __future__ import annotations

import pathlib
from typing import Any

from bertlite_jax.config.compression.compress import Point
from bertlite_jax.convert import bundle, sources
from bertlite_jax.convert.onnx.folder import MODEL, write
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.host import json_files, json_shapes, whole_files
from bertlite_jax.host.json_shapes import NUMBER

POINTS = "points"
"""Folder in the work directory."""
TEACHER, FLOOR = "teacher", "words"
"""What stands beside the points there."""
TEACHER_BITS = 7
"""Of the teacher's integers, which it was not trained for."""


def write_point(run: str, out: pathlib.Path, point: Point) -> Weights:
    """Writes the folder of a point from its trained run, and returns what is served."""
    weights = sources.load(run, "compress")
    out.parent.mkdir(parents=True, exist_ok=True)
    if point.bits:
        bundle.write_bundle(weights, out, bits=point.bits, overwrite=True)
    else:
        write(weights, out, overwrite=True)
    return weights


def write_teacher(weights: Weights, out: pathlib.Path) -> None:
    """Writes the teacher as a bundle, which has it in float32 and in integers, unless it is there."""
    if not all(served_file(out, products).is_file() for products in ("float32", "int8")):
        out.parent.mkdir(parents=True, exist_ok=True)
        bundle.write_bundle(weights, out, bits=TEACHER_BITS, overwrite=True)


def served_file(folder: pathlib.Path, products: str) -> pathlib.Path:
    """The ONNX file of a folder for `float32` or `int8`."""
    return folder / (bundle.MODELS["int8"] if products == "int8" else MODEL)


def count(weights: Weights) -> int:
    """Parameters of a model."""
    return sum(value.size for value in parameters.flatten(weights.params).values())


def file_of(folder: pathlib.Path, point: Point) -> pathlib.Path:
    """The ONNX file that is served of a point, in a work directory."""
    return served_file(folder / POINTS / point.name, point.products)


# --- What is known of it ---------------------------------------------------------------------------------------------


def figures_file(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Where the figures of a point, the teacher or the floor are."""
    return folder / POINTS / f"{name}.json"


def write_figures(folder: pathlib.Path, name: str, figures: dict[str, Any]) -> None:
    """Writes them; then the point is finished."""
    path = figures_file(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole_files.write_json(path, figures)


def is_finished(folder: pathlib.Path, point: Point) -> bool:
    """Whether a point has its figures and its file."""
    return figures_file(folder, point.name).is_file() and file_of(folder, point).is_file()


def stored_figures(folder: pathlib.Path, name: str, metric: str) -> dict[str, Any] | None:
    """The figures of an earlier start; None where there are none. Raises UserError for a damaged file."""
    path = figures_file(folder, name)
    if not path.is_file():
        return None
    figures = json_files.read_object(path, "compress")
    shape = {"scores": {metric: NUMBER, ...: NUMBER}, "agreement": (*NUMBER, type(None)), "parameters": int}
    json_shapes.check(figures, shape | {"layers": int}, str(path), "compress")
    return figures
