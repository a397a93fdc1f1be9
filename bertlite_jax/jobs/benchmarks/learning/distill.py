"""`bertlite bench distill`: what a teacher costs in a step of distillation, live and stored.

Four programs take turns on the same rows: the student's step of plain pretraining, the teachers' forward pass, the step
with live teachers, and the step that reads what they say. A step with live teachers can at best take as long as the
first two together, one with a store as long as the first. The store's arrays lie in memory here: what is timed is the
step and not the disk.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.config import files, schedule
from bertlite_jax.config.distillation.checks import check_distill
from bertlite_jax.config.distillation.settings import TOP_K, Distill, untaught
from bertlite_jax.data.rows import stages
from bertlite_jax.data.teaching import records
from bertlite_jax.errors import UserError
from bertlite_jax.host import memory, whole_files
from bertlite_jax.jobs.benchmarks import machine, output, race
from bertlite_jax.jobs.distilling import origin
from bertlite_jax.jobs.distilling.step import make_answers, make_distillation, observers
from bertlite_jax.jobs.distilling.teachers import Teacher, open_teachers
from bertlite_jax.jobs.pretraining.opening import Opened, open_run
from bertlite_jax.jobs.pretraining.step import Pretraining, make_pretraining
from bertlite_jax.report import terminal
from bertlite_jax.report.benchmarks import distillation
from bertlite_jax.train import sharding, state
from bertlite_jax.train.distillation import objective, targets
from bertlite_jax.train.step import Batch, step_key

BATCHES = 4
"""Number of different batches that the steps cycle through."""
STUDENT, TEACHER, LIVE, STORED = "student alone", "teachers, forward", "live teachers", "stored teachers"

Steps = Callable[[int], float]
"""(steps) -> wall seconds of that many."""


@dataclasses.dataclass
class Contender(race.Contender):
    """One of the four programs; `seconds` are per step, the mean over a turn."""

    take: Steps


def bench_distill(
    config: str,
    /,
    teacher: tuple[str, ...] = (),
    corpus: tuple[str, ...] = (),
    tokenizer: str = "",
    rows: int = 0,
    top_k: int = TOP_K,
    rounds: int = 6,
    steps: int = 3,
    out: str = "",
) -> dict[str, Any]:
    """Times a step of distillation with live and with stored teachers, beside the student's own and the teachers' part.

    Args:
      config: Recipe of a distillation, by its name or path.
      teacher: Runs or folders of the teachers; by default the recipe's.
      corpus: Corpus folders; by default the recipe's.
      tokenizer: Folder of the tokenizer; by default the recipe's.
      rows: Rows in a step, which has no micro-batches here; 0: those of one of the recipe's micro-batches.
      top_k: Pieces of each prediction that the store has; 0: all.
      rounds: Turns of each program.
      steps: Steps in a turn.
      out: JSON file for the figures.

    Returns:
      {"seconds": of a step of each program, the fastest turn; "live_over_sum": the step with live teachers over student
      and teachers together; "stored_over_student"; "machine", "settings"}.

    Raises:
      UserError: the recipe is none of distillation, or cannot be carried out.
    """
    output.check_file("out", out)
    for name, value in (("rounds", rounds), ("steps", steps)):
        if value < 1:
            raise UserError(f"bench: --{name} {value} must be positive")
    for name, value in (("rows", rows), ("top-k", top_k)):
        if value < 0:
            raise UserError(f"bench: --{name} {value} cannot be negative")
    recipe = open_recipe(config, teacher, corpus, tokenizer, rows)
    load, console = os.getloadavg()[0], terminal.open_console()
    memory.keep_freed_memory()
    opened = open_run(recipe, check_distill)
    taught = tuple(each.reduced(opened.config) for each in open_teachers(opened.config, opened.tokenizer))
    console.print("bench: compiling")
    contenders = [Contender(name, take=take) for name, take in programs(opened, taught, top_k).items()]
    race.race(contenders, rounds, lambda each: [each.take(steps) / steps], console.print)
    figures = compare({each.name: each.fastest for each in contenders})
    settings = {"rounds": rounds, "steps": steps, "top_k": top_k, "compute": opened.compute} | files.flat(opened.config)
    figures |= {"machine": machine.describe(("jax", "jaxlib", "numpy"), load), "settings": settings}
    distillation.print_steps(figures, console)
    if out:
        whole_files.write_json(out, figures)
    return figures


def compare(seconds: Mapping[str, float]) -> dict[str, Any]:
    """The two ratios, from the seconds of a step of each program."""
    return {
        "seconds": dict(seconds),
        "live_over_sum": seconds[LIVE] / (seconds[STUDENT] + seconds[TEACHER]),
        "stored_over_student": seconds[STORED] / seconds[STUDENT],
    }


def open_recipe(path: str, teacher: Sequence[str], corpus: Sequence[str], tokenizer: str, rows: int) -> Distill:
    """The recipe with these teachers and data, and steps of so many rows in one part."""
    recipe = files.load_file(path, "")
    if not isinstance(recipe, Distill):
        raise UserError(f"config: {path}: config is a {type(recipe).__name__}; bench distill needs a Distill")
    rows = rows or max(1, recipe.data.batch_rows // recipe.optim.micro_batches)
    data = dataclasses.replace(
        recipe.data,
        corpus=tuple(corpus) or recipe.data.corpus,
        tokenizer=tokenizer or recipe.data.tokenizer,
        batch_rows=rows,
    )
    taught = dataclasses.replace(recipe.distill, teachers=tuple(teacher) or recipe.distill.teachers, store="")
    optim = dataclasses.replace(recipe.optim, micro_batches=1)
    return schedule.unscheduled(dataclasses.replace(recipe, data=data, distill=taught, optim=optim))


# --- The four programs -----------------------------------------------------------------------------------------------


def programs(opened: Opened, teachers: Sequence[Teacher], top_k: int) -> dict[str, Steps]:
    """Each compiled and run once.

    Args:
      opened: the recipe and its rows.
      teachers: `reduced`.
      top_k: pieces of a stored prediction; 0: all.
    """
    config, mesh = opened.config, opened.mesh
    special_ids = opened.row_stages[0].source.special_ids
    described = tuple(each.described() for each in teachers)
    batch_list = [stages.batch_at(opened.row_stages, step) for step in range(1, BATCHES + 1)]
    on_device = [sharding.put_batch(batch, mesh) for batch in batch_list]
    layouts = [sharding.layout(each.params, mesh) for each in teachers]
    params = tuple(sharding.put_params(each.params, layout) for each, layout in zip(teachers, layouts, strict=True))

    distilling = functools.partial(
        make_distillation, config, opened.compute, mesh, special_ids, teachers=described, in_floats=opened.in_floats
    )
    layout, stored = _stored(opened, described, params, on_device, top_k)
    beside = [batch | said for batch, said in zip(on_device, stored, strict=True)]
    alone = make_pretraining(untaught(config), opened.compute, mesh, special_ids)
    return {
        STUDENT: _training(alone, config, on_device),
        TEACHER: _forward(opened, described, params, on_device),
        LIVE: _training(distilling(), config, on_device, *params),
        STORED: _training(distilling(stored={config.data.length: layout}), config, beside),
    }


def _training(made: Pretraining, config: Distill, batch_list: Sequence[Batch], *teachers: Any) -> Steps:
    held = state.init_state(made.init_params, made.optimizer, config.run.seed, made.layout)
    program = made.step.lower(held, batch_list[0], *teachers).compile()

    def take(steps: int) -> float:
        nonlocal held
        begin, metrics = time.perf_counter(), {}
        for number in range(steps):
            held, metrics = program(held, batch_list[number % BATCHES], *teachers)
        jax.block_until_ready(metrics)
        return time.perf_counter() - begin

    take(1)
    return take


def _forward(opened: Opened, teachers: Sequence[Teacher], params: Any, batch_list: Sequence[Batch]) -> Steps:
    """The masks of a step and the teachers' part of it. Its result is a number that needs all of what they say."""
    config = opened.config
    prepare = objective.make_prepare(config, opened.row_stages[0].source.special_ids)
    seen, models = observers(config, opened.in_floats, teachers), [each.model for each in teachers]

    @jax.jit
    def forward(params: Any, batch: Batch, updates: jax.Array) -> jax.Array:
        rows, _ = prepare(step_key(config.run.seed, updates), batch, updates)
        shown = [each(frozen, rows, None) for each, frozen in zip(seen, params, strict=True)]
        said = targets.of_teachers(shown, models, config).values()
        return jnp.stack([value.astype(jnp.float32).sum() for value in said]).sum()

    def take(steps: int) -> float:
        begin = time.perf_counter()
        for number in range(steps):
            jax.block_until_ready(forward(params, batch_list[number % BATCHES], np.int32(number)))
        return time.perf_counter() - begin

    take(BATCHES)
    return take


def _stored(
    opened: Opened, teachers: Sequence[Teacher], params: Any, batch_list: Sequence[Batch], top_k: int
) -> tuple[records.Layout, list[dict[str, Any]]]:
    """What the step reads of a store, and that for each batch, with the masks of the first steps, whatever follows."""
    config, mesh, pieces = opened.config, opened.mesh, opened.config.model.vocab_size
    special_ids = opened.row_stages[0].source.special_ids
    answers = make_answers(config, opened.in_floats, mesh, special_ids, teachers, min(top_k or pieces, pieces))
    said = [jax.device_get(answers((np.int32(step), params), batch)) for step, batch in enumerate(batch_list)]
    layout = origin.read_of(records.layout_of(said[0]), targets.names_of(config, [each.model for each in teachers]))
    names = [entry.name for entry in layout]
    arrays = [targets.in_batch({name: each[name] for name in names}) for each in said]
    return layout, [sharding.put_batch(each, mesh) for each in arrays]
