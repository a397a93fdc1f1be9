"""`bertlite compress`: a fine-tuned teacher becomes a family of smaller models, from a little faster to many times.

To be read from top to bottom. For each point layers of the teacher are left out, heads and neurons are pruned, and
weights are rounded; each time what is left is trained with the teacher's answers (`students.py`). Then its folder is
written (`handed_over.py`) and its file is scored. At the end all files are timed in turns, beside the teacher in
PyTorch, in ONNX Runtime in float32 and in integers, and beside a student without an encoder, the floor. What is there
already is not made again.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from bertlite_jax.config.compression.compress import Compress, Point, check_compress, parsed, usual_points
from bertlite_jax.config.effects import replaced
from bertlite_jax.config.finetune import Finetune, Finetuned, check_finetune, check_task_model
from bertlite_jax.config.int8 import Quantise
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, whole_files
from bertlite_jax.jobs.benchmarks import sample_rows
from bertlite_jax.jobs.compressing import (
    agreement,
    compress_workdir,
    cost_plan,
    floor,
    handed_over,
    latency,
    measure,
    served_scores,
    students,
)
from bertlite_jax.jobs.compressing.compress_workdir import Decided
from bertlite_jax.jobs.compressing.prune import recipe_of
from bertlite_jax.jobs.compressing.students import Plan
from bertlite_jax.jobs.finetuning import own_data
from bertlite_jax.jobs.finetuning.finetune import read_by
from bertlite_jax.jobs.finetuning.prepare import prepare
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.jobs.runs import one_job
from bertlite_jax.report.tasks import compression
from bertlite_jax.train.compression import choice, pruning


def recipe_of_students(config: Finetuned, run: str) -> Finetune:
    """The recipe with which students of a run are trained: the run's, with the run as teacher, in floats."""
    return replaced(replaced(recipe_of(config), "learn.teacher", run), "quantise.bits", 0)


def compress(
    config: Finetune, settings: Compress, run: str, out: str, dry_run: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """Makes what is missing of a family, and measures it.

    Args:
      config: the recipe of all trainings, as `recipe_of_students` or with other values.
      settings: which models are made.
      run: work directory of the fine-tuning run whose best model is compressed.
      out: work directory of the family.
      dry_run: only print the points and what they will cost; nothing is written.
      overwrite: delete the family that the directory holds, and make everything again.

    Returns:
      The content of `summary.json`: what was measured, and `models`, the teacher first. If a signal stopped a run, what
      `finetune` returned for it. {} for a dry run.

    Raises:
      UserError: anything that is wrong before the first training; then nothing is written.
    """
    _check_recipe(config)
    with adoption.open_weights(run, "compress") as weights:
        _check_teacher(weights, run)
        check_compress(settings, weights.model, cpu.cores())
        if settings.over:
            sample_rows.known_preset(settings.over, "compress: --over")
        if dry_run:
            planned = _planned(config, settings, weights, run, out, overwrite)
            cost_plan.show(planned.plan, planned.setup, overwrite)
            return {}
        with one_job.alone_in(out, of_runs=True):
            plan, setup, source, decided = _planned(config, settings, weights, run, out, overwrite)
            if overwrite and (plan.folder / compress_workdir.SOURCE).is_file():
                compress_workdir.clear(plan.folder, (run, *read_by(setup.start.config)))
            compress_workdir.write_source(plan.folder, source, decided)
            return _compress(plan, setup)


def _compress(plan: Plan, setup: Setup) -> dict[str, Any]:
    # --- The teacher, and the floor ----------------------------------------------------------------------------------
    teacher, points = plan.teacher, plan.folder / handed_over.POINTS
    score = _scoring(plan, setup)
    handed_over.write_teacher(teacher, points / handed_over.TEACHER)
    size, layers = handed_over.count(teacher), teacher.model.num_layers
    for products in ("float32", "int8"):
        served = handed_over.served_file(points / handed_over.TEACHER, products)
        score(f"{handed_over.TEACHER}-{products}", served, lambda: (size, layers))
    if floor.is_for(teacher):
        path = points / handed_over.FLOOR / floor.MODEL
        score(handed_over.FLOOR, path, lambda: (floor.train(teacher, setup, path), 0))

    # --- The points --------------------------------------------------------------------------------------------------
    for number, point in enumerate(plan.points, 1):
        file = handed_over.file_of(plan.folder, point)
        if _is_stored(plan, setup, point.name, file):
            continue
        print(f"compress: {point.name}, {number} of {len(plan.points)} models", flush=True)
        figures = students.train(plan, point)
        if "stopped" in figures:
            return figures
        score(point.name, file, lambda point=point: _handed_over(plan, point))

    # --- How fast they are, the table, the picture -------------------------------------------------------------------
    summary = measure.family(plan, setup)
    whole_files.write_text(plan.folder / compress_workdir.TABLE, compression.markdown(summary))
    whole_files.write_bytes(plan.folder / compress_workdir.PICTURE, compression.picture(summary, "png"))
    whole_files.write_json(plan.folder / compress_workdir.SUMMARY, summary)
    return summary


# --- Before anything is written --------------------------------------------------------------------------------------


def _check_recipe(config: Finetune) -> None:
    """Raises UserError for a recipe that students cannot be trained with."""
    if config.quantise != Quantise():
        name = "bits" if config.quantise.bits else "noise"
        raise UserError(f"compress: --quantise.{name} has no effect: each of --points says its bits, and rounds all")
    check_finetune(config)
    if config.learn.domains:
        raise UserError("compress: learn.domains needs layers of one shape; fine-tune without --learn.domains first")
    if not config.adapt.keep_head:
        raise UserError("compress: adapt.keep_head must stay on: students start with the teacher's head")


def _check_teacher(weights: Weights, run: str) -> None:
    """Raises UserError for a model that cannot be compressed."""
    if weights.head is None:
        raise UserError(f"compress: {run} has no task head; name a model that bertlite finetune has trained")
    if weights.head.conditioned:
        raise UserError(f"compress: {run} has head.span = conditioned; fine-tune with --head.span independent")
    if weights.trained_bits:
        raise UserError(
            f"compress: {run} was trained for integers of {weights.trained_bits} bits; name the run in floats that it "
            "started from"
        )


class Planned(NamedTuple):
    """What is known before anything is written."""

    plan: Plan
    setup: Setup
    """Of the task."""
    source: dict[str, Any]
    """What `compress.json` compares."""
    decided: Decided
    """What it holds besides."""


def _planned(config: Finetune, settings: Compress, weights: Weights, run: str, out: str, overwrite: bool) -> Planned:
    """Reads the task, decides which points there are, and checks that each can be made. Writes nothing."""
    folder = pathlib.Path(out)
    compress_workdir.refuse_foreign(folder)
    setup = prepare(own_data.decided(config, out, overwrite), weights, run)
    setup = setup._replace(extra=setup.extra._replace(answers=folder / students.ANSWERS))
    teacher = _exported(weights, setup)
    source = compress_workdir.source_of(config, settings, setup, run, teacher)
    before = Decided() if overwrite else compress_workdir.decided_in(folder, source)
    names = settings.points or before.usual
    points = tuple(map(parsed, names)) or usual_points(teacher.model)
    plan = Plan(config, settings, run, teacher, folder, points, before.latencies)
    _check_trainable(plan, setup)
    plan = _reachable(plan, setup, not names)
    usual = before.usual if settings.points else tuple(point.name for point in plan.points)
    return Planned(plan, setup, source, Decided(usual, plan.latencies))


def _exported(weights: Weights, setup: Setup) -> Weights:
    """The teacher as exports have it, with its outputs in the order of the task's labels."""
    config = setup.start.config
    head = dataclasses.replace(config.head, splits=setup.splits)
    params = parameters.nest(parameters.exported(setup.start.params, config.model))
    return dataclasses.replace(weights, params=params, model=config.model.exported, head=head)


def _check_trainable(plan: Plan, setup: Setup) -> None:
    """Raises UserError for the first point that one of its trainings would refuse."""
    shapes = {plan.teacher.model.num_layers: plan.teacher.model}
    for point in plan.points:
        if point.layers < plan.teacher.model.num_layers or point.speed_up > 1:
            pruning.check_prunable(plan.teacher.model, f"compress: {plan.run}")
        if point.layers not in shapes:
            shapes[point.layers] = students.cut(plan.teacher, point.layers, plan.settings.keep).model
        rounded = students.rounded_recipe(setup.start.config, plan.settings.rounding_rate, point.bits)
        check_finetune(dataclasses.replace(plan.config, quantise=rounded.quantise))
        check_task_model(dataclasses.replace(rounded, model=shapes[point.layers]))


def _reachable(plan: Plan, setup: Setup, is_usual: bool) -> Plan:
    """The plan with a table of latencies for each kind of student, and the points that can become so fast by it.

    A point that cannot is left out if it is a usual one.

    Raises:
      UserError: one that was asked for cannot.
    """
    length = plan.settings.length or setup.start.config.data.length
    tables, greatest = dict(plan.latencies), dict[str, float]()
    reachable = []
    for point in plan.points:
        kind = students.kind_of(point)
        if point.speed_up > 1 and kind not in greatest:
            left = students.cut(plan.teacher, point.layers, plan.settings.keep)
            if kind not in tables:
                tables[kind] = latency.table_of(left, students.pruning_settings(plan, point), length, print)
            greatest[kind] = choice.greatest_speed_up(left.model, tables[kind])
        if point.speed_up > 1 and point.speed_up > greatest[kind]:
            whole = dataclasses.replace(point, speed_up=1.0).name
            line = f"with {length} tokens, {whole} can become at most {greatest[kind]:g} times as fast here"
            if not is_usual:
                raise UserError(f"compress: --points {point.name} cannot be reached: {line}")
            print(f"compress: {point.name} is left out: {line}")
            continue
        reachable.append(point)
    return plan._replace(points=tuple(reachable), latencies=tables)


# --- Scores ----------------------------------------------------------------------------------------------------------


Making = Callable[[], tuple[int, int]]
"""Writes a model's ONNX file, if it is not there; returns parameters and layers."""


def _scoring(plan: Plan, setup: Setup) -> Callable[[str, pathlib.Path, Making], None]:
    """A function that makes and scores a file, and stores its figures under a name, unless both are there."""
    head = plan.teacher.head
    assert head is not None
    whole = handed_over.served_file(plan.folder / handed_over.POINTS / handed_over.TEACHER, "float32")
    of_teacher = functools.cache(lambda: served_scores.judge(whole, plan.teacher, setup))

    def score(name: str, file: pathlib.Path, make: Making) -> None:
        if _is_stored(plan, setup, name, file):
            return
        size, layers = make()
        judged = of_teacher() if file == whole else served_scores.judge(file, plan.teacher, setup)
        same = agreement.agreement(judged, of_teacher(), head)
        figures = {"scores": judged.figures, "agreement": same, "parameters": size, "layers": layers}
        handed_over.write_figures(plan.folder, name, figures)
        shown = ", ".join(f"{metric} {value:.4f}" for metric, value in judged.figures.items())
        print(f"compress: {name}: {shown}", flush=True)

    return score


def _is_stored(plan: Plan, setup: Setup, name: str, file: pathlib.Path) -> bool:
    stored = handed_over.stored_figures(plan.folder, name, setup.task.metrics[0])
    return stored is not None and file.is_file()


def _handed_over(plan: Plan, point: Point) -> tuple[int, int]:
    place = plan.folder / handed_over.POINTS / point.name
    weights = handed_over.write_point(str(students.trainings(plan, point)[-1].run), place, point)
    return handed_over.count(weights), weights.model.num_layers
