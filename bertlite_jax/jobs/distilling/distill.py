"""`bertlite distill`: pretrains a student that learns from teachers. Read it from top to bottom.

It is the job of pretraining (`jobs/pretraining/pretrain.py`: the same corpus, packing, masks, checkpoints and resume)
with a lesson: the teachers' parameters beside the step, other losses, and first weights that come from a teacher.
"""

from __future__ import annotations

import functools
from typing import Any

from bertlite_jax.config.distillation.checks import check_distill, check_relations, check_start
from bertlite_jax.config.distillation.settings import Distill, losses_of, relation_heads
from bertlite_jax.convert.huggingface import names
from bertlite_jax.convert.weights import parameters
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.jobs.distilling import costs
from bertlite_jax.jobs.distilling.step import make_distillation
from bertlite_jax.jobs.distilling.teachers import Teacher, open_teacher
from bertlite_jax.jobs.pretraining.lesson import Lesson
from bertlite_jax.jobs.pretraining.pretrain import train
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
        loss needs, with NaN in its weights, or with fewer layers than the student would start from.
      Diverged: as `pretrain` does.
    """
    return train(config, run, open_lesson, check_distill, config.distill.teachers, overwrite)


def open_lesson(config: Distill, tokenizer: Tokenizer) -> Lesson:
    """Opens the teachers and makes the student's first weights; prints what is learnt from whom.

    Args:
      config: with all sizes.
      tokenizer: of the run.

    Raises:
      UserError: as `distill` does.
    """
    # --- Teachers ------------------------------------------------------------------------------------------------
    teachers = tuple(open_teacher(source, config, tokenizer) for source in config.distill.teachers)
    for teacher in teachers:
        print(f"distill: teacher {teacher.source}: {teacher.shape_in_words()}")
    heads = relation_heads(config, teachers[0].model)
    check_relations(config, heads, {teacher.source: teacher.model.hidden_size for teacher in teachers})
    weighed = ", ".join(f"{name} {weight:g}" for name, weight in losses_of(config).items())
    print(f"distill: losses {weighed}; temperature {config.distill.temperature:g}")

    # --- First weights ---------------------------------------------------------------------------------------------
    start, notes = first_weights(config, teachers[0])

    # --- The step, what it reads, and what it costs ----------------------------------------------------------------
    taught = tuple(teacher.reduced(config) for teacher in teachers)
    models = tuple(teacher.model for teacher in taught)
    return Lesson(
        make=functools.partial(make_distillation, teachers=tuple(teacher.described() for teacher in taught)),
        start=start,
        source=teachers[0].source,
        notes=notes,
        teachers=tuple(teacher.params for teacher in taught),
        digests={teacher.source: teacher.digest for teacher in teachers},
        flops=functools.partial(costs.step_flops, teachers=models),
        memory=functools.partial(costs.step_bytes, teachers=models),
    )


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
