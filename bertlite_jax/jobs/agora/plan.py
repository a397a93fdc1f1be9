"""How many models a loop trains, and about how long that takes: `bertlite agora --dry-run`."""

from __future__ import annotations

import dataclasses
import time

import jax
import numpy as np

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.jobs.agora import families
from bertlite_jax.jobs.agora.ground import Ground
from bertlite_jax.jobs.finetuning.batches import Batches
from bertlite_jax.jobs.finetuning.prepare import init_params, layout_of, make_optimizer_and_step
from bertlite_jax.jobs.finetuning.setup import Extra, Setup
from bertlite_jax.report.run.metrics import clock_time
from bertlite_jax.train import state

TIMED = 3
"""Steps behind the first, which compiles."""


def print_plan(ground: Ground, setup: Setup) -> None:
    """Prints how many models are trained, and what they cost by the pace of a few steps.

    Args:
      ground: of the loop.
      setup: of fine-tuning with the loop's recipe.
    """
    settings, fewest = ground.loop.agora, len(ground.sets)
    most = families.most_models(fewest, settings.replays, settings.replay_sets, settings.rounds)
    start, seconds = time_steps(setup)
    examples = setup.start.config.data.batch_examples
    per_example = seconds / examples
    batches = [one.batch_examples for one in ground.sets]
    steps = [_steps(setup, batch) for batch in batches]
    model = start + float(np.mean([count * batch for count, batch in zip(steps, batches, strict=True)])) * per_example
    print(
        f"agora: the teacher is right on {ground.right:,} of {len(ground.dev):,} validation examples "
        f"({ground.right / len(ground.dev):.1%})"
    )
    print(
        f"agora: {fewest:,} sets in the first round; {fewest:,} models in all if they all go then, {most:,} at most; "
        "which go depends on the scores"
    )
    print(
        f"agora: a model takes {_range(steps)} steps of {_range(batches)} examples, about {clock_time(model)} here, "
        f"by {TIMED} steps of {examples:,} examples that were timed just now; so the "
        f"first round takes about {clock_time(fewest * model)}, and everything at most {clock_time(most * model)}. "
        "Evaluations, and what new points add to an epoch, come on top"
    )
    print(
        f"agora: a round adds at most {max(1, int(settings.growth * ground.examples)):,} points to "
        f"{ground.examples:,} training examples"
    )


def _range(numbers: list[int]) -> str:
    """`32`, or `16 to 32`."""
    return f"{min(numbers):,}" + (f" to {max(numbers):,}" if len(set(numbers)) > 1 else "")


def _steps(setup: Setup, batch: int) -> int:
    """Steps of a model with another number of examples in a batch, as `prepare` counts them."""
    run, data = setup.start.config.run, setup.start.config.data
    return run.steps or max(1, round(setup.steps * data.batch_examples / batch))


def time_steps(setup: Setup) -> tuple[float, float]:
    """Seconds until the first step is done, most of them for compiling, and the least seconds of a further one.

    What `learn` adds is left out.
    """
    config = dataclasses.replace(setup.start.config, learn=Learn())
    setup = setup._replace(start=setup.start._replace(config=config), extra=Extra())
    before, moments = time.perf_counter(), []
    optimizer, step_fn = make_optimizer_and_step(setup)
    train_state = state.init_state(init_params(setup), optimizer, config.run.seed, layout_of(setup))
    batches = Batches(setup)
    for number in range(1, TIMED + 2):
        rows, _ = batches.at(min(number, setup.steps))
        train_state, metrics = step_fn(train_state, rows)
        jax.block_until_ready(metrics)
        moments.append(time.perf_counter())
    return moments[0] - before, float(np.diff(moments).min())
