"""Our own side of `bertlite bench finetune`, and the throughput of both sides."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights import parameters
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.benchmarks import race
from bertlite_jax.jobs.finetuning.batches import Batches
from bertlite_jax.jobs.finetuning.prepare import make_optimizer_and_step, prepare
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.jobs.finetuning.start import draw_params
from bertlite_jax.train import schedules, sharding, warm_start
from bertlite_jax.train.state import TrainState

# --- Our side --------------------------------------------------------------------------------------------------------


def open_setup(recipe: Finetune, init: str) -> Setup:
    """Everything that `finetune` determines before its first step. Raises UserError for what `finetune` refuses."""
    if not init:
        raise UserError(
            "bench: --init is missing; name a run, a folder of transformers, or one that `bertlite convert` wrote"
        )
    with adoption.open_weights(init) as weights:
        return prepare(recipe, weights, init)


def optim_in_steps(setup: Setup) -> Optim:
    """The recipe's optimiser, with the warm-up steps that `finetune` uses."""
    config = setup.start.config
    return schedules.with_warmup(config.optim, config.run.warmup_fraction, setup.steps)


def start_params(setup: Setup) -> Any:
    """Parameters before the first step: the encoder as loaded, the head drawn with the run's seed."""
    config = setup.start.config
    drawn = jax.jit(functools.partial(draw_params, setup.model))(jax.random.key(config.run.seed))
    return warm_start.merge(drawn, parameters.pad_vocabulary(setup.start.params, config.model), config.init)[0]


def open_steps(setup: Setup) -> Callable[[int], tuple[dict[str, jax.Array], int]]:
    """Returns `train(number)` for steps from 1 on: builds the batch, makes the step; its metrics and examples."""
    params = jax.tree.map(np.asarray, start_params(setup))
    optimizer, step = make_optimizer_and_step(setup)
    train_state = TrainState(step=jnp.int32(0), params=params, opt=optimizer.init(params))
    train_state = jax.device_put(train_state, sharding.replicated(setup.mesh))
    batches = Batches(setup)

    def train(number: int) -> tuple[dict[str, jax.Array], int]:
        nonlocal train_state
        rows, examples = batches.at(number)
        train_state, metrics = step(train_state, rows)
        return metrics, examples

    return train


def open_turn(setup: Setup, steps: int) -> tuple[Callable[[], float], int]:
    """Returns a turn of the first steps of an epoch, always on the same batches, and its number of examples.

    The turn is a function that returns its wall seconds.
    """
    train = open_steps(setup)
    steps = min(steps, setup.per_epoch)
    batches = Batches(setup)

    def turn() -> float:
        began = time.perf_counter()
        jax.block_until_ready([train(number)[0] for number in range(1, steps + 1)])
        return time.perf_counter() - began

    return turn, sum(batches.at(number)[1] for number in range(1, steps + 1))


# --- Both sides -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Contender(race.Contender):
    """A library in one precision that trains the task; `seconds` are those of its turns."""

    precision: str
    filled: float
    """Share of the slots that hold a token, over an epoch."""
    examples: int
    """Number of examples in a turn."""
    turn: Callable[[], float]
    """Makes the steps of a turn; returns the wall seconds."""

    @property
    def rate(self) -> float:
        """Examples per second in the fastest turn."""
        return self.examples / self.fastest


def representative(batches: list[np.ndarray], sizes: np.ndarray, count: int) -> list[np.ndarray]:
    """Chooses `count` full batches, evenly spaced among all in the order of their longest examples.

    Args:
      batches: numbers of the examples of each batch.
      sizes: [M] tokens of each example.
      count: number of batches.
    """
    full = [batch for batch in batches if len(batch) == len(batches[0])]
    ordered = sorted(full, key=lambda batch: int(sizes[batch].max()))
    return [ordered[int((number + 0.5) / count * len(ordered))] for number in range(count)]


def throughput(contenders: list[Contender]) -> list[dict[str, Any]]:
    """The examples per second of each contender, and those of the first one over it, see `bench_finetune`."""
    rows = []
    for contender in contenders:
        rounds = zip(contenders[0].seconds, contender.seconds, strict=True)
        scale = contenders[0].examples / contender.examples
        rows.append(
            {
                "name": contender.name,
                "precision": contender.precision,
                "examples_per_second": contender.rate,
                "filled": contender.filled,
                "ratio": contenders[0].rate / contender.rate,
                "ratio_median": statistics.median(theirs / ours * scale for ours, theirs in rounds),
            }
        )
    return rows
