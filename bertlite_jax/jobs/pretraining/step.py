"""The model, the optimiser and the step of a pretraining run: for the run itself, for the compiler, for benchmarks."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from bertlite_jax.config import batch
from bertlite_jax.config.pretrain import Data, Pretrain
from bertlite_jax.config.schedule import at_step
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.ops.precision import Compute
from bertlite_jax.report.cost import hlo_cost
from bertlite_jax.train import optim, sharding, state
from bertlite_jax.train.pretraining import objective
from bertlite_jax.train.state import TrainState
from bertlite_jax.train.step import Batch, Step, make_step


class Pretraining(NamedTuple):
    """What a step is made of; nothing is compiled and nothing lies on a device yet."""

    model: PretrainingModel
    init_params: Callable[[jax.Array], Any]
    """Draws the parameters with a key."""
    layout: sharding.Layout
    """Of the parameters over the devices."""
    optimizer: optax.GradientTransformation
    step: Step
    """One update."""


def make_pretraining(
    config: Pretrain,
    compute: Compute,
    mesh: jax.sharding.Mesh,
    special_ids: Mapping[str, int],
    scaled_for: int = 0,
) -> Pretraining:
    """Puts together what a config describes.

    Args:
      config: of the run.
      compute: the precision that `model.compute` comes to on the mesh's devices, or another one.
      mesh: devices that share the rows; they need not be this machine's.
      special_ids: of the tokenizer.
      scaled_for: rows that the learning rate is scaled for; 0: those of a batch.
    """
    batch_rows = scaled_for or config.data.batch_rows
    model = PretrainingModel(config.model, compute)
    init_params = functools.partial(_init, model)
    shapes = jax.eval_shape(init_params, jax.random.key(0))
    layout = sharding.layout(shapes, mesh, config.run.zero1)
    optimizer = optim.make_optimizer(config.optim, config.run.steps, batch_rows, shapes)
    step = make_step(
        prepare=objective.make_prepare(config, special_ids),
        loss=objective.make_loss(model.apply, config),
        optimizer=optimizer,
        learning_rate=optim.schedule(config.optim, config.run.steps, batch_rows),
        layout=layout,
        micro_batches=config.optim.micro_batches,
        seed=config.run.seed,
        unroll=config.model.unroll,
    )
    return Pretraining(model, init_params, layout, optimizer, step)


class Stage(NamedTuple):
    """Steps that one program makes."""

    config: Pretrain
    """With the layers, the length of rows and the rows of these steps."""
    parts: Pretraining


def make_stages(
    config: Pretrain,
    data_at: Callable[[int], Data],
    compute: Compute,
    mesh: jax.sharding.Mesh,
    special_ids: Mapping[str, int],
) -> Callable[[int], Stage]:
    """Gives what a step is made of for the number of a step; the same object for all steps of a stage.

    Stages differ in what `config.schedule` changes and in their rows (`data.buckets`). Any stage can go on with the
    parameters and the state of another.

    Args:
      config: of the run.
      data_at: the rows of a step, from 1 on.
      compute, mesh, special_ids: as for `make_pretraining`.
    """

    @functools.cache
    def made(of_stage: Pretrain) -> Stage:
        return Stage(of_stage, make_pretraining(of_stage, compute, mesh, special_ids, config.data.batch_rows))

    return lambda step: made(dataclasses.replace(at_step(config, step), data=data_at(step)))


# --- Compiling ----------------------------------------------------------------------------------------------------


class Program(NamedTuple):
    """A compiled step."""

    step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
    """As `Pretraining.step`, for this state and these rows only."""
    seconds: float
    """That it took to compile, or to fetch from the cache."""
    sent_bytes: int
    """What one device contributes to sums, and receives by gathering, in a step."""


def compile_beside(stage: Stage, mesh: jax.sharding.Mesh) -> concurrent.futures.Future[Program]:
    """Starts to compile a step in a thread, since XLA needs no Python for most of it."""

    def compiled() -> Program:
        before = time.perf_counter()
        program = lowered(stage.config, stage.parts, mesh).compile()
        seconds = time.perf_counter() - before
        sent = hlo_cost.cost(program.as_text()).collectives if mesh.size > 1 else ()
        return Program(program, seconds, sum(each.bytes for each in sent))

    pool = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="compile")
    future = pool.submit(compiled)
    pool.shutdown(wait=False)
    return future


def lowered(config: Pretrain, parts: Pretraining, mesh: jax.sharding.Mesh) -> Any:
    """The step over shapes alone, for the mesh's devices, whatever this machine has."""
    return parts.step.lower(state.shapes_of(parts.layout, parts.optimizer), batch_shapes(config, mesh))


def batch_shapes(config: Pretrain, mesh: jax.sharding.Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """The arrays of `config.batch.BATCH` for a step, split over the devices."""
    data = config.data
    place = sharding.by_rows(mesh)
    shapes = batch.batch_shapes(data.batch_rows, data.length, data.window_slots)
    return {
        name: jax.ShapeDtypeStruct(shape, np.dtype(batch.BATCH[name].dtype), sharding=place)
        for name, shape in shapes.items()
    }


def _init(model: PretrainingModel, key: jax.Array) -> Any:
    ids = np.zeros((1, 8), np.int32)
    return model.init(key, ids, ids, ids, ids, ids[:, :1], ids[:, :1])["params"]
