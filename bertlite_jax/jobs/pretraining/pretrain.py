"""`bertlite pretrain`: trains an encoder on a corpus. The main job, written to be read from top to bottom.

`bertlite distill` is the same job with a lesson of its own (`jobs/distilling/distill.py`).

Everything random is a function of (seed, step, row in the global batch). There is no iterator state: a run that is
killed and started again continues with the losses that would have followed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from bertlite_jax.config import checks, schedule
from bertlite_jax.config.compression.pruned import refuse_pruned
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface import hub
from bertlite_jax.convert.weights import parameters
from bertlite_jax.data.rows import batches, stages
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.pretraining import describe, fill_mask, memory_need
from bertlite_jax.jobs.pretraining.evaluate import open_evaluation
from bertlite_jax.jobs.pretraining.lesson import Lesson
from bertlite_jax.jobs.pretraining.line_figures import LineFigures
from bertlite_jax.jobs.pretraining.loss_guard import LossGuard
from bertlite_jax.jobs.pretraining.masked_lm import OpenMaskedLM
from bertlite_jax.jobs.pretraining.opening import Opened, open_run
from bertlite_jax.jobs.pretraining.step import make_programs, make_stages
from bertlite_jax.jobs.runs import one_job, resumed_metrics, signals, tracking, workdir
from bertlite_jax.model.ops import precision, products
from bertlite_jax.report.cost import flops
from bertlite_jax.report.run import metrics
from bertlite_jax.report.run.pace import Pace
from bertlite_jax.report.trackers.opening import check_installed
from bertlite_jax.train import checkpoint, process_failures, processes, sharding, state, warm_start
from bertlite_jax.train.pretraining import objective

COMPILED_AHEAD = 100
"""Steps before a program is first needed at which it starts to be compiled beside the training."""


def pretrain(config: Pretrain, run: str, init: str = "", overwrite: bool = False) -> dict[str, Any]:
    """Starts the run in a work directory, or resumes it.

    Args:
      config: everything that the run depends on.
      run: the work directory. The README lists the files in it.
      init: run or folder of `transformers` whose weights the run starts from; empty: random weights.
      overwrite: delete a run that the directory holds, and start from step 0.

    Returns:
      The content of `summary.json`; with several processes only the first one returns it, the others return {}. A run
      that a signal stopped returns {"stopped": True, "steps": ..}.

    Raises:
      UserError: anything that is wrong before the first step.
      Diverged: the loss is not finite, or exceeds `run.spike_factor` times its running mean.
    """

    def open_lesson(opened: Opened) -> Lesson:
        return Lesson(start=_load_init(init, opened.config) if init else None, source=init)

    return train(config, run, open_lesson, checks.check_pretrain, (init,), overwrite)


def train(
    config: Pretrain,
    run: str,
    open_lesson: Callable[[Opened], Lesson],
    check: Callable[[Any, int], None],
    read: Sequence[str] = (),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Any job of this shape.

    Args:
      config: as for `pretrain`; its `job` begins messages.
      run: as for `pretrain`.
      open_lesson: gets the config with all sizes, the run's tokenizer and its rows.
      check: raises UserError for a config that cannot work on so many devices.
      read: folders that the run reads beside tokenizer and corpora; empty ones are none.
      overwrite: as for `pretrain`.

    Returns:
      As `pretrain`; raises what it raises.
    """
    schedule.refuse_strings(config)
    folder = pathlib.Path(run)
    with (
        processes.joined(config.run.distributed),
        checkpoint.naming_good_ones(folder / "checkpoints", f"{config.job}: {folder}"),
        contextlib.ExitStack() as until_the_end,
    ):
        return _train(config, folder, open_lesson, check, read, overwrite, until_the_end)


def _train(
    config: Pretrain,
    folder: pathlib.Path,
    open_lesson: Callable[[Opened], Lesson],
    check: Callable[[Any, int], None],
    read: Sequence[str],
    overwrite: bool,
    until_the_end: contextlib.ExitStack,
) -> dict[str, Any]:
    # --- Check everything that can be checked before the first batch ---------------------------------------------
    clock = metrics.Clock()
    opened = open_run(config, check)
    processes.first_decides(lambda: check_installed(config.run.track))
    config, mesh, tokenizer, row_stages, compute, _ = opened
    lesson = open_lesson(opened)
    step_bytes = memory_need.check(config, mesh, compute, lesson.memory)
    special_ids = row_stages[0].source.special_ids
    data_at = functools.partial(stages.data_at, row_stages)
    stage_at = make_stages(config, data_at, compute, mesh, special_ids, lesson.make)
    pretraining = stage_at(config.run.steps).pretraining
    final = dataclasses.replace(config, data=stages.of_length(config))
    evaluate = open_evaluation(final, pretraining.model.apply, mesh, tokenizer)
    if lesson.start is not None:
        warm_start.check_shapes(pretraining.layout.shapes, lesson.start, lesson.source)

    # --- Work directory -----------------------------------------------------------------------------------------
    processes.first_decides(lambda: until_the_end.enter_context(one_job.alone_in(folder)))
    holds_run = processes.first_decides(lambda: _open_folder(folder, config, lesson, read, overwrite))
    saved_step = checkpoint.newest_good(folder / "checkpoints", print) if holds_run else None
    start = saved_step or 0

    # --- State; the step is compiled meanwhile ------------------------------------------------------------------------
    platform = mesh.devices.flat[0].platform
    device_kind = mesh.devices.flat[0].device_kind
    peak = flops.peak_flops(device_kind, precision.activation_dtype(compute).name, _multiply(compute))
    program_of = make_programs(stage_at, mesh)
    if start < config.run.steps:
        program_of(start + 1)
    made = pretraining.init_params, pretraining.optimizer
    train_state = state.init_state(*made, config.run.seed, pretraining.layout, pretraining.follows_from)
    print(describe.run(config, row_stages, mesh, compute, train_state, step_bytes))
    if config.data.pair_task != "none":
        print(describe.pairs_of(row_stages, tokenizer, config.job))
    teachers = tuple(map(sharding.put_params, lesson.teachers, pretraining.teachers))

    # --- Resume where the last run stopped: own checkpoint, else the lesson's weights, else random weights -----------
    meta: dict[str, Any] = {"seconds": 0.0, "real_tokens": 0.0, "flops": 0.0}
    if saved_step is not None:
        like = state.shapes_of(pretraining.layout, pretraining.optimizer)
        params, opt, meta = checkpoint.restore(folder / "checkpoints", saved_step, like.params, like.opt)
        step_count = jax.device_put(np.int32(saved_step), sharding.replicated(mesh))
        train_state = state.TrainState(step=step_count, params=params, opt=opt)
        print(describe.resumed(config, saved_step, folder))
    elif lesson.start is not None:
        train_state = dataclasses.replace(train_state, params=_merge_start(train_state.params, lesson))
    lesson = lesson._replace(start=None, teachers=())  # On the devices now; the host need not keep them.
    processes.first_decides(lambda: resumed_metrics.truncate(folder / "metrics.jsonl", start))

    # --- The loop: dispatch step n, then read the metrics of step n - 1 ---------------------------------------------
    guard = LossGuard(config, row_stages, folder / "checkpoints", meta, schedule.changes(config))
    of_line = LineFigures(meta.get("line", {}))
    devices = 1 if device_kind == "cpu" else mesh.size  # A CPU's peak is the whole host's.
    pace = Pace(peak, devices, meta)
    trace = _profiler(config, folder)
    figures: dict[str, float] = {}
    stopped = False
    with contextlib.ExitStack() as on_leaving:
        stop_wanted = on_leaving.enter_context(signals.stop_signals())
        display = on_leaving.enter_context(metrics.progress(config.run.steps, start))
        write = _metrics_writer(config, folder, start, on_leaving)
        checkpoints = checkpoint.open_checkpoints(folder / "checkpoints", config.run.keep_last, config.run.keep_every)
        on_leaving.callback(checkpoint.finish, checkpoints)
        on_leaving.callback(trace, 0)
        # Entered last and so left first: the callbacks above wait for the other processes.
        on_leaving.enter_context(process_failures.telling())
        on_leaving.enter_context(checkpoint.naming_good_ones(checkpoints.folder, f"{config.job}: {folder}"))

        def read_metrics(number: int, pending: dict[str, jax.Array]) -> None:
            """Reads the metrics of a step that was dispatched earlier; checks, counts and logs them."""
            with clock.measure("step"):
                values = objective.readable({k: float(v) for k, v in jax.device_get(pending).items()})
            causal = schedule.is_causal(config, number)
            guard.check(number, values, causal)
            of_line.add(values, causal)
            made = stage_at(number).config
            step_flops = flops.train_flops_per_step(made) + lesson.flops(made)
            pace.count(values["real_tokens"], step_flops, clock.seconds()["data"])
            if number % config.run.log_every == 0 or number == config.run.steps:
                line = of_line.take() | pace.read()
                write(number, line)
                display.show(number, line)

        pending: dict[str, jax.Array] | None = None

        def batch_of(number: int) -> batches.Batch:
            """The rows of a step that belong to this process."""
            batch = stages.batch_at(row_stages, number, jax.process_index(), jax.process_count())
            return batch | lesson.beside(number, batch)

        feed = batches.feed(batch_of, start + 1, config.run.steps, config.data.read_threads)
        compiles_ahead = platform != "gpu"  # There the compiler times kernels on the device that is training.
        begun = {stage_at(start + 1).config}
        for number in range(start + 1, config.run.steps + 1):
            trace(number)
            with clock.measure("data"):
                batch = sharding.put_batch(next(feed), mesh)
            new_stage = stage_at(number).config not in begun
            begun.add(stage_at(number).config)
            with clock.measure("compile"):
                program = program_of(number).result()  # Waits where a stage begins.
            with clock.measure("step"):
                train_state, step_metrics = program.step(train_state, batch, *teachers)
            for coming in schedule.coming(config, number) if compiles_ahead else ():
                if coming <= number + COMPILED_AHEAD:
                    program_of(coming)
            if number == start + 1:
                display.print_line(clock.first_step(program.seconds))
                if mesh.size > 1:
                    display.print_line(
                        f"a step sends {program.sent_bytes / 1e6:,.2f} MB from each device to the others"
                    )
            if new_stage:
                pace.pause()
            if pending is not None:
                read_metrics(number - 1, pending)
            pending = step_metrics
            checkpoint.maybe_seal(checkpoints)

            last, stopped = number == config.run.steps, stop_wanted(number)
            evaluates = config.run.eval_every and number % config.run.eval_every == 0
            if last or stopped or evaluates or number % config.run.checkpoint_every == 0:
                read_metrics(number, pending)  # A checkpoint must not hold a state that the guard would have refused.
                pending = None
                pace.pause()
            if last or (evaluates and not stopped):
                with clock.measure("evaluation"):
                    figures = evaluate(train_state.params)
                write(number, figures)
                display.print_line(describe.evaluation(number, figures))
            if last or stopped or number % config.run.checkpoint_every == 0:
                with clock.measure("checkpoint"):
                    meta = {"step": number, "line": of_line.stored(), **guard.means, **pace.totals()}
                    checkpoint.save(checkpoints, number, train_state.params, train_state.opt, meta)
            if stopped:
                break

    # --- Summary -------------------------------------------------------------------------------------------------
    number = int(train_state.step)
    if stopped and number < config.run.steps:
        print(
            f"{config.job}: stopped by a signal after step {number}, which is saved; the same command resumes the run"
        )
        return {"stopped": True, "steps": number} if processes.is_first() else {}
    figures = figures or evaluate(train_state.params)
    summary = {
        "steps": number,
        "real_tokens": int(pace.totals()["real_tokens"]),
        "wall_seconds": round(pace.totals()["seconds"], 1),
        **figures,
        "parameters": state.count_parameters(train_state.params),
        "compute": compute,
        "time_shares": {name: round(share, 4) for name, share in clock.shares().items()},
    }
    params = jax.device_get(sharding.whole(train_state.params, mesh))
    if not processes.is_first():
        return {}
    whole_files.write_json(folder / "summary.json", summary)
    opened = OpenMaskedLM(config.model, pretraining.model, params, tokenizer)
    whole_files.write_json(folder / "samples.json", fill_mask.sample_predictions(opened, config.data))
    return summary


# --- Files -----------------------------------------------------------------------------------------------------------


def _open_folder(folder: pathlib.Path, config: Pretrain, lesson: Lesson, read: Sequence[str], overwrite: bool) -> bool:
    """Makes the work directory, with the run's tokenizer. Returns whether it held this run already."""
    read = (*read, config.data.tokenizer, *config.data.corpus)
    environment = workdir.environment(config.data.corpus, lesson.digests, lesson.stores, hub.commits(read))
    holds_run = workdir.open_workdir(folder, config, overwrite, environment, print, read)
    workdir.copy_tokenizer(config.data.tokenizer, folder)
    if config.run.track:
        tracking.id_of(folder)  # If it is damaged, all processes end here.
    return holds_run


def _metrics_writer(
    config: Pretrain, folder: pathlib.Path, start: int, on_leaving: contextlib.ExitStack
) -> Callable[[int, Mapping[str, Any]], None]:
    """Returns `write(step, values)` for metrics.jsonl and all that mirrors it; only the first process writes."""
    if not processes.is_first():
        return lambda step, values: None
    trackers = tracking.records(folder, config)
    writer = on_leaving.enter_context(metrics.open_writer(folder, config.run.tensorboard, start + 1, trackers))
    return functools.partial(metrics.write, writer)


# --- Weights --------------------------------------------------------------------------------------------------------


def _load_init(init: str, config: Pretrain) -> Any:
    """Parameters of another run or program, for the config's residual scale."""
    loaded = sources.load(init, config.job)
    refuse_pruned(loaded.model, f"{config.job}: --init {init}: pretraining")
    params = parameters.pad_vocabulary(loaded.params, config.model)
    return parameters.rescaled(params, loaded.model, config.model)


def _merge_start(drawn: Any, lesson: Lesson) -> Any:
    """The lesson's parameters, and the drawn ones where it has none, sharded like the drawn ones."""
    params, notes = warm_start.merge(drawn, lesson.start, lesson.source)
    for note in (*lesson.notes, *notes):
        print(note)
    return jax.device_put(params, jax.tree.map(lambda leaf: leaf.sharding, drawn))


# --- Speed -----------------------------------------------------------------------------------------------------------


def _multiply(compute: precision.Compute) -> Callable[[np.ndarray, np.ndarray], object]:
    """A layer's product in the precision of the run; measures what a CPU can do."""
    product = jax.jit(lambda a, b: products.dense(a, {"kernel": b, "bias": b[0]}, compute))
    return lambda a, b: product(a, b).block_until_ready()


# --- Profile ---------------------------------------------------------------------------------------------------------


def _profiler(config: Pretrain, folder: pathlib.Path) -> Callable[[int], None]:
    """Returns `trace(step)`, called before each step, which starts and ends the profiler; `trace(0)` always ends it."""
    first, last = config.run.profile_steps if processes.is_first() else (0, 0)
    running = False

    def trace(number: int) -> None:
        nonlocal running
        if first and number == first:
            jax.profiler.start_trace(folder / "profile")
            running = True
        elif running and (number == last or number == 0):
            jax.profiler.stop_trace()
            running = False
            print(f"{config.job}: profile of steps {first} to {last - 1} in {folder / 'profile'}")

    return trace
