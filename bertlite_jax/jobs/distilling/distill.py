"""`bertlite distill`: pretrains a student that learns from teachers. Read it from top to bottom.

It is the job of pretraining (`jobs/pretraining/pretrain.py`: the same corpus, packing, masks, checkpoints and resume)
with a lesson: the teachers' parameters beside the step, other losses, and first weights that come from a teacher. What
the teachers say may come from a store that `bertlite teach` wrote.
"""

from __future__ import annotations

import functools
from typing import Any

from bertlite_jax.config.distillation.checks import check_distill, check_start
from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.convert.huggingface import names
from bertlite_jax.convert.weights import parameters
from bertlite_jax.data.teaching import records
from bertlite_jax.jobs.distilling import costs
from bertlite_jax.jobs.distilling.step import make_distillation
from bertlite_jax.jobs.distilling.stored import open_stored
from bertlite_jax.jobs.distilling.teachers import Teacher, open_teachers
from bertlite_jax.jobs.pretraining.lesson import Lesson
from bertlite_jax.jobs.pretraining.opening import Opened
from bertlite_jax.jobs.pretraining.pretrain import train
from bertlite_jax.model.ops.precision import activation_dtype
from bertlite_jax.train.distillation import initialisation


def distill(config: Distill, run: str, overwrite: bool = False) -> dict[str, Any]:
    """Starts the run in a work directory, or resumes it.

    Args:
      config: everything that the run depends on; `distill.teachers` names its teachers.
      run: the work directory, with the same files as that of pretraining.
      overwrite: delete a run that the directory holds, and start from step 0.

    Returns:
      As `pretrain` does.

    Raises:
      UserError: anything that is wrong before the first step: a teacher with another tokenizer, without a head that a
        loss needs, with NaN in its weights, or with fewer layers than the student would start from; a store of other
        rows, masks, teachers or losses.
      Diverged: as `pretrain` does.
    """
    return train(config, run, open_lesson, check_distill, (*config.distill.teachers, config.distill.store), overwrite)


def open_lesson(opened: Opened) -> Lesson:
    """Opens the teachers and makes the student's first weights; prints what is learnt from whom.

    With `distill.store` the teachers are opened too, to see that the store is theirs and to start from them; but the
    step gets what the store says of its rows, and not their parameters.

    Args:
      opened: the run.

    Raises:
      UserError: as `distill` does.
    """
    # --- Teachers, and what is stored of them ------------------------------------------------------------------------
    config = opened.config
    teachers = open_teachers(config, opened.tokenizer)
    folder = config.distill.store
    stored = open_stored(opened, teachers) if folder else None

    # --- First weights ---------------------------------------------------------------------------------------------
    start, notes = first_weights(config, teachers[0])

    # --- The step, what it reads, and what it costs ----------------------------------------------------------------
    taught = tuple(teacher.reduced(config) for teacher in teachers)
    described, layouts = tuple(teacher.described() for teacher in taught), stored.layouts if stored else {}
    live = () if stored else tuple(teacher.model for teacher in taught)
    sizes = {length: records.record_bytes(layout) for length, layout in layouts.items()}
    width = activation_dtype(opened.in_floats).name
    lesson = Lesson(
        make=functools.partial(make_distillation, teachers=described, stored=layouts, in_floats=opened.in_floats),
        start=start,
        source=teachers[0].source,
        notes=notes,
        teachers=() if stored else tuple(teacher.params for teacher in taught),
        digests={teacher.source: teacher.digest for teacher in teachers},
        flops=functools.partial(costs.step_flops, teachers=live),
        memory=functools.partial(costs.step_bytes, teachers=live, stored=sizes, teachers_compute=width),
    )
    return lesson._replace(stores={folder: stored.digest}, beside=stored.beside) if stored else lesson


def first_weights(config: Distill, teacher: Teacher) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The student's parameters as `distill.start` takes them from the teacher, and lines about it.

    Returns:
      Nested arrays, in which parts that the teacher lacks are missing; None where all is drawn.

    Raises:
      UserError: the two shapes do not allow it.
    """
    student = config.model
    check_start(config, teacher.model, teacher.source)
    if config.distill.start == "random":
        return None, ("distill: the student starts from random weights",)
    layers = initialisation.layer_map(config.distill.start, student.num_layers, teacher.model.num_layers)
    flat, unshared = names.unshare(parameters.exported(teacher.params, teacher.model), teacher.model.exported)
    made = parameters.nest(initialisation.student_params(flat, unshared, student, layers))
    params = parameters.rescaled(parameters.pad_vocabulary(made, student), student.exported, student)
    lines = initialisation.table(layers, student, teacher.source)
    return params, tuple(f"distill: {line}" for line in lines)
