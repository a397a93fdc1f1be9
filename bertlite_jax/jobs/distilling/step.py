"""The parts of a distillation step: the student that learns, the teachers that show it what to learn, or a store."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from bertlite_jax.config.distillation.settings import Distill, relation_heads
from bertlite_jax.data.teaching import records
from bertlite_jax.jobs.distilling import requests
from bertlite_jax.jobs.distilling.teachers import Teacher
from bertlite_jax.jobs.pretraining.step import Pretraining, assemble, follows_from, init_params
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.observed import observe
from bertlite_jax.model.ops import precision
from bertlite_jax.model.ops.precision import Compute
from bertlite_jax.model.weight_noise import noised
from bertlite_jax.train import sharding
from bertlite_jax.train.distillation import objective, targets
from bertlite_jax.train.step import Batch, step_key, with_noise

_OWN_KEY = 1 << 20
"""Where the run's own parameters are drawn, apart from those of the model."""


Answers = Callable[[tuple[Any, tuple[Any, ...]], Batch], dict[str, jax.Array]]
"""((updates so far, parameters of each teacher), rows of a step) -> what a store has of them, [B, ...] each."""


def make_distillation(
    config: Distill,
    compute: Compute,
    mesh: jax.sharding.Mesh,
    special_ids: Mapping[str, int],
    scaled_for: int = 0,
    *,
    teachers: Sequence[Teacher],
    stored: Mapping[int, records.Layout] = {},
    in_floats: Compute,
) -> Pretraining:
    """Builds the step that a config describes, as `make_pretraining` does.

    With a store the step has no teachers: their parameters are no argument of it, and it computes nothing of theirs.

    Args:
      config: of the run.
      compute: precision of the student's products; those of integers are those of the file that it is trained for.
      mesh: devices that share the rows; the teachers' parameters are split over them by the same rules.
      special_ids: the tokenizer's special tokens, name to id.
      scaled_for: batch rows that the learning rate is scaled for; 0: `data.batch_rows`.
      teachers: of the run, `reduced`; shapes of their parameters are enough.
      stored: by row length, what the losses read of a store in their place.
      in_floats: precision of the teachers' products; that of the student, where it is trained for floats.
    """
    model, first = PretrainingModel(config.model, compute), teachers[0].model
    noise = config.quantise.noise
    learner = PretrainingModel(config.model, precision.noisy(compute)) if noise else model
    student = functools.partial(observe, learner, requests.of_student(config))
    models = [teacher.model for teacher in teachers]
    live = () if stored else teachers

    def init(key: jax.Array) -> Any:
        if not objective.projects(config):
            return init_params(model, key)
        own_key = jax.random.fold_in(key, _OWN_KEY)
        widths = config.model.hidden_size, first.hidden_size
        return init_params(model, key) | objective.init_own(own_key, *widths, config.model.init_std)

    prepare = objective.make_prepare(config, special_ids)
    loss = objective.make_loss(
        student, observers(config, in_floats, live), models, config, relation_heads(config, first)
    )
    if noise:
        loss = with_noise(loss, lambda params, key: noised(params, config.model, config.quantise, key))
    layouts = tuple(sharding.layout(teacher.params, mesh) for teacher in live)
    made = assemble(config, mesh, model, init, prepare, loss, scaled_for, layouts)
    beside = {entry.name: (entry.kind, entry.shape) for entry in stored.get(config.data.length, ())}
    shapes = [(teacher.model, jax.tree.map(str, teacher.params)) for teacher in teachers]
    follows = follows_from(config, compute, mesh, special_ids, scaled_for, shapes, beside, in_floats)
    return made._replace(beside=targets.in_batch(beside), follows_from=follows)


def observers(config: Distill, compute: Compute, teachers: Sequence[Teacher]) -> list[objective.Observe]:
    """What each teacher shows of rows for the losses of a config."""
    return [
        functools.partial(observe, PretrainingModel(teacher.model, compute), requests.of_teacher(config, teacher.model))
        for teacher in teachers
    ]


def make_answers(
    config: Distill,
    compute: Compute,
    mesh: jax.sharding.Mesh,
    special_ids: Mapping[str, int],
    teachers: Sequence[Teacher],
    top_k: int,
) -> Answers:
    """Builds what a store is made with: the masks of a step and the teachers' part of it, and no student.

    It computes in as many micro-batches, on as many devices and in the same precision as a step with these teachers.

    Args:
      config: as it holds at the steps in question.
      compute: precision of all products.
      mesh: devices that share the rows.
      special_ids: the tokenizer's special tokens, name to id.
      teachers: of the run, `reduced`; shapes of their parameters are enough.
      top_k: pieces of each prediction; at least V: all.

    Returns:
      A jitted function.
    """
    prepare, seen = objective.make_prepare(config, special_ids), observers(config, compute, teachers)
    models = [teacher.model for teacher in teachers]
    layouts = [sharding.layout(teacher.params, mesh) for teacher in teachers]

    def answers(held: tuple[Any, tuple[Any, ...]], batch: Batch) -> dict[str, jax.Array]:
        updates, params = held
        batch, _ = prepare(step_key(config.run.seed, updates), batch, updates)
        count = config.optim.micro_batches
        parts = jax.tree.map(lambda rows: rows.reshape(count, -1, *rows.shape[1:]), batch)
        whole = [sharding.gather(part, layout) for part, layout in zip(params, layouts, strict=True)]

        def micro_batch(carry: None, rows: Batch) -> tuple[None, dict[str, jax.Array]]:
            shown = [teacher(frozen, rows, None) for teacher, frozen in zip(seen, whole, strict=True)]
            found = targets.of_teachers(shown, models, config)
            return carry, targets.to_store(found, rows, config, top_k)

        _, found = jax.lax.scan(micro_batch, None, parts, unroll=count if config.model.unroll else 1)
        return jax.tree.map(lambda rows: rows.reshape(-1, *rows.shape[2:]), found)

    return jax.jit(sharding.map_rows(answers, mesh, layouts))
