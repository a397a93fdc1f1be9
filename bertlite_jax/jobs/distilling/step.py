"""The parts of a distillation step: the student that learns, the teachers that show it what to learn."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from bertlite_jax.config.distillation.settings import Distill, relation_heads
from bertlite_jax.jobs.distilling import requests
from bertlite_jax.jobs.distilling.teachers import Teacher
from bertlite_jax.jobs.pretraining.step import Pretraining, assemble, follows_from, init_params
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.observed import observe
from bertlite_jax.model.ops.precision import Compute
from bertlite_jax.train import sharding
from bertlite_jax.train.distillation import objective

_OWN_KEY = 1 << 20
"""Where the run's own parameters are drawn, apart from those of the model."""


def make_distillation(
    config: Distill,
    compute: Compute,
    mesh: jax.sharding.Mesh,
    special_ids: Mapping[str, int],
    scaled_for: int = 0,
    *,
    teachers: Sequence[Teacher],
) -> Pretraining:
    """Builds the step that a config describes, as `make_pretraining` does; the teachers compute as the student does.

    Args:
      config: of the run.
      compute: precision of all products.
      mesh: devices that share the rows; the teachers' parameters are split over them by the same rules.
      special_ids: the tokenizer's special tokens, name to id.
      scaled_for: batch rows that the learning rate is scaled for; 0: `data.batch_rows`.
      teachers: of the run, `reduced`; shapes of their parameters are enough.
    """
    model, first = PretrainingModel(config.model, compute), teachers[0].model
    student = functools.partial(observe, model, requests.of_student(config))
    seen = [
        functools.partial(observe, PretrainingModel(teacher.model, compute), requests.of_teacher(config, teacher.model))
        for teacher in teachers
    ]

    def init(key: jax.Array) -> Any:
        if not objective.projects(config):
            return init_params(model, key)
        own_key = jax.random.fold_in(key, _OWN_KEY)
        widths = config.model.hidden_size, first.hidden_size
        return init_params(model, key) | objective.init_own(own_key, *widths, config.model.init_std)

    prepare = objective.make_prepare(config, special_ids)
    loss = objective.make_loss(student, seen, config, relation_heads(config, first))
    layouts = tuple(sharding.layout(teacher.params, mesh) for teacher in teachers)
    made = assemble(config, mesh, model, init, prepare, loss, scaled_for, layouts)
    shapes = [(teacher.model, jax.tree.map(str, teacher.params)) for teacher in teachers]
    return made._replace(follows_from=follows_from(config, compute, mesh, special_ids, scaled_for, shapes))
