"""`bertlite teach`: runs the teachers of a distillation once, and stores what they say. Read it from top to bottom.

A store is a folder of ArrayRecord files with a record for each row of each step, in their order. Which windows a row
has and which of its tokens are masked follow from seed, step and row, so what a teacher says of them does too.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from bertlite_jax.config import schedule
from bertlite_jax.config.distillation.checks import check_distill
from bertlite_jax.config.distillation.settings import TOP_K, Distill, losses_of
from bertlite_jax.data.rows import batches, stages
from bertlite_jax.data.teaching import records, writing
from bertlite_jax.data.teaching.index import COMPUTE, STEPS, TOP, Index
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.distilling import costs
from bertlite_jax.jobs.distilling.origin import origin
from bertlite_jax.jobs.distilling.step import Answers, make_answers
from bertlite_jax.jobs.distilling.teachers import Teacher, open_teachers
from bertlite_jax.jobs.pretraining import memory_need
from bertlite_jax.jobs.pretraining.opening import Opened, open_run
from bertlite_jax.jobs.pretraining.step import batch_shapes
from bertlite_jax.model.ops.precision import activation_dtype
from bertlite_jax.report.run import metrics
from bertlite_jax.train import processes, sharding
from bertlite_jax.train.distillation import targets


def teach(config: Distill, out: str = "", top_k: int = TOP_K, overwrite: bool = False) -> dict[str, Any]:
    """Starts a store, or goes on with it.

    It computes what `distill` computes of the teachers with the same config: in as many micro-batches, on as many
    devices, in the same precision. A store that is killed while it is written has whole files only, and the next start
    ends with the bytes of one that was left alone.

    Args:
      config: of the run. Settings of the student alone may be others in the run that reads the store.
      out: folder of the store; empty: `distill.store`.
      top_k: pieces of each prediction that are stored, the likeliest; 0: all.
      overwrite: write a store anew that the folder holds.

    Returns:
      `steps`, `rows`, `bytes` of the records before they are compressed; with fewer than all pieces `top_share`, the
      mean of the probability that the stored ones have together, over what this call has written.

    Raises:
      UserError: anything that is wrong before the first step, such as a folder with a store of another seed, corpus,
        masking, tokenizer or teacher, or with something else in it.
    """
    # --- Check everything that can be checked before the first batch ---------------------------------------------
    schedule.refuse_strings(config)
    place = out or config.distill.store
    _check_options(config, place, top_k)
    writing.check_place(place)
    opened = open_run(config, check_distill)
    config = opened.config
    teachers = open_teachers(config, opened.tokenizer)
    taught = tuple(teacher.reduced(config) for teacher in teachers)
    _check_memory(opened, taught)
    pieces = config.model.vocab_size
    top_k = min(top_k or pieces, pieces)

    # --- What the store is made of, and which steps each file holds ---------------------------------------------------
    answers_at = _make_all_answers(opened, taught, top_k)
    data_at = functools.partial(stages.data_at, opened.row_stages)
    drawn = [data_at(step) for step in range(1, config.run.steps + 1)]
    firsts = {data.length: step for step, data in reversed(list(enumerate(drawn, start=1)))}
    layouts = {length: _layout(opened, taught, answers_at(step), step) for length, step in sorted(firsts.items())}
    of = origin(config, opened.tokenizer, teachers) | {STEPS: config.run.steps, TOP: top_k, COMPUTE: opened.in_floats}
    made = Index(of, layouts)
    sizes = [(data.batch_rows, data.batch_rows * records.record_bytes(layouts[data.length])) for data in drawn]
    parts = writing.parts_of(sizes)
    rows, size = (sum(numbers) for numbers in zip(*sizes, strict=True))
    print(f"teach: {config.run.steps:,} steps, {rows:,} rows, at most {size / 1e6:,.1f} MB in {len(parts):,} files")

    # --- The files that are missing ----------------------------------------------------------------------------------
    probabilities = np.zeros(2)
    with writing.opened(place, made, overwrite) as folder:
        stretches = writing.missing(folder, parts)
        done = config.run.steps - sum(stretch[-1].last - stretch[0].first + 1 for stretch in stretches)
        if done:
            print(f"teach: {place} has {done:,} steps already")
        arrays_of_steps = _arrays_of_steps(opened, taught, answers_at, stretches)
        with metrics.progress(config.run.steps, done) as display:
            for part in itertools.chain.from_iterable(stretches):
                with writing.file_of(folder, part) as file:
                    for step in range(part.first, part.last + 1):
                        arrays = next(arrays_of_steps)
                        done += 1
                        writing.append(file, layouts[data_at(step).length], arrays)
                        probabilities += _of_top(arrays)
                        if done % config.run.log_every == 0 or done == config.run.steps:
                            display.show(done, {})
        writing.finish(folder, made, parts)
    share, count = probabilities
    figures = {"steps": config.run.steps, "rows": rows, "bytes": size}
    return figures | ({"top_share": round(float(share / count), 4)} if count else {})


# --- Before the first step -------------------------------------------------------------------------------------------


def _check_options(config: Distill, place: str, top_k: int) -> None:
    if not place:
        raise UserError("teach: name the folder of the store with --out, or set distill.store in the recipe")
    if top_k < 0:
        raise UserError(f"teach: --top-k {top_k} cannot be negative; 0 stores all pieces")
    if top_k != TOP_K and "soft" not in losses_of(config):
        raise UserError(
            f"teach: --top-k {top_k} has no effect, since no loss compares predictions; leave it out, or give "
            "distill.soft_weight"
        )
    if config.run.distributed or processes.is_called_for(os.environ):
        raise UserError(
            "teach: a store is written by one process, on all devices of its host; leave run.distributed and "
            "JAX_COORDINATOR_ADDRESS out. Several processes can train from it"
        )


def _check_memory(opened: Opened, teachers: Sequence[Teacher]) -> None:
    """Raises UserError where the teachers and a micro-batch of what they compute do not fit into memory."""
    config, mesh = opened.config, opened.mesh
    models = [teacher.model for teacher in teachers]
    width = activation_dtype(opened.in_floats).name
    for stage in schedule.stages(config):
        of_stage = dataclasses.replace(config, data=stage.config.data)
        parts = costs.step_bytes(of_stage, mesh.size, width, True, models)
        needed = {**parts, "activations": 0, "logits": 0, "total": sum(parts.values())}
        advice = f"raise optim.micro_batches (now {config.optim.micro_batches}) or lower data.batch_rows"
        memory_need.compare(needed, mesh, "teach", advice)


# --- What teachers say -----------------------------------------------------------------------------------------------


def _make_all_answers(opened: Opened, teachers: Sequence[Teacher], top_k: int) -> Callable[[int], Answers]:
    """A function from a step to what computes it; steps of the same sizes share one."""
    special_ids = opened.row_stages[0].source.special_ids
    described = tuple(teacher.described() for teacher in teachers)

    @functools.cache
    def of_stage(stage: Distill) -> Answers:
        return make_answers(stage, opened.in_floats, opened.mesh, special_ids, described, top_k)

    return lambda step: of_stage(_stage_at(opened, step))


def _stage_at(opened: Opened, step: int) -> Any:
    """The config as it holds at a step."""
    at_step = schedule.at_step(opened.config, step)
    return dataclasses.replace(at_step, data=stages.data_at(opened.row_stages, step))


def _layout(opened: Opened, teachers: Sequence[Teacher], answers: Answers, step: int) -> records.Layout:
    """Of the records of a step, without computing it."""
    params = tuple(teacher.described().params for teacher in teachers)
    batch = batch_shapes(_stage_at(opened, step), opened.mesh)
    return records.layout_of(jax.eval_shape(answers, (jax.ShapeDtypeStruct((), np.int32), params), batch))


def _arrays_of_steps(
    opened: Opened,
    teachers: Sequence[Teacher],
    answers_at: Callable[[int], Answers],
    stretches: Sequence[Sequence[writing.Part]],
) -> Iterator[Mapping[str, np.ndarray]]:
    """What the teachers say of the rows of each step of these parts; the next step is computed meanwhile."""
    config, mesh = opened.config, opened.mesh
    layouts = (sharding.layout(teacher.params, mesh) for teacher in teachers)
    params = tuple(
        sharding.put_params(teacher.params, layout) for teacher, layout in zip(teachers, layouts, strict=True)
    )
    batch_at = functools.partial(stages.batch_at, opened.row_stages)
    pending = None
    for first, last in ((stretch[0].first, stretch[-1].last) for stretch in stretches):
        feed = batches.feed(batch_at, first, last, config.data.read_threads)
        for step, batch in enumerate(feed, start=first):
            coming = answers_at(step)((np.int32(step - 1), params), sharding.put_batch(batch, mesh))
            if pending is not None:
                yield jax.device_get(pending)
            pending = coming
    if pending is not None:
        yield jax.device_get(pending)


def _of_top(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """[2]: the sum of the probabilities that the stored pieces have together, and over how many predictions."""
    if targets.TAIL not in arrays:
        return np.zeros(2)
    used = arrays[targets.TAIL] < 0  # Below 1, whatever the teacher is sure of; where nothing is predicted, it is 0.
    return np.array([np.sum(1 - np.exp(arrays[targets.TAIL][used].astype(np.float64))), np.count_nonzero(used)])
