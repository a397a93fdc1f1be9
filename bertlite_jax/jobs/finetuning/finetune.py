"""`bertlite finetune`: a pretrained encoder becomes a task model. Told from top to bottom, like `pretrain.py`.

Everything random is a function of (seed, step, row): a run that is killed and started again ends with the same model.
After each evaluation the model is kept if it is the best so far by the task's metric; `sources.load` reads that one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bertlite_jax.config.finetune import Finetune, check_finetune
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights, load_weights, save_weights
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.answering import task_splits
from bertlite_jax.jobs.finetuning import few_label_inputs
from bertlite_jax.jobs.finetuning.batches import Batches
from bertlite_jax.jobs.finetuning.examples import open_evaluation, other_validation_splits
from bertlite_jax.jobs.finetuning.prepare import (
    announcement,
    digests,
    init_params,
    layout_of,
    make_optimizer_and_step,
    prepare,
)
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.jobs.runs import signals, workdir
from bertlite_jax.report.run import metrics
from bertlite_jax.train import averaging, checkpoint, sharding, state, warm_start
from bertlite_jax.train.state import TrainState

BEST = "best"
"""Folder of the best model in a work directory, as `weights.save` writes it."""

Meta = dict[str, Any]
"""What a checkpoint holds besides arrays: `best` (step and figures), `waited` (evaluations since), `done`, and of the
steps but the first after each start, which compile, `seconds` and `examples`."""


def finetune(config: Finetune, run: str, init: str, overwrite: bool = False) -> dict[str, Any]:
    """Trains, or goes on with, the run in a work directory.

    Args:
      config: the recipe, with the task and its folder.
      run: the work directory: config.json, metrics.jsonl, checkpoints/, best/, tokenizer/, summary.json.
      init: where the encoder comes from: a run, a folder of `transformers`, one of `convert.py from-hf`, or another
        task's model (`outputs.take_over` says what of it is taken).
      overwrite: start anew where the directory holds a run.

    Returns:
      What `summary.json` holds: the task's metrics of the best model, which step that was, real examples a second.
      A run that a signal stopped returns {"stopped": True, "steps": ..}.

    Raises:
      UserError: anything that can be seen to be wrong before the first step.
      Diverged: a loss that is no number.
    """
    check_finetune(config)
    if not init:
        raise UserError("finetune: --init is missing; name a run, or a folder of transformers or of convert.py from-hf")
    folder, clock = pathlib.Path(run), metrics.Clock()
    with adoption.open_weights(init) as given:
        setup = prepare(config, given, init)
        environment = workdir.environment() | {"corpora": digests(setup)}
        resumed = workdir.open_workdir(folder, setup.start.config, overwrite, environment, print)
        workdir.copy_tokenizer(setup.start.tokenizer.folder, folder)
        return _train(setup, folder, resumed, clock)


def _train(setup: Setup, folder: pathlib.Path, resumed: bool, clock: metrics.Clock) -> dict[str, Any]:
    # --- State, step, evaluation -------------------------------------------------------------------------------
    optimizer, step_fn = make_optimizer_and_step(setup)
    layout = layout_of(setup)
    held = state.init_state(init_params(setup), optimizer, setup.start.config.run.seed, layout)
    evaluate = open_evaluation(
        setup.task, setup.start.config, setup.model, setup.mesh, setup.shape.length, setup.start.tokenizer.pad_id
    )
    print(announcement(setup, held.params))

    # --- Go on where the last run stopped: own checkpoint, else the given encoder ------------------------------------
    good = checkpoint.newest_good(folder / "checkpoints", print) if resumed else None
    like = state.shapes_of(layout, optimizer)
    held, meta = _fresh(setup, held) if good is None else _restored(setup, like, folder, good)
    start = good or 0
    workdir.truncate_metrics(folder / "metrics.jsonl", start)
    summary = folder / "summary.json"
    if meta["done"] and summary.is_file():
        return json.loads(summary.read_text(encoding="utf-8"))

    # --- The loop, the summary ---------------------------------------------------------------------------------
    stopped = False
    if not meta["done"]:
        held, meta, stopped = _loop(setup, folder, held, meta, start, step_fn, evaluate, clock)
    if stopped and not meta["done"]:
        number = int(held.step)
        print(f"finetune: stopped by a signal after step {number}, which is saved; the same command goes on from there")
        return {"stopped": True, "steps": number}
    figures = _summary(setup, folder, held, meta, evaluate, clock)
    whole_files.write_json(summary, figures)
    return figures


# --- The loop --------------------------------------------------------------------------------------------------------


def _loop(
    setup: Setup,
    folder: pathlib.Path,
    held: TrainState,
    meta: Meta,
    start: int,
    step_fn: Callable[..., Any],
    evaluate: task_splits.Evaluate,
    clock: metrics.Clock,
) -> tuple[TrainState, Meta, bool]:
    """Dispatches step n, then reads the metrics of step n - 1. Returns whether a signal stopped it, too."""
    run, first = setup.start.config.run, setup.task.metrics[0]
    eval_every = run.eval_every or min(setup.per_epoch, setup.steps)
    before, pending, stopped = (meta["seconds"], meta["examples"]), None, False
    timed, batches = 0, Batches(setup, folder)
    additions = batches.additions
    if additions:
        additions.restore(start)
    with contextlib.ExitStack() as on_leaving:
        stop_wanted = on_leaving.enter_context(signals.stop_signals())
        display = on_leaving.enter_context(metrics.progress(setup.steps, start))
        writer = metrics.open_writer(folder, run.tensorboard, start + 1)
        on_leaving.callback(metrics.close, writer)
        saved = checkpoint.open_checkpoints(folder / "checkpoints", run.keep_last, 0)
        on_leaving.callback(checkpoint.finish, saved)

        def settle(number: int, values: dict[str, jax.Array]) -> None:
            """Reads the metrics of an update that was dispatched earlier; guards, logs."""
            values = jax.device_get(values)
            values = additions.read(number, values) if additions else values
            line = _readable({name: float(value) for name, value in values.items()})
            _check_finite(number, line)
            if number % run.log_every == 0 or number == setup.steps:
                metrics.write(writer, number, line)
                display.show(number, line)

        for number in range(start + 1, setup.steps + 1):
            compiles = number == start + 1
            with clock.measure("compile" if compiles else "data"):
                rows, examples = batches.at(number)
            with clock.measure("compile" if compiles else "step"):
                held, new = step_fn(held, rows)
                if compiles:
                    jax.block_until_ready(new)
                if pending is not None:
                    settle(number - 1, pending)
            if compiles:
                display.say(clock.first_step())
            timed += 0 if compiles else examples
            pending = new
            checkpoint.maybe_seal(saved)

            stopped, last = stop_wanted(number), number == setup.steps
            evaluates = last or (number % eval_every == 0 and not stopped)
            saves = run.checkpoint_every and number % run.checkpoint_every == 0
            if not (evaluates or stopped or saves):
                continue
            with clock.measure("step"):
                settle(number, pending)
            pending, better, shown = None, False, averaging.averaged(held.opt, held.params)
            if evaluates:
                with clock.measure("evaluation"):
                    figures = evaluate(shown, setup.valid)
                metrics.write(writer, number, {f"valid_{name}": value for name, value in figures.items()})
                display.say(f"valid at step {number}: " + ", ".join(f"{n} {v:.4f}" for n, v in figures.items()))
                better = meta["best"] is None or figures[first] > meta["best"][first]
                meta |= {"best": {"step": number, **figures}, "waited": 0} if better else {"waited": meta["waited"] + 1}
            with clock.measure("checkpoint"):
                spent = clock.seconds()
                meta["done"] = last or bool(run.patience and meta["waited"] >= run.patience)
                meta |= {"seconds": before[0] + spent["step"] + spent["data"], "examples": before[1] + timed}
                if additions:
                    additions.save(number)
                checkpoint.save(saved, number, held.params, held.opt, meta | {"step": number})
                if better:  # Only after the checkpoint that knows of it, so that a kill in between is made good.
                    checkpoint.seal(saved)
                    _keep_best(setup, folder, shown)
            if stopped or meta["done"]:
                break
    return held, meta, stopped


def _readable(values: dict[str, float]) -> dict[str, float]:
    line = {name: values[name] for name in ("loss", "grad_norm", "learning_rate", "real_tokens")}
    parts = {name: value for name, value in values.items() if name.endswith("_loss")}
    return line | {"accuracy": values["correct"] / max(values["weight"], 1.0)} | parts


def _check_finite(number: int, line: dict[str, float]) -> None:
    if not (math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"])):
        raise Diverged(
            f"finetune: step {number}: loss {line['loss']:g}, gradient norm {line['grad_norm']:g}; lower "
            "optim.learning_rate; another config needs --overwrite or another --workdir"
        )


def _keep_best(setup: Setup, folder: pathlib.Path, params: Any) -> None:
    config = setup.start.config
    kept = Weights(jax.device_get(few_label_inputs.kept(params)), config.model, config.head, setup.start.tokenizer)
    save_weights(kept, folder / BEST, overwrite=True)


# --- Beginning, going on, ending -------------------------------------------------------------------------------------


def _fresh(setup: Setup, held: TrainState) -> tuple[TrainState, Meta]:
    """What was drawn, with the given weights in place of what they replace."""
    config = setup.start.config
    given = parameters.pad_vocabulary(setup.start.params, config.model)
    params, said = warm_start.merge(held.params, given, config.init)
    for note in said:
        print(note)
    params = jax.device_put(few_label_inputs.start_private(params, config.learn), sharding.replicated(setup.mesh))
    meta = {"best": None, "waited": 0, "done": False, "seconds": 0.0, "examples": 0}
    return dataclasses.replace(held, params=params), meta


def _restored(setup: Setup, like: TrainState, folder: pathlib.Path, good: int) -> tuple[TrainState, Meta]:
    params, opt, meta = checkpoint.restore(folder / "checkpoints", good, like.params, like.opt)
    step = jax.device_put(np.int32(good), sharding.replicated(setup.mesh))
    print(f"finetune: going on from step {good} of {folder}")
    if meta["best"] and meta["best"]["step"] == good:  # A kill may have come before it was written.
        _keep_best(setup, folder, averaging.averaged(opt, params))
    return TrainState(step=step, params=params, opt=opt), meta


def _summary(
    setup: Setup,
    folder: pathlib.Path,
    held: TrainState,
    meta: Meta,
    evaluate: task_splits.Evaluate,
    clock: metrics.Clock,
) -> dict[str, Any]:
    config = setup.start.config
    best = load_weights(folder / BEST).params
    others = other_validation_splits(setup.task, config.data, config.head, setup.start.tokenizer)
    measured = bool(meta["seconds"] and meta["examples"])
    return {
        "task": setup.task.name,
        "metric": setup.task.metrics[0],
        **{name: value for name, value in meta["best"].items() if name != "step"},
        **{f"{split}_{name}": value for split, of in others.items() for name, value in evaluate(best, of).items()},
        **(evaluate(best, setup.valid, folder) if config.head.kind == "span" else {}),
        "best_step": meta["best"]["step"],
        "steps": int(held.step),
        "seed": config.run.seed,
        "train_seconds": round(meta["seconds"], 1),
        "examples_per_second": round(meta["examples"] / meta["seconds"], 2) if measured else None,
        "batch_shape": list(setup.shape[:2]),
        **setup.notes,
        "parameters": state.count_parameters(held.params),
        "compute": setup.model.compute,
        "time_shares": {name: round(share, 4) for name, share in clock.shares().items()},
    }
