"""The model, the optimiser and the step of a pretraining run: for the run itself, for the compiler, for benchmarks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from bertlite_jax import config as settings
from bertlite_jax.config import Model, Pretrain
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.precision import Compute
from bertlite_jax.train import objective, optim, sharding
from bertlite_jax.train.state import TrainState
from bertlite_jax.train.step import Batch, make_step

SPECIAL_IDS = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
"""Stand in for a tokenizer's where a step is only compiled or timed: which numbers they are changes nothing there."""


class Pretraining(NamedTuple):
    """What a step is made of; nothing is compiled and nothing lies on a device yet."""

    model: PretrainingModel
    init_params: Callable[[jax.Array], Any]
    """Draws the parameters with a key."""
    layout: sharding.Layout
    """Of the parameters over the devices."""
    optimizer: optax.GradientTransformation
    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
    """As `train.step.make_step` gives it."""


def make_pretraining(
    config: Pretrain, compute: Compute, mesh: jax.sharding.Mesh, special_ids: Mapping[str, int]
) -> Pretraining:
    """Puts together what a config describes.

    Args:
      config: of the run.
      compute: the precision that `model.compute` comes to on the mesh's devices, or another one.
      mesh: devices that share the rows; they need not be this machine's.
      special_ids: of the tokenizer.
    """
    model = PretrainingModel(config.model, compute)
    init_params = functools.partial(_init, model)
    shapes = jax.eval_shape(init_params, jax.random.key(0))
    layout = sharding.layout(shapes, mesh, config.run.zero1)
    optimizer = optim.make_optimizer(config.optim, config.run.steps, config.data.batch_rows, shapes)
    step = make_step(
        prepare=objective.make_prepare(config, special_ids),
        loss=objective.make_loss(model.apply, config),
        optimizer=optimizer,
        learning_rate=optim.schedule(config.optim, config.run.steps, config.data.batch_rows),
        layout=layout,
        micro_batches=config.optim.micro_batches,
        seed=config.run.seed,
        unroll=config.model.unroll,
    )
    return Pretraining(model, init_params, layout, optimizer, step)


def make_stages(
    config: Pretrain, compute: Compute, mesh: jax.sharding.Mesh, special_ids: Mapping[str, int]
) -> Callable[[int], Pretraining]:
    """Gives what a step is made of for the number of a step; the same object for all steps of a stage (`run.depths`).

    Parameters and state are those of any stage: a shared layer has the same ones however often it is applied.
    """

    @functools.cache
    def of_model(model: Model) -> Pretraining:
        return make_pretraining(dataclasses.replace(config, model=model), compute, mesh, special_ids)

    return lambda step: of_model(settings.at_step(config, step).model)


def _init(model: PretrainingModel, key: jax.Array) -> Any:
    ids = np.zeros((1, 8), np.int32)
    return model.init(key, ids, ids, ids, ids, ids[:, :1], ids[:, :1])["params"]
