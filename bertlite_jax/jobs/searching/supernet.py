"""One training for a whole space: each shape is a part of the largest, and inherits what it has learnt.

A step trains the largest shape, the smallest and two others on the same rows, and moves the weights by the mean of
their gradients. What is trained is written to `supernet.npz` every half minute, and what shapes are worth to
`supernet.json`, so that a restart goes on.
"""

from __future__ import annotations

import functools
import pathlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.config.search.settings import Search, Shape, trial_optim
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files, json_shapes, whole_files
from bertlite_jax.host.json_shapes import NUMBER
from bertlite_jax.jobs.pretraining.step import init_params
from bertlite_jax.jobs.runs import arrays
from bertlite_jax.jobs.searching import results, training
from bertlite_jax.jobs.searching.notebook import Notebook
from bertlite_jax.jobs.searching.plan import evenly_spread
from bertlite_jax.jobs.searching.training import Member, Setup
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.ops.precision import Compute
from bertlite_jax.report.run.metrics import clock_time
from bertlite_jax.search import shared_weights, space, surrogate
from bertlite_jax.search.candidates import Candidate
from bertlite_jax.train import optim
from bertlite_jax.train.pretraining import objective

WEIGHTS, ERRORS = "supernet.npz", "supernet.json"
"""Files in the folder of a search."""
KEPT_EVERY = 30.0
"""Seconds between two writings of the weights."""
DRAWN = 2
"""Shapes of a step beside the largest and the smallest."""
_ERRORS: dict[Any, Any] = {"key": str, "steps": int, "flops": NUMBER, "errors": {...: (*NUMBER, type(None))}}


class Plan(NamedTuple):
    """What is trained."""

    whole: Shape
    """Whose weights have room for all."""
    largest: Candidate
    smallest: Candidate
    sampled: tuple[Candidate, ...]
    steps: int
    flops: float
    """Of all steps, and of scoring as many shapes as the evolution may meet, as `trials.spent` counts: one seed's
    share, since other methods train all seeds, and the supernet is trained once with the compute of all."""

    def at(self, step: int, seed: int) -> list[Shape]:
        """The shapes of a step; a pure function of it."""
        drawn = random.Random(f"{seed} {step}").choices(self.sampled, k=DRAWN)
        return [each.shape for each in (self.largest, self.smallest, *drawn)]


class State(NamedTuple):
    """What is carried from step to step."""

    params: Any
    opt: Any


def plan_of(setup: Setup, candidates: Sequence[Candidate], budget: float) -> Plan:
    """As many steps as the budget allows, less what scoring the shapes costs; perhaps none.

    Args:
      setup: of the search.
      candidates: that may be chosen, in the order of size.
      budget: as `trials.spent` counts.
    """
    method, flops = setup.config.method, [each.cost.step_flops for each in candidates]
    by_compute = sorted(candidates, key=lambda each: (each.cost.step_flops, each.shape))
    sampled = tuple(evenly_spread(by_compute, method.sampled))
    mean = sum(each.cost.step_flops for each in sampled) / len(sampled)
    step = max(flops) + min(flops) + DRAWN * mean
    met = min(len(candidates), method.population * (1 + method.generations))
    rows = sum(batch["tokens"].shape[0] for batch in setup.rows.held_out) / setup.config.data.batch_rows
    scoring = met * rows * sum(flops) / len(flops) / 3  # A forward pass is a third of a step.
    seeds = len(setup.config.surrogate.seeds)
    steps = max(0, int((budget * seeds - scoring) / step))
    whole = shared_weights.around(each.shape for each in candidates)
    return Plan(whole, by_compute[-1], by_compute[0], sampled, steps, (steps * step + scoring) / seeds)


class Supernet(NamedTuple):
    """Errors of shapes with inherited weights, as far as they are known."""

    flops: float
    errors: dict[Shape, float]
    """Grows."""


def open_supernet(
    setup: Setup, place: pathlib.Path, book: Notebook, made: list[Supernet]
) -> Callable[[Sequence[Candidate], float], Callable[[Shape], float]]:
    """Returns `Evaluation.inherited`; nothing is trained before an error is asked for that is not in the folder.

    Args:
      setup: of the search.
      place: its folder.
      book: what figures follow from beside the plan.
      made: gets the supernet.
    """

    def inherited(candidates: Sequence[Candidate], budget: float) -> Callable[[Shape], float]:
        config, plan = setup.config, plan_of(setup, candidates, budget)
        key = _key(config, plan, book)
        known = _read_errors(place / ERRORS, key, candidates)
        made.append(Supernet(plan.flops, known))
        if not plan.steps:
            print("search: the budget is too small for one step of the supernet", flush=True)
            return lambda shape: float("nan")
        weights = functools.cache(lambda: _trained(setup, plan, place / WEIGHTS, key))

        def error(shape: Shape) -> float:
            if shape not in known:
                known[shape] = _error(setup, shape, weights())
                named = {space.describe(each): results.as_json(value) for each, value in known.items()}
                content = {"key": key, "steps": plan.steps, "flops": plan.flops, "errors": named}
                whole_files.write_json(place / ERRORS, content)
            return known[shape]

        return error

    return inherited


def _key(config: Search, plan: Plan, book: Notebook) -> str:
    return surrogate.memo_key(
        plan=[plan.whole, plan.largest.shape, plan.smallest.shape, [each.shape for each in plan.sampled], plan.steps],
        optim=trial_optim(config, config.surrogate.learning_rates[0], plan.steps or 1),
        model=config.model,
        seeds=[config.surrogate.seeds[0], config.method.seed],
        kind=kind_of(config),
        teacher=book.teacher,
        **book.surroundings,
    )


def kind_of(config: Search) -> str:
    """The error of inherited weights; they have no curve that could be extrapolated."""
    return "mlm" if config.surrogate.kind == "extrapolated" else config.surrogate.kind


# --- Training --------------------------------------------------------------------------------------------------------


def _trained(setup: Setup, plan: Plan, path: pathlib.Path, key: str) -> Any:
    """The weights after all steps; those of an earlier start go on.

    Raises:
      UserError: they do not fit into memory, or the file is damaged.
      Stopped: a signal asked for the end; what was trained is kept.
    """
    config = setup.config
    recipe = training.recipe_of(setup, plan.whole)
    try:
        training.check_memory(recipe, setup.compute, 1)
    except training.NoMemory as error:
        raise UserError(f"search: the supernet: {error}") from error
    model = PretrainingModel(recipe.model, setup.compute)
    member = Member(config.surrogate.learning_rates[0], config.surrogate.seeds[0])
    rates = training.learning_rates(config, [member], plan.steps)[:, 0]
    base = jax.random.key(member.seed)
    quickly = training.QUICKLY if jax.default_backend() == "cpu" else None
    params = jax.jit(lambda: init_params(model, base), compiler_options=quickly)()
    directions = optim.make_directions(config.optim, params)
    state, first = _read_state(path, key, State(params, directions.init(params)))
    update = _make_update(directions, config.surrogate.clip_weights)
    gradient = functools.cache(lambda shape: _make_gradient(training.recipe_of(setup, shape), setup.compute))
    print(f"search: a supernet of {space.describe(plan.whole)}: steps {first + 1:,} to {plan.steps:,}", flush=True)
    begun = kept = time.monotonic()
    for step in range(first, plan.steps):
        if setup.stop_wanted(step + 1):
            _write_state(path, key, state, step)
            raise training.Stopped
        rows, weights = setup.rows.training(step + 1)
        dropout = jax.random.fold_in(base, step)
        shapes = plan.at(step, config.method.seed)
        grads = [gradient(shape)(state.params, rows, weights, dropout) for shape in shapes]
        state = jax.block_until_ready(update(state, grads, rates[step]))
        if time.monotonic() - kept > KEPT_EVERY:
            kept = time.monotonic()
            _write_state(path, key, state, step + 1)
            left = (kept - begun) / (step + 1 - first) * (plan.steps - step - 1)
            print(f"search: supernet, step {step + 1:,} of {plan.steps:,}, about {clock_time(left)} left", flush=True)
    _write_state(path, key, state, plan.steps)
    return state.params


def _make_update(directions: Any, clip_weights: float) -> Callable[[State, Any, Any], State]:
    """Returns what moves the weights by the mean of several gradients, at a learning rate."""

    def update(state: State, grads: Any, rate: Float[Array, ""]) -> State:
        mean = jax.tree.map(lambda *each: sum(each) / len(each), *grads)
        changes, opt = directions.update(mean, state.opt, state.params)
        params = jax.tree.map(lambda leaf, change: leaf - rate * change, state.params, changes)
        return State(surrogate.clipped(params, clip_weights) if clip_weights else params, opt)

    return jax.jit(update, donate_argnums=0)


def _make_gradient(recipe: Pretrain, compute: Compute) -> Callable[..., Any]:
    """Returns the gradient of the loss of one shape, for all weights of the supernet: 0 where the shape has none."""
    model, shapes = _model_of(recipe, compute)
    loss = objective.make_loss(model.apply, recipe)

    def of_whole(params: Any, *arguments: Any) -> Float[Array, ""]:
        value, _ = loss(shared_weights.cut(params, shapes), *arguments)
        return value

    return jax.jit(jax.grad(of_whole))


def _model_of(recipe: Pretrain, compute: Compute) -> tuple[PretrainingModel, Any]:
    """The model of one shape, and the shapes of its parameters."""
    model = PretrainingModel(recipe.model, compute)
    return model, jax.eval_shape(lambda: init_params(model, jax.random.key(0)))


def _error(setup: Setup, shape: Shape, params: Any) -> float:
    """Of a shape with inherited weights, on the held-out rows."""
    _, shapes = _model_of(training.recipe_of(setup, shape), setup.compute)
    own = jax.tree.map(lambda leaf: leaf[None], shared_weights.cut(params, shapes))
    return float(training.score(setup, training.sums_of(setup, shape), own)[kind_of(setup.config)][0])


# --- Files -----------------------------------------------------------------------------------------------------------


def _write_state(path: pathlib.Path, key: str, state: State, step: int) -> None:
    leaves: dict[str, Any] = {f"leaf_{number}": np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(state))}
    with whole_files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, key=np.frombuffer(key.encode(), np.uint8), step=np.int64(step), **leaves)


def _read_state(path: pathlib.Path, key: str, fresh: State) -> tuple[State, int]:
    """What `_write_state` wrote and after how many steps; the fresh state where it was written for another key."""
    if not path.is_file():
        return fresh, 0
    with arrays.opened(path, "search", "remove it, and the supernet is trained again") as stored:
        if stored["key"].tobytes().decode() != key:
            return fresh, 0
        leaves = [stored[f"leaf_{number}"] for number in range(len(jax.tree.leaves(fresh)))]
        step = int(stored["step"])
    return jax.tree.unflatten(jax.tree.structure(fresh), [jnp.asarray(leaf) for leaf in leaves]), step


def _read_errors(path: pathlib.Path, key: str, candidates: Sequence[Candidate]) -> dict[Shape, float]:
    if not path.is_file():
        return {}
    content = json_files.read_object(path, "search")
    json_shapes.check(content, _ERRORS, str(path), "search")
    if content["key"] != key:
        return {}
    by_name = {space.describe(each.shape): each.shape for each in candidates}
    known = {by_name[name]: value for name, value in content["errors"].items() if name in by_name}
    return {shape: float("nan") if value is None else float(value) for shape, value in known.items()}
