"""Our own side of `bertlite bench finetune`, and the turns that the two sides take."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights import parameters
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.finetuning.batches import Batches
from bertlite_jax.jobs.finetuning.prepare import make_optimizer_and_step, prepare
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.jobs.finetuning.start import draw_params
from bertlite_jax.train import schedules, sharding, warm_start
from bertlite_jax.train.state import TrainState

# --- Our side --------------------------------------------------------------------------------------------------------


def open_setup(recipe: Finetune, init: str) -> Setup:
    """What `finetune` settles before its first step. Raises UserError for what `finetune` refuses."""
    if not init:
        raise UserError("bench: --init is missing; name a run, or a folder of transformers or of convert.py from-hf")
    with adoption.open_weights(init) as given:
        return prepare(recipe, given, init)


def optim_in_steps(setup: Setup) -> Optim:
    """The recipe's, with the warm-up that `finetune` carries out."""
    config = setup.start.config
    return schedules.with_warmup(config.optim, config.run.warmup_fraction, setup.steps)


def start(setup: Setup) -> Any:
    """Parameters before the first update: the encoder as it was given, the head drawn with the run's seed."""
    config = setup.start.config
    fresh = jax.jit(functools.partial(draw_params, setup.model))(jax.random.key(config.run.seed))
    return warm_start.merge(fresh, parameters.pad_vocabulary(setup.start.params, config.model), config.init)[0]


def open_updates(setup: Setup) -> Callable[[int], tuple[dict[str, jax.Array], int]]:
    """Returns `update(number)`, from 1 on: lays a batch out, makes the update; its metrics and number of examples."""
    params = jax.tree.map(np.asarray, start(setup))
    optimizer, step = make_optimizer_and_step(setup)
    begun = TrainState(step=np.int32(0), params=params, opt=optimizer.init(params))  # type: ignore[arg-type]
    held = [jax.device_put(begun, sharding.replicated(setup.mesh))]
    batches = Batches(setup)

    def update(number: int) -> tuple[dict[str, jax.Array], int]:
        rows, examples = batches.at(number)
        held[0], metrics = step(held[0], rows)
        return metrics, examples

    return update


def open_turn(setup: Setup, steps: int) -> tuple[Callable[[], float], int]:
    """A turn of the first updates of an epoch, always the same batches: wall seconds; and how many examples it has."""
    update = open_updates(setup)
    steps = min(steps, setup.per_epoch)
    batches = Batches(setup)

    def turn() -> float:
        began = time.perf_counter()
        jax.block_until_ready([update(number)[0] for number in range(1, steps + 1)])
        return time.perf_counter() - began

    return turn, sum(batches.at(number)[1] for number in range(1, steps + 1))


# --- Turns -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Contender:
    """Somebody who trains, and how long its turns took."""

    name: str
    precision: str
    filled: float
    """Share of its slots that holds a token, over an epoch."""
    examples: int
    """That it learns from in a turn."""
    turn: Callable[[], float]
    """Makes the updates of a turn; wall seconds."""
    seconds: list[float] = dataclasses.field(default_factory=list)
    """Of each turn that counts."""

    @property
    def rate(self) -> float:
        """Real examples a second in its best turn: other programs can only slow a turn down."""
        return self.examples / min(self.seconds)


def race(contenders: list[Contender], rounds: int, say: Callable[[str], None]) -> None:
    """Turns for everybody, one after the other; the first, in which programs are compiled, is not counted."""
    for number in range(rounds + 1):
        say(f"bench: round {number} of {rounds}" if number else "bench: compiling and warming up")
        for contender in contenders:
            seconds = contender.turn()
            contender.seconds += [seconds] if number else []


def representative(batches: list[np.ndarray], sizes: np.ndarray, count: int) -> list[np.ndarray]:
    """Full batches, evenly spaced among all when they are ordered by their longest example."""
    full = [batch for batch in batches if len(batch) == len(batches[0])]
    ordered = sorted(full, key=lambda batch: int(sizes[batch].max()))
    return [ordered[int((place + 0.5) / count * len(ordered))] for place in range(count)]


def throughput(contenders: list[Contender]) -> list[dict[str, Any]]:
    """A row for each, with the first one's figure over it: by best turns, and the median over the rounds."""
    rows = []
    for each in contenders:
        rounds = zip(contenders[0].seconds, each.seconds, strict=True)
        scale = contenders[0].examples / each.examples
        rows.append(
            {
                "name": each.name,
                "precision": each.precision,
                "examples_per_second": each.rate,
                "filled": each.filled,
                "ratio": contenders[0].rate / each.rate,
                "ratio_median": statistics.median(theirs / ours * scale for ours, theirs in rounds),
            }
        )
    return rows
