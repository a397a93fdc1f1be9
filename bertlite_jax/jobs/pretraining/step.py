"""The model, the optimiser and the step of a pretraining run, shared by the run, `bertlite compile` and benchmarks."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import optax

from bertlite_jax.config import batch
from bertlite_jax.config.pretrain import Data, Pretrain
from bertlite_jax.config.schedule import at_step
from bertlite_jax.host import program_cache
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.ops.precision import Compute
from bertlite_jax.report.cost import hlo_cost
from bertlite_jax.train import optim, sharding, state
from bertlite_jax.train.pretraining import causal, objective
from bertlite_jax.train.state import TrainState
from bertlite_jax.train.step import Loss, Prepare, Step, make_step


class Pretraining(NamedTuple):
    """The parts of a step. Nothing is compiled and nothing lies on a device yet."""

    model: PretrainingModel
    init_params: Callable[[jax.Array], Any]
    """Draws the parameters with a key."""
    layout: sharding.Layout
    """Of the parameters over the devices."""
    optimizer: optax.GradientTransformation
    step: Step
    """As `train.step.make_step` returns it."""
    teachers: tuple[sharding.Layout, ...] = ()
    """Of parameters that the step reads and does not change."""
    beside: Mapping[str, tuple[str, tuple[int, ...]]] = {}
    """What the batch has beside `config.batch.BATCH`: dtype, and shape without B, by name."""
    follows_from: str = ""
    """All that these parts are made of, for `program_cache.fetch`."""


class MakePretraining(Protocol):
    """Builds the parts of a step for a config; see `make_pretraining`."""

    def __call__(
        self,
        config: Any,
        compute: Compute,
        mesh: jax.sharding.Mesh,
        special_ids: Mapping[str, int],
        scaled_for: int = 0,
    ) -> Pretraining:
        """The parts."""
        ...


def make_pretraining(
    config: Pretrain,
    compute: Compute,
    mesh: jax.sharding.Mesh,
    special_ids: Mapping[str, int],
    scaled_for: int = 0,
) -> Pretraining:
    """Builds the model, the optimiser and the step that a config describes.

    Args:
      config: of the run, or of a step of it: then whether that is causal.
      compute: precision of the products; usually what `model.compute` resolves to on the mesh's devices.
      mesh: devices that share the rows. They need not exist on this machine.
      special_ids: the tokenizer's special tokens, name to id.
      scaled_for: batch rows that the learning rate is scaled for; 0: `data.batch_rows`.
    """
    model = PretrainingModel(config.model, compute)
    if config.objective.causal:
        prepare, loss = causal.make_prepare(special_ids), causal.make_loss(model.apply, config)
    else:
        prepare, loss = objective.make_prepare(config, special_ids), objective.make_loss(model.apply, config)
    init = functools.partial(init_params, model)
    made = assemble(config, mesh, model, init, prepare, loss, scaled_for)
    return made._replace(follows_from=follows_from(config, compute, mesh, special_ids, scaled_for))


def assemble(
    config: Pretrain,
    mesh: jax.sharding.Mesh,
    model: PretrainingModel,
    init: Callable[[jax.Array], Any],
    prepare: Prepare,
    loss: Loss,
    scaled_for: int = 0,
    teachers: tuple[sharding.Layout, ...] = (),
) -> Pretraining:
    """Puts a step together: where the parameters lie, the optimiser, and the update.

    Args:
      config: of the run.
      mesh: devices that share the rows.
      model: that is trained.
      init: draws the parameters with a key.
      prepare: masks and weights of a step.
      loss: of one device's rows.
      scaled_for: as for `make_pretraining`.
      teachers: layouts of the parameters that the loss reads beside.
    """
    batch_rows = scaled_for or config.data.batch_rows
    init = jax.jit(init)  # Traced once: here for the shapes, later for the values.
    shapes = jax.eval_shape(init, jax.random.key(0))
    layout = sharding.layout(shapes, mesh, config.run.zero1)
    whole = functools.partial(jax.lax.with_sharding_constraint, shardings=sharding.replicated(mesh))
    optimizer = optim.make_optimizer(config.optim, config.run.steps, batch_rows, shapes, whole)
    step = make_step(
        prepare=prepare,
        loss=loss,
        optimizer=optimizer,
        learning_rate=optim.schedule(config.optim, config.run.steps, batch_rows),
        layout=layout,
        micro_batches=config.optim.micro_batches,
        seed=config.run.seed,
        unroll=config.model.unroll,
        teachers=teachers,
    )
    return Pretraining(model, init, layout, optimizer, step, teachers)


def follows_from(config: Pretrain, *parts: object) -> str:
    """What a step is made of, in words that are the same in every process.

    Args:
      config: as for `make_pretraining`.
      parts: what there is beside it.
    """
    # Of tokenizer and corpora a step knows the sizes, which the config has, and the special ids.
    data = dataclasses.replace(config.data, corpus=(), tokenizer="")
    return repr((dataclasses.replace(config, data=data), *parts))


class Stage(NamedTuple):
    """Steps that share one compiled program."""

    config: Pretrain
    """As it holds at these steps (`config.schedule.at_step`)."""
    pretraining: Pretraining


def make_stages(
    config: Pretrain,
    data_at: Callable[[int], Data],
    compute: Compute,
    mesh: jax.sharding.Mesh,
    special_ids: Mapping[str, int],
    make: MakePretraining = make_pretraining,
) -> Callable[[int], Stage]:
    """Returns a function from a step's number to its stage; all steps of a stage share one object.

    Stages differ in what `config.schedule` changes, in their rows (`data.buckets`), and in whether they are the causal
    steps of a stretch or the others. All stages have the same parameters and state.

    Args:
      config: of the run.
      data_at: step number, from 1, to its rows.
      compute: as for `make_pretraining`.
      mesh: as for `make_pretraining`.
      special_ids: as for `make_pretraining`.
      make: builds the parts of a stage.
    """

    @functools.cache
    def stage_of(stage_config: Pretrain) -> Stage:
        return Stage(stage_config, make(stage_config, compute, mesh, special_ids, config.data.batch_rows))

    return lambda step: stage_of(dataclasses.replace(at_step(config, step), data=data_at(step)))


def make_programs(
    stage_at: Callable[[int], Stage], mesh: jax.sharding.Mesh
) -> Callable[[int], concurrent.futures.Future[Program]]:
    """Returns a function from a step's number to its program, which starts to be compiled when it is first asked for.

    Args:
      stage_at: of `make_stages`.
      mesh: devices that share the rows.
    """
    started: dict[Pretrain, concurrent.futures.Future[Program]] = {}

    def program_of(step: int) -> concurrent.futures.Future[Program]:
        stage = stage_at(step)
        if stage.config not in started:
            started[stage.config] = compile_beside(stage, mesh)
        return started[stage.config]

    return program_of


# --- Compiling ----------------------------------------------------------------------------------------------------


class Program(NamedTuple):
    """A compiled step."""

    step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
    """As `Pretraining.step`, for this state and these rows only."""
    seconds: float
    """Time to compile it, or to fetch it from the cache."""
    sent_bytes: int
    """Bytes that one device contributes to reductions, and receives by gathering, in a step."""


def compile_beside(stage: Stage, mesh: jax.sharding.Mesh) -> concurrent.futures.Future[Program]:
    """Starts compiling a step in a thread, since XLA needs no Python for most of it."""

    def lower_step() -> jax.stages.Lowered:
        return lower(stage.config, stage.pretraining, mesh)

    def compile_step() -> Program:
        before = time.perf_counter()
        follows = stage.pretraining.follows_from
        follows = follows and f"step of {follows}"
        program = program_cache.fetch(follows, mesh.devices.flatten().tolist(), lower_step)
        seconds = time.perf_counter() - before
        collectives = hlo_cost.cost(program.as_text() or "").collectives if mesh.size > 1 else ()
        return Program(program, seconds, sum(collective.bytes for collective in collectives))

    pool = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="compile")
    future = pool.submit(compile_step)
    pool.shutdown(wait=False)
    return future


def lower(config: Pretrain, pretraining: Pretraining, mesh: jax.sharding.Mesh) -> jax.stages.Lowered:
    """Lowers the step from shapes alone, for the mesh's devices, which need not exist on this machine."""
    shapes = state.shapes_of(pretraining.layout, pretraining.optimizer)
    teachers = map(sharding.placed_shapes, pretraining.teachers)
    return pretraining.step.lower(shapes, batch_shapes(config, mesh, pretraining.beside), *teachers)


def batch_shapes(
    config: Pretrain, mesh: jax.sharding.Mesh, beside: Mapping[str, tuple[str, tuple[int, ...]]] = {}
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the arrays of a step, sharded over the devices.

    Args:
      config: of the step.
      mesh: the devices.
      beside: as in `Pretraining`.
    """
    data = config.data
    shapes = batch.batch_shapes(data.batch_rows, data.length, data.window_slots)
    found = {name: (batch.BATCH[name].dtype, shape) for name, shape in shapes.items()}
    found |= {name: (kind, (data.batch_rows, *shape)) for name, (kind, shape) in beside.items()}
    by_rows = sharding.by_rows(mesh)
    return {
        name: jax.ShapeDtypeStruct(shape, np.dtype(kind), sharding=by_rows) for name, (kind, shape) in found.items()
    }


def init_params(model: PretrainingModel, key: jax.Array) -> Any:
    """Draws the parameters of a model."""
    ids = np.zeros((1, 8), np.int32)
    return model.init(key, ids, ids, ids, ids, ids[:, :1], ids[:, :1])["params"]
