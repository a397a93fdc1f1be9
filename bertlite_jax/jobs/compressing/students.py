"""From a teacher to a student: layers go, heads and neurons go, weights are rounded, and each time it is trained.

Every training is a run of `finetune` in `students/`, with the answers of the teacher, which all of them share. Points
share the steps that they have in common: `6-2x-7bit` and `6-2x-4bit` start from the same `6-2x`. A run that is finished
is not opened again, and one that was killed resumes.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from bertlite_jax.config.compression.compress import Compress, Point
from bertlite_jax.config.compression.prune import Prune
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.int8 import Quantise
from bertlite_jax.convert.weights.folder import FILE, Weights, save_weights
from bertlite_jax.jobs.compressing import family
from bertlite_jax.jobs.compressing.prune import prune
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.train.compression import pruning
from bertlite_jax.train.compression.choice import Latencies
from bertlite_jax.train.distillation import initialisation

STUDENTS = "students"
"""Folder of the runs in the work directory."""
ANSWERS = "answers"
"""Folder of what the teacher answers there."""
START, PRUNED = "-start", "-pruned-"
"""Behind the number of layers: the weights that a student starts from, and the work directory of pruning."""


Recipe = TypeVar("Recipe", bound=Finetune)


class Plan(NamedTuple):
    """What all points of a family have in common."""

    config: Finetune
    """The recipe of each training in floats."""
    settings: Compress
    run: str
    """Of the teacher."""
    teacher: Weights
    """As exports have it, its outputs in the order of the task's labels."""
    folder: pathlib.Path
    """The work directory."""
    points: tuple[Point, ...]
    latencies: Mapping[str, Latencies]
    """Of each kind of student that is pruned, named by `kind_of`: which points can be reached, and what goes."""


class Training(NamedTuple):
    """One training on the way to a point."""

    name: str
    run: pathlib.Path

    @property
    def is_done(self) -> bool:
        """Whether the run is finished."""
        return (self.run / "summary.json").is_file()


def trainings(plan: Plan, point: Point) -> list[Training]:
    """All of them, in their order; the last one's best model is the point's."""
    students, found = plan.folder / STUDENTS, []
    if point.layers < plan.teacher.model.num_layers:
        found.append(Training("layers", students / f"{point.layers}"))
    if point.speed_up > 1:
        found.append(Training("pruning", family.run_of(_pruning(plan, point), point.speed_up)))
    if point.bits:
        found.append(Training("rounding", students / point.name))
    return found


def train(plan: Plan, point: Point) -> dict[str, Any]:
    """Trains what is missing for a point.

    Returns:
      The summary of the last training; of one that a signal stopped, what `finetune` returns.
    """
    init, figures = plan.run, {}
    for training in trainings(plan, point):
        if not training.is_done:
            print(f"compress: {point.name}: {training.name} in {training.run}", flush=True)
            figures = _STEPS[training.name](plan, point, training, init)
            if "stopped" in figures:
                return figures
        init = str(training.run)
    return figures


def speed_ups(plan: Plan, point: Point) -> tuple[float, ...]:
    """To which the student with so many layers is pruned in the arithmetic of a point, for any of the family."""
    alike = [other for other in plan.points if kind_of(other) == kind_of(point)]
    return tuple(sorted({other.speed_up for other in alike if other.speed_up > 1}))


def pruning_settings(plan: Plan, point: Point) -> Prune:
    """How the student with so many layers is pruned for all points that are served in the same arithmetic."""
    settings = plan.settings
    return Prune(
        speed_up=speed_ups(plan, point),
        examples=settings.examples,
        length=settings.length,
        threads=settings.threads,
        products=point.products,
    )


def kind_of(point: Point) -> str:
    """The layers and the arithmetic that a point has in common with all that are pruned together: `6-int8`."""
    return f"{point.layers}-{point.products}"


def cut(teacher: Weights, layers: int, keep: str) -> Weights:
    """A model of some of the teacher's layers; of each group that shares equally many.

    Args:
      teacher: as exports have it.
      layers: of the student; a multiple of the groups.
      keep: as `Compress.keep`.
    """
    model = teacher.model
    ours, theirs = layers // model.share_groups, model.num_layers // model.share_groups
    places = [place for (place,) in initialisation.layer_map(keep, ours, theirs)]
    kept = tuple(group * theirs + place for group in range(model.share_groups) for place in places)
    params, left = pruning.prune(teacher.params, model, pruning.everything(model)._replace(layers=kept))
    return dataclasses.replace(teacher, params=params, model=left)


def rounded_recipe(config: Recipe, rate: float, bits: Any) -> Recipe:
    """The recipe of the training with rounded weights."""
    optim = dataclasses.replace(config.optim, learning_rate=rate * config.optim.learning_rate)
    return dataclasses.replace(config, optim=optim, quantise=Quantise(bits))


# --- Steps -----------------------------------------------------------------------------------------------------------


def _fewer_layers(plan: Plan, point: Point, training: Training, init: str) -> dict[str, Any]:
    del init
    start = training.run.with_name(f"{point.layers}{START}")
    if not (start / FILE).is_file():
        save_weights(cut(plan.teacher, point.layers, plan.settings.keep), start)
    return finetune(plan.config, str(training.run), str(start), False, _answers(plan))


def _fewer_parts(plan: Plan, point: Point, training: Training, init: str) -> dict[str, Any]:
    del training
    place, table = _pruning(plan, point), plan.latencies[kind_of(point)]
    return prune(plan.config, pruning_settings(plan, point), init, str(place), False, _answers(plan), table)


def _fewer_bits(plan: Plan, point: Point, training: Training, init: str) -> dict[str, Any]:
    config = rounded_recipe(plan.config, plan.settings.rounding_rate, point.bits)
    return finetune(config, str(training.run), init, False, _answers(plan))


_STEPS = {"layers": _fewer_layers, "pruning": _fewer_parts, "rounding": _fewer_bits}


def _pruning(plan: Plan, point: Point) -> pathlib.Path:
    return plan.folder / STUDENTS / f"{point.layers}{PRUNED}{point.products}"


def _answers(plan: Plan) -> pathlib.Path:
    return plan.folder / ANSWERS
