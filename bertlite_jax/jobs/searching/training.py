"""Short trainings: a shape with several learning rates and seeds at a time, as one program.

The members of a group differ in their learning rate and in the seed of their weights and dropout; they are one more
axis, M, of every parameter (`jax.vmap`), so that a shape is compiled once for all of them and for any number of steps.
The loss, the optimiser and the order of rows are those of `bertlite pretrain` on one device.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Key, UInt32

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.config.search.settings import Search, Shape, model_of, trained_as, trial_optim
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining import memory_need
from bertlite_jax.jobs.pretraining.step import init_params
from bertlite_jax.jobs.searching import comparison
from bertlite_jax.jobs.searching.comparison import Seen
from bertlite_jax.jobs.searching.rows import Rows
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.ops import attention
from bertlite_jax.model.ops.precision import Compute
from bertlite_jax.report.cost import flops
from bertlite_jax.search import surrogate
from bertlite_jax.train import losses, optim, sharding
from bertlite_jax.train.pretraining import objective
from bertlite_jax.train.schedules import schedule
from bertlite_jax.train.step import Batch

Figures = dict[int, dict[str, Float[np.ndarray, " M"]]]
"""Step to what the held-out rows say then: `mlm`, `accuracy` and, with a teacher, `teacher_cross_entropy` and
`teacher_divergence`."""


QUICKLY: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,
}
"""How XLA compiles what runs once on a CPU: the draw of a tiny encoder's weights in 2 s of a core's time, not in 9."""


class Setup(NamedTuple):
    """What all trials have in common."""

    config: Search
    """With all sizes."""
    compute: Compute
    rows: Rows
    teacher: tuple[Seen, ...] = ()
    """One for each held-out batch; empty where trials are not compared with the maximum point."""
    stop_wanted: Callable[[int], bool] = lambda step: False


class Member(NamedTuple):
    """One training of a group."""

    learning_rate: float
    seed: int


class Trained(NamedTuple):
    """A group after its training."""

    figures: Figures
    params: Any
    """With a leading axis M."""
    seconds: float


class Stopped(Exception):
    """A signal asked for the end of the search."""


class NoMemory(Exception):
    """A group does not fit into memory; says what it needs."""


class Pace(NamedTuple):
    """Seconds that a group takes."""

    start: float
    """Until the first step and the first scoring are done, most of them for compiling."""
    step: float
    """The least of some further steps."""
    scoring: float
    """Of the held-out rows, once more."""


@contextlib.contextmanager
def _memory_counts() -> Iterator[None]:
    """A device without room raises NoMemory, whichever program it was that found none."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise NoMemory(str(error).splitlines()[0]) from error


@_memory_counts()
def train(setup: Setup, shape: Shape, members: Sequence[Member], steps: int) -> Trained:
    """Trains the members of a group, and scores them on the held-out rows.

    Args:
      setup: of the search.
      shape: of the model.
      members: M of them.
      steps: number of updates.

    Returns:
      Figures after all steps and, where they divide, after a quarter and a half of them. They are NaN or infinite for a
      member that diverged.

    Raises:
      NoMemory: the group does not fit.
      Stopped: before it was done.
    """
    before = time.perf_counter()
    programs = start(setup, shape, members)
    rates = learning_rates(setup.config, members, steps)
    points = scored_at(steps)
    figures: Figures = {}
    state, loss = programs.state, None
    for step in range(1, steps + 1):
        if setup.stop_wanted(step):
            raise Stopped
        batch, weights = setup.rows.training(step)
        state, new_loss = programs.step(state, rates[step - 1], jnp.int32(step - 1), batch, weights)
        jax.block_until_ready(loss)  # The one before: at most two steps are under way.
        loss = new_loss
        if step in points:
            figures[step] = score(setup, programs.sums, state.params)
    return Trained(figures, state.params, time.perf_counter() - before)


def scored_at(steps: int) -> set[int]:
    """The steps after which a training of `steps` is scored."""
    return {steps // 4, steps // 2, steps} if steps % 4 == 0 else {steps}


def learning_rates(config: Search, members: Sequence[Member], steps: int) -> Float32[np.ndarray, "T M"]:
    """The learning rate of each step and member."""

    def of_member(member: Member) -> np.ndarray:
        curve = schedule(trial_optim(config, member.learning_rate, steps), steps, config.data.batch_rows)
        return np.asarray(jax.vmap(curve)(jnp.arange(steps)))

    return np.stack([of_member(member) for member in members], axis=1)


@_memory_counts()
def time_steps(setup: Setup, shape: Shape, members: Sequence[Member], steps: int = 5) -> Pace:
    """Times a first step, `steps` further ones, and two scorings.

    Raises:
      NoMemory: the group does not fit.
    """
    before = time.perf_counter()
    programs = start(setup, shape, members)
    rates, state, moments = learning_rates(setup.config, members, steps + 1), programs.state, []
    for step in range(steps + 1):
        batch, weights = setup.rows.training(step + 1)
        state, loss = programs.step(state, rates[step], jnp.int32(step), batch, weights)
        jax.block_until_ready(loss)
        moments.append(time.perf_counter())
    for _ in range(2):
        score(setup, programs.sums, state.params)
        moments.append(time.perf_counter())
    *of_steps, first, second = np.diff([before, *moments])
    return Pace(float(of_steps[0] + first), float(min(of_steps[1:])), float(second))


# --- Programs --------------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """What a group carries from step to step; every array has the leading axis M."""

    params: Any
    opt: Any
    keys: Key[Array, " M"]
    """Of dropout."""


class Programs(NamedTuple):
    """What a group runs, and where it begins."""

    state: State
    step: Callable[..., tuple[State, Float[Array, " M"]]]
    """(state, learning rates [M], updates so far, rows, weights) -> (state, losses); the given state is donated."""
    sums: Callable[..., dict[str, Float[Array, " M"]]]
    """(params, held-out rows, the teacher's view or None) -> sums over the predictions."""


def start(setup: Setup, shape: Shape, members: Sequence[Member]) -> Programs:
    """The programs of a shape, and fresh weights: those of `bertlite pretrain` with the member's seed.

    Raises:
      NoMemory: the group does not fit.
    """
    made = recipe_of(setup, shape)
    check_memory(made, setup.compute, len(members))
    init, step, sums = _programs(made, setup.compute, setup.config.surrogate.clip_weights)
    return Programs(init(jnp.asarray([member.seed for member in members], jnp.uint32)), step, sums)


def recipe_of(setup: Setup, shape: Shape) -> Pretrain:
    """What a trial of a shape trains."""
    common = trained_as(setup.config)
    return dataclasses.replace(common, model=model_of(common.model, shape))


def sums_of(setup: Setup, shape: Shape) -> Callable[..., dict[str, Float[Array, " M"]]]:
    """As `Programs.sums`."""
    return _programs(recipe_of(setup, shape), setup.compute, setup.config.surrogate.clip_weights)[2]


@functools.lru_cache(maxsize=8)
def _programs(config: Pretrain, compute: Compute, clip_weights: float) -> tuple[Any, Any, Any]:
    """The functions of a shape; compiled where they are first called, for each number of members."""
    model = PretrainingModel(config.model, compute)
    loss = objective.make_loss(model.apply, config)
    directions = optim.make_directions(config.optim, jax.eval_shape(lambda: init_params(model, jax.random.key(0))))

    def init(seed: UInt32[Array, ""]) -> State:
        key = jax.random.key(seed)
        params = init_params(model, key)
        return State(params, directions.init(params), key)

    def step(
        state: State, rate: Float[Array, ""], updates: Int[Array, ""], rows: Batch, weights: dict[str, Array]
    ) -> tuple[State, Float[Array, ""]]:
        key = jax.random.fold_in(state.keys, updates)
        (value, _), grads = jax.value_and_grad(loss, has_aux=True)(state.params, rows, weights, key)
        changes, opt = directions.update(grads, state.opt, state.params)
        params = jax.tree.map(lambda leaf, change: leaf - rate * change, state.params, changes)
        params = surrogate.clipped(params, clip_weights) if clip_weights else params
        return State(params, opt, state.keys), value

    def sums(params: Any, rows: Batch, seen: Seen | None) -> dict[str, Float[Array, ""]]:
        logits, _ = objective.logits_of(model.apply, params, rows, None)
        total, weight, correct = losses.masked_lm(logits, rows["labels"], rows["weights"])
        found = {"mlm": total, "accuracy": correct, "weight": weight}
        if seen is None:
            return found
        return found | comparison.sums(logits, seen, rows["weights"])

    quickly = QUICKLY if jax.default_backend() == "cpu" else None
    return (
        jax.jit(jax.vmap(init), compiler_options=quickly),
        jax.jit(jax.vmap(step, in_axes=(0, 0, None, None, None)), donate_argnums=0),
        jax.jit(jax.vmap(sums, in_axes=(0, None, None))),
    )


def score(setup: Setup, sums: Callable[..., dict[str, Array]], params: Any) -> dict[str, Float[np.ndarray, " M"]]:
    """Means over the predictions of the held-out rows; `sums` are those of `Programs`."""
    totals: dict[str, Any] = {}
    for number, rows in enumerate(setup.rows.held_out):
        seen = setup.teacher[number] if setup.teacher else None
        for name, values in jax.device_get(sums(params, rows, seen)).items():
            totals[name] = totals.get(name, 0.0) + np.asarray(values, np.float64)
    weight = totals.pop("weight")
    return {name: values / weight for name, values in totals.items()}


def check_memory(config: Pretrain, compute: Compute, members: int) -> None:
    """Raises NoMemory where the estimate of a step exceeds what this machine has, before anything is compiled."""
    mesh = sharding.make_mesh(1)
    platform = mesh.devices.flat[0].platform
    scores = attention.choose_for(config.model, config.data.length, platform, compute) == "einsum"
    parts = flops.step_memory_bytes(config, 1, "float32" if compute == "float32" else "bfloat16", scores)
    try:
        memory_need.compare(
            {name: members * size for name, size in parts.items()},
            mesh,
            "search",
            "lower data.batch_rows, or name fewer surrogate.learning_rates and surrogate.seeds",
            f"a step of {members} members",
        )
    except UserError as error:
        raise NoMemory(str(error).removeprefix("search: ")) from error


def is_real(figures: Figures, member: int) -> bool:
    """Whether all figures of a member are numbers: it has not diverged."""
    return all(math.isfinite(values[member]) for at_step in figures.values() for values in at_step.values())
