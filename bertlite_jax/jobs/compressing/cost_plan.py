"""What a family would be, and about how long it takes: `bertlite compress --dry-run`."""

from __future__ import annotations

import pathlib

from rich import box
from rich.table import Table

from bertlite_jax.config.compression.compress import Point
from bertlite_jax.host import json_files, json_shapes
from bertlite_jax.host.json_shapes import NUMBER
from bertlite_jax.jobs.compressing import handed_over, students
from bertlite_jax.jobs.compressing.students import Plan, Training
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.report import terminal
from bertlite_jax.report.run.metrics import clock_time

_FORWARD = 1 / 3
"""Share of a training step that an answer takes."""


def show(plan: Plan, setup: Setup, overwrite: bool) -> None:
    """Prints a row for each point with the trainings that it needs beside those of the points before it.

    Args:
      plan: of the family.
      setup: of the task.
      overwrite: all of it is made again.
    """
    table = Table(title=f"Plan of {plan.folder}", box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for heading in ("model", "layers", "pruned", "weights", "to train", "steps", "about"):
        table.add_column(heading, justify="right" if heading in ("layers", "steps", "about") else "left", no_wrap=True)
    pace, seen, total, runs = _examples_per_second(plan.run), set[Training](), 0.0, 0
    for point in plan.points:
        left = [each for each in students.trainings(plan, point) if each not in seen]
        if not overwrite:
            made = handed_over.is_finished(plan.folder, point)
            left = [] if made else [each for each in left if not each.is_done]
        seen |= set(left)
        seconds = sum(seconds_of(plan, setup, point, training, pace) for training in left) if pace else 0.0
        total, runs = total + seconds, runs + len(left)
        table.add_row(
            *(point.name, str(point.layers), f"{point.speed_up:g}x" if point.speed_up > 1 else "no"),
            f"{point.bits} bits" if point.bits else "float32",
            ", ".join(each.name for each in left) or "nothing",
            f"{setup.steps * len(left):,}",
            clock_time(seconds) if pace and left else "" if pace else "?",
        )
    terminal.open_console().print(table)
    examples = len(setup.train.encoded.sizes) * (1 + plan.config.learn.copies)
    if pace:
        total += _FORWARD * examples / pace if runs else 0.0
        print(
            f"compress: {_trainings(runs)}, about {clock_time(total)} in all at the {pace:,.1f} examples a second of "
            f"{plan.run}, with the teacher's answers to {examples:,} texts; evaluations, files and what rounding adds "
            "to a step are not counted"
        )
    else:
        print(f"compress: {_trainings(runs)}; {plan.run} does not say its examples a second, so the time is not known")


def _trainings(count: int) -> str:
    return "1 training" if count == 1 else f"{count} trainings"


def seconds_of(plan: Plan, setup: Setup, point: Point, training: Training, pace: float) -> float:
    """About how long a training takes, at the pace of the teacher's own: in proportion to the layers that are left.

    Args:
      plan: of the family.
      setup: of the task.
      point: that the training is for.
      training: one of its.
      pace: examples a second of the teacher's training.
    """
    share = point.layers / plan.teacher.model.num_layers
    if training.name != "layers":
        share /= point.speed_up
    learn, data = plan.config.learn, plan.config.data
    batch = data.batch_examples + (learn.unlabelled_batch if learn.reads_unlabelled else 0)
    return setup.steps * batch * share / pace


def _examples_per_second(run: str) -> float | None:
    """Of the teacher's training; None where its summary does not say it."""
    path = pathlib.Path(run) / "summary.json"
    if not path.is_file():
        return None
    summary = json_files.read_object(path, "compress")
    json_shapes.check(summary, {"examples_per_second?": (*NUMBER, type(None))}, str(path), "compress")
    return summary.get("examples_per_second") or None
