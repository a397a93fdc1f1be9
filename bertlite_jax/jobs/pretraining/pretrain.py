"""`bertlite pretrain`: a corpus becomes a pretrained encoder. The main job, told from top to bottom.

Everything random is a function of (seed, step, row in the global batch). There is no iterator state: a run that is
killed and started again goes on with the losses that would have followed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np

from bertlite_jax.config import checks
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights import parameters
from bertlite_jax.data.rows import batches, buckets, pairs, source
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.pretraining import fill_mask
from bertlite_jax.jobs.pretraining.evaluate import Trained, open_evaluation
from bertlite_jax.jobs.pretraining.loss_guard import Guard
from bertlite_jax.jobs.pretraining.step import compile_beside, make_stages
from bertlite_jax.jobs.runs import signals, workdir
from bertlite_jax.model.ops import attention, choose_precision, precision, products
from bertlite_jax.report.cost import flops
from bertlite_jax.report.run import metrics
from bertlite_jax.report.run.pace import Pace
from bertlite_jax.train import checkpoint, process_failures, processes, sharding, state, warm_start
from bertlite_jax.train.pretraining import objective


def pretrain(config: Pretrain, run: str, init: str = "", overwrite: bool = False) -> dict[str, Any]:
    """Trains, or goes on with, the run in a work directory.

    Args:
      config: everything that the run depends on.
      run: the work directory. See the README for what is written there.
      init: a run's work directory, or a folder of `transformers`, whose weights to start from.
      overwrite: start anew where the directory holds a run.

    Returns:
      What `summary.json` holds; of several processes only the first one returns it, the others {}. A run that a
      signal stopped returns {"stopped": True, "steps": ..}.

    Raises:
      UserError: anything that can be seen to be wrong before the first step.
      Diverged: NaN, or a loss above `run.spike_factor` times its running mean.
    """
    with processes.joined(config.run.distributed):
        return _pretrain(config, pathlib.Path(run), init, overwrite)


def _pretrain(config: Pretrain, folder: pathlib.Path, init: str, overwrite: bool) -> dict[str, Any]:
    # --- Check everything that can be checked before the first batch ---------------------------------------------
    clock = metrics.Clock()
    processes.check_same_config(config)
    checks.check_counts(config)
    mesh = sharding.make_mesh(config.run.devices, config.run.fsdp, config.run.tensor)
    checks.check_pretrain(config, sharding.row_parts(mesh))
    tokenizer = _load_tokenizer(config)
    corpus = source.open_source(config.data, "train", config.run.seed, tokenizer)
    platform = mesh.devices.flat[0].platform
    compute = processes.first_decides(lambda: choose_precision.resolve(config.model.compute, platform))
    attention.choose_for(config.model, config.data.length, platform, compute)
    rows = buckets.open_buckets(corpus)
    stage_at = make_stages(config, lambda number: buckets.find(rows, number)[0].data, compute, mesh, corpus.special_ids)
    parts = stage_at(config.run.steps).parts
    evaluate = open_evaluation(config, parts.model.apply, mesh, corpus, tokenizer)
    given = _given_weights(init, config, parts.layout.shapes) if init else None

    # --- Work directory -----------------------------------------------------------------------------------------
    resumed = processes.first_decides(lambda: _open_folder(folder, config, overwrite))

    good = checkpoint.newest_good(folder / "checkpoints", print) if resumed else None
    start = good or 0

    # --- State, while the step is compiled --------------------------------------------------------------------------
    peak = flops.peak_flops(_device_kind(mesh), _stored_as(compute), _multiply(compute))
    finished = start >= config.run.steps
    compiling = Future() if finished else compile_beside(stage_at(start + 1), mesh)
    held = state.init_state(parts.init_params, parts.optimizer, config.run.seed, parts.layout)
    _describe(config, rows, corpus, tokenizer, mesh, compute, held)

    # --- Go on where the last run stopped: own checkpoint, else given weights, else fresh ones ----------------------
    meta: dict[str, Any] = {"loss_mean": None, "seconds": 0.0, "real_tokens": 0.0, "flops": 0.0}
    if good is not None:
        like = state.shapes_of(parts.layout, parts.optimizer)
        params, opt, meta = checkpoint.restore(folder / "checkpoints", good, like.params, like.opt)
        held = state.TrainState(step=jax.device_put(np.int32(good), sharding.replicated(mesh)), params=params, opt=opt)
        print(f"pretrain: going on from step {good} of {folder}")
    elif given is not None:
        held = dataclasses.replace(held, params=_warm(held.params, given, init))
    processes.first_decides(lambda: workdir.truncate_metrics(folder / "metrics.jsonl", start))

    # --- The loop: dispatch step n, then read the metrics of step n - 1 ---------------------------------------------
    guard = Guard(config.run, rows, folder / "checkpoints", meta["loss_mean"])
    devices = 1 if _device_kind(mesh) == "cpu" else mesh.size  # A CPU's peak is the whole host's.
    pace = Pace(peak, devices, meta)
    trace = _profiler(config, folder)
    figures: dict[str, float] = {}
    stopped = False
    with contextlib.ExitStack() as on_leaving:
        stop_wanted = on_leaving.enter_context(signals.stop_signals())
        display = on_leaving.enter_context(metrics.progress(config.run.steps, start))
        write = _metrics_writer(config, folder, start, on_leaving)
        saved = checkpoint.open_checkpoints(folder / "checkpoints", config.run.keep_last, config.run.keep_every)
        on_leaving.callback(checkpoint.finish, saved)
        on_leaving.callback(trace, 0)
        on_leaving.enter_context(
            process_failures.telling()
        )  # Before the others are waited for, which the lines above do.

        def settle(number: int, pending: dict[str, jax.Array]) -> None:
            """Reads the metrics of an update that was dispatched earlier; guards, counts, logs."""
            with clock.measure("step"):
                values = objective.readable({k: float(v) for k, v in jax.device_get(pending).items()})
            guard.check(number, values)
            flops_made = flops.train_flops_per_step(stage_at(number).config)
            pace.count(values["real_tokens"], flops_made, clock.seconds()["data"])
            if number % config.run.log_every == 0 or number == config.run.steps:
                line = values | pace.read()
                write(number, line)
                display.show(number, line)

        pending: dict[str, jax.Array] | None = None
        here = (jax.process_index(), jax.process_count())
        read = lambda step: buckets.batch_at(rows, step, *here)  # noqa: E731
        feed = batches.feed(read, start + 1, config.run.steps, config.data.read_threads)
        compiled = {stage_at(start + 1).config}
        for number in range(start + 1, config.run.steps + 1):
            trace(number)
            with clock.measure("data"):
                batch = sharding.put_batch(next(feed), mesh)
            with clock.measure("compile"):
                program = compiling.result()  # Waits the first time only.
            stage = stage_at(number)
            new_stage = stage.config not in compiled
            compiled.add(stage.config)
            step = program.step if stage is stage_at(start + 1) else stage.parts.step
            with clock.measure("compile" if new_stage else "step"):
                held, new = step(held, batch)
            if number == start + 1:
                display.say(clock.first_step(program.seconds))
                if mesh.size > 1:
                    display.say(f"a step sends {program.sent_bytes / 1e6:,.2f} MB from each device to the others")
            if new_stage:
                pace.pause()
            if pending is not None:
                settle(number - 1, pending)
            pending = new
            checkpoint.maybe_seal(saved)

            last, stopped = number == config.run.steps, stop_wanted(number)
            evaluates = config.run.eval_every and number % config.run.eval_every == 0
            if last or stopped or evaluates or number % config.run.checkpoint_every == 0:
                settle(number, pending)  # A checkpoint must not hold what the guard would have refused.
                pending = None
                pace.pause()
            if last or (evaluates and not stopped):
                with clock.measure("evaluation"):
                    figures = evaluate(held.params)
                write(number, figures)
                display.say(_evaluation_line(number, figures))
            if last or stopped or number % config.run.checkpoint_every == 0:
                with clock.measure("checkpoint"):
                    meta = {"step": number, "loss_mean": guard.mean} | pace.totals()
                    checkpoint.save(saved, number, held.params, held.opt, meta)
            if stopped:
                break

    # --- Summary -------------------------------------------------------------------------------------------------
    number = int(held.step)
    if stopped and number < config.run.steps:
        print(f"pretrain: stopped by a signal after step {number}, which is saved; the same command goes on from there")
        return {"stopped": True, "steps": number} if processes.is_first() else {}
    figures = figures or evaluate(held.params)
    summary = {
        "steps": number,
        "real_tokens": int(pace.totals()["real_tokens"]),
        "wall_seconds": round(pace.totals()["seconds"], 1),
        **figures,
        "parameters": state.count_parameters(held.params),
        "compute": compute,
        "time_shares": {name: round(share, 4) for name, share in clock.shares().items()},
    }
    params = jax.device_get(sharding.whole(held.params, mesh))
    if not processes.is_first():
        return {}
    whole_files.write_json(folder / "summary.json", summary)
    trained = Trained(config, params, tokenizer, parts.model.apply)
    whole_files.write_json(folder / "samples.json", fill_mask.sample_predictions(trained))
    return summary


# --- Checks ----------------------------------------------------------------------------------------------------------


def _load_tokenizer(config: Pretrain) -> Tokenizer:
    if not config.data.tokenizer:
        raise UserError(
            "config: data.tokenizer is empty; pass --data.tokenizer DIR, a folder that `bertlite tokenizer` made"
        )
    tokenizer = load_tokenizer(config.data.tokenizer)
    if tokenizer.vocab_size != config.model.vocab_size:
        raise UserError(
            f"config: model.vocab_size = {config.model.vocab_size}, but {config.data.tokenizer} has "
            f"{tokenizer.vocab_size} pieces; pass --model.vocab-size {tokenizer.vocab_size}"
        )
    return tokenizer


def _describe(config, rows, corpus, tokenizer, mesh, compute, held) -> None:
    """Says what will run, before the first step."""
    platform = mesh.devices.flat[0].platform
    scores = attention.choose_for(config.model, config.data.length, platform, compute) == "einsum"
    memory = flops.step_memory_bytes(config, mesh.size, _stored_as(compute), scores)
    steps_an_epoch = sum(source.rows_per_epoch(part) / part.data.batch_rows for part in rows.sources)
    print(
        f"pretrain: {state.count_parameters(held.params):,} parameters, {mesh.size} x {_device_kind(mesh)}, products "
        f"in {compute}, about {memory['total'] / 2**20:,.0f} MiB a device\n"
        f"pretrain: {_state_said(mesh, held)}\n"
        f"pretrain: {config.run.steps:,} steps of {_rows_said(rows)}; an epoch is {steps_an_epoch:,.1f} steps"
    )
    if config.data.pair_task == "none":
        return
    kinds = pairs.token_kinds(tokenizer.pieces(np.arange(tokenizer.vocab_size)))
    found = batches.pair_statistics(corpus, batches=min(20, math.ceil(steps_an_epoch)), kinds=kinds)
    shares = ", ".join(f"{label}: {share:.3f}" for label, share in found["label_shares"].items())
    rule = found["edge_rule_accuracy"]
    print(
        f"pretrain: pairs ({config.data.pair_task}): labels {shares}; windows without a pair "
        f"{found['weight_zero_share']:.3f}" + (f"; a rule that reads only the edges scores {rule:.3f}" if rule else "")
    )


def _rows_said(rows: buckets.Buckets) -> str:
    """`32 rows of 128, 8 rows of 512 tokens`."""
    return f"{' or '.join(f'{part.data.batch_rows} rows of {part.data.length}' for part in rows.sources)} tokens"


def _state_said(mesh: jax.sharding.Mesh, held: state.TrainState) -> str:
    """How much of the parameters, and of what the optimiser remembers, a device holds."""
    parts = {"parameters": held.params, "the optimiser's memory": held.opt}
    said = []
    for name, tree in parts.items():
        whole = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
        said.append(f"{sharding.bytes_a_device(tree) / 2**20:,.1f} of {whole / 2**20:,.1f} MiB of {name}")
    return f"mesh {sharding.describe(mesh)}; a device holds {' and '.join(said)}"


# --- Files -----------------------------------------------------------------------------------------------------------


def _open_folder(folder: pathlib.Path, config: Pretrain, overwrite: bool) -> bool:
    """Whether the work directory holds this run already; it exists afterwards, with the run's tokenizer."""
    resumed = workdir.open_workdir(folder, config, overwrite, workdir.environment(config.data.corpus), print)
    workdir.copy_tokenizer(config.data.tokenizer, folder)
    return resumed


def _metrics_writer(
    config: Pretrain, folder: pathlib.Path, start: int, on_leaving: contextlib.ExitStack
) -> Callable[[int, Mapping[str, Any]], None]:
    """`write(step, values)` into metrics.jsonl and TensorBoard's files; does nothing but in the first process."""
    if not processes.is_first():
        return lambda step, values: None
    writer = metrics.open_writer(folder, config.run.tensorboard, start + 1)
    on_leaving.callback(metrics.close, writer)
    return functools.partial(metrics.write, writer)


# --- Weights --------------------------------------------------------------------------------------------------------


def _given_weights(init: str, config: Pretrain, shapes: Any) -> Any:
    """Parameters of another run or program, which fit the config."""
    params = sources.load(init).params
    params = parameters.pad_vocabulary(params, config.model)
    warm_start.check_shapes(shapes, params, init)
    return params


def _warm(fresh: Any, given: Any, init: str) -> Any:
    params, notes = warm_start.merge(fresh, given, init)
    for note in notes:
        print(note)
    return jax.device_put(params, jax.tree.map(lambda leaf: leaf.sharding, fresh))


# --- Speed -----------------------------------------------------------------------------------------------------------


def _device_kind(mesh: Any) -> str:
    return mesh.devices.flat[0].device_kind


def _stored_as(compute: str) -> str:
    return "float32" if compute == "float32" else "bfloat16"


def _multiply(compute: precision.Compute) -> Callable[[np.ndarray, np.ndarray], object]:
    """A layer's product in the precision of the run, for measuring what a CPU can do."""
    product = jax.jit(lambda a, b: products.dense(a, {"kernel": b, "bias": b[0]}, compute))
    return lambda a, b: product(a, b).block_until_ready()


# --- Profile, lines ------------------------------------------------------------------------------------------------


def _profiler(config: Pretrain, folder: pathlib.Path) -> Callable[[int], None]:
    """`trace(step)` before each step starts and ends the profiler; step 0 ends it in any case."""
    first, last = config.run.profile_steps if processes.is_first() else (0, 0)
    running: list[int] = []

    def trace(number: int) -> None:
        if first and number == first:
            jax.profiler.start_trace(folder / "profile")
            running.append(number)
        elif running and (number == last or number == 0):
            jax.profiler.stop_trace()
            running.clear()
            print(f"pretrain: profile of steps {first} to {last - 1} in {folder / 'profile'}")

    return trace


def _evaluation_line(number: int, figures: dict[str, float]) -> str:
    line = (
        f"valid at step {number}: MLM loss {figures['valid_mlm_loss']:.3f} (unigram {figures['unigram_entropy']:.3f}), "
        f"accuracy {figures['valid_mlm_accuracy']:.3f} (most frequent piece {figures['majority_accuracy']:.3f})"
    )
    if "valid_pair_accuracy" in figures:
        line += f", pair accuracy {figures['valid_pair_accuracy']:.3f} (prior {figures['pair_label_prior']:.3f})"
        if figures["pair_label_prior"] == 1.0:
            line += "; all pairs have one label, as random parts need a second held-out document"
    return line
