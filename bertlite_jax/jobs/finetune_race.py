"""Our own side of `bertlite bench finetune`, opened as `finetune` opens it, and the turns that the two sides take."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bertlite_jax.config import Finetune, Finetuned, Optim
from bertlite_jax.convert import parameters
from bertlite_jax.data import task_batches
from bertlite_jax.data.tasks import Task
from bertlite_jax.data.tokenizer import Tokenizer
from bertlite_jax.jobs import task_examples, task_model
from bertlite_jax.jobs.task_examples import Split
from bertlite_jax.model import precision
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train import optim, schedules, sharding, state, task_loss, warm_start
from bertlite_jax.train.step import make_step

# --- Our side --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Ours:
    """A run of `finetune` that has not begun.

    Attributes:
      config: the recipe as it is carried out.
      task, tokenizer, train, valid: what is learnt, and from what.
      compute: mode of the products.
      steps, per_epoch: updates of the run and of an epoch.
      optim: with the warm-up in steps.
      shape: of a batch.
      given: parameters of the encoder, nested.
    """

    config: Finetuned
    task: Task
    tokenizer: Tokenizer
    train: Split
    valid: Split
    compute: precision.Compute
    steps: int
    per_epoch: int
    optim: Optim
    shape: task_batches.Shape
    given: dict[str, Any]

    @property
    def filled(self) -> float:
        """Share of the slots of an epoch that holds tokens."""
        slots = self.per_epoch * self.shape.rows * self.shape.length
        return self.train.encoded.counts["tokens"] / slots


def open_ours(recipe: Finetune, init: str) -> Ours:
    """Reads the encoder and both splits, and settles steps and shapes as `finetune` does.

    Raises:
      UserError: what `finetune` refuses.
    """
    task = task_examples.task_named(recipe.data.task)
    begun = task_model.take_over(recipe, task.head, init)
    head, data = begun.config.head, recipe.data
    train, valid = task_examples.open_splits(task, data, head, begun.tokenizer)
    task_examples.check_training(train.encoded, head)
    per_epoch = task_batches.batches_in_epoch(train.encoded.counts["examples"], data.batch_examples)
    steps = recipe.run.steps or max(1, round(recipe.run.epochs * per_epoch))
    warmup = recipe.optim.warmup_steps or int(recipe.run.warmup_fraction * steps)
    epochs = -(-steps // per_epoch)
    return Ours(
        config=begun.config,
        task=task,
        tokenizer=begun.tokenizer,
        train=train,
        valid=valid,
        compute=precision.resolve(begun.config.model.compute, jax.default_backend()),
        steps=steps,
        per_epoch=per_epoch,
        optim=dataclasses.replace(recipe.optim, warmup_steps=min(warmup, steps - 1)),
        shape=task_batches.plan(
            train.encoded, data.batch_examples, data.pack, data.row_length, epochs, recipe.run.seed
        ),
        given=begun.params,
    )


def start(ours: Ours) -> Any:
    """Parameters before the first update: the encoder as it was given, the head drawn with the run's seed."""
    model = TaskModel(ours.config.model, ours.config.head, ours.compute)
    fresh = jax.jit(functools.partial(task_model.init_params, model))(jax.random.key(ours.config.run.seed))
    return warm_start.merge(fresh, parameters.pad_vocabulary(ours.given, ours.config.model), ours.config.init)[0]


def open_updates(ours: Ours) -> Callable[[int], dict[str, float]]:
    """Returns `update(step)`, steps from 0 on and one after the other: the batch is laid out, the update made.

    The metrics that it returns are those of `train.step`, still on the device.
    """
    config, head, mesh = ours.config, ours.config.head, sharding.make_mesh(1)
    model = TaskModel(config.model, head, ours.compute)
    batch = config.data.batch_examples
    params = start(ours)
    optimizer = optim.make_optimizer(ours.optim, ours.steps, batch, params)
    begun = state.TrainState(step=np.int32(0), params=params, opt=optimizer.init(params))  # type: ignore[arg-type]
    held = [jax.device_put(begun, sharding.replicated(mesh))]
    step = make_step(
        prepare=task_loss.make_prepare(),
        loss=task_loss.make_loss(model.apply, head, config.model),
        optimizer=optimizer,
        learning_rate=schedules.schedule(ours.optim, ours.steps, batch),
        mesh=mesh,
        micro_batches=config.optim.micro_batches,
        seed=config.run.seed,
        unroll=config.model.unroll,
    )
    deal = functools.cache(functools.partial(task_batches.deal, ours.train.encoded.sizes, batch, config.run.seed))

    def update(number: int) -> Any:
        epoch, index = divmod(number, ours.per_epoch)
        layout = task_batches.batch_at(
            ours.train.encoded, deal(epoch), index, ours.shape, head, config.data.pack, ours.tokenizer.pad_id
        )
        held[0], metrics = step(held[0], sharding.put_batch(layout.batch, mesh))
        return metrics

    return update


def open_turn(ours: Ours, steps: int) -> tuple[Callable[[], float], int]:
    """A turn of the first so many updates of an epoch, always the same ones: (wall seconds, examples learnt from)."""
    update = open_updates(ours)
    steps = min(steps, ours.per_epoch)
    dealt = task_batches.deal(ours.train.encoded.sizes, ours.config.data.batch_examples, ours.config.run.seed, 0)

    def turn() -> float:
        began = time.perf_counter()
        metrics = [update(number) for number in range(steps)]
        jax.block_until_ready(metrics)
        return time.perf_counter() - began

    return turn, int((dealt[:steps] >= 0).sum())


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
