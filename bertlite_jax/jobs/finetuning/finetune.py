"""`bertlite finetune`: trains a pretrained encoder on a task. To be read from top to bottom, like `pretrain.py`.

Everything random is a function of (seed, step, row): a run that is killed and started again ends with the same model.
After each evaluation the model is stored if it is the best so far by the task's metric; `sources.load` reads that one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bertlite_jax.config.finetune import Finetune, Finetuned, check_finetune
from bertlite_jax.convert import adoption, sources
from bertlite_jax.convert.huggingface import hub
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import FILE, Weights, load_weights, save_weights
from bertlite_jax.convert.weights.reading import pairs_of, reading_of
from bertlite_jax.data.text import hub_datasets
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.host import json_files, whole_files
from bertlite_jax.jobs.answering import task_splits
from bertlite_jax.jobs.finetuning import memory_need, own_data
from bertlite_jax.jobs.finetuning.batches import Batches
from bertlite_jax.jobs.finetuning.examples import open_evaluation, other_validation_splits
from bertlite_jax.jobs.finetuning.few_labels import few_label_inputs, masked_lm
from bertlite_jax.jobs.finetuning.prepare import (
    announcement,
    digests,
    init_params,
    layout_of,
    make_optimizer_and_step,
    prepare,
)
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.jobs.runs import one_job, resumed_metrics, signals, tracking, workdir
from bertlite_jax.report.run import metrics
from bertlite_jax.report.trackers.opening import check_installed
from bertlite_jax.train import averaging, checkpoint, sharding, state, warm_start
from bertlite_jax.train.state import TrainState

BEST = "best"
"""Folder of the best model in a work directory, as `save_weights` writes it."""

Meta = dict[str, Any]
"""What a checkpoint holds besides arrays: `best` (step and figures), `waited` (evaluations since then), `done`, and
`seconds` and `examples` of all steps but the first after each start, which compiles."""


def finetune(
    config: Finetune, run: str, init: str, overwrite: bool = False, answers: pathlib.Path | None = None
) -> dict[str, Any]:
    """Starts the run in a work directory, or resumes it.

    Args:
      config: the recipe, with the task and its folder.
      run: the work directory: config.json, metrics.jsonl, checkpoints/, best/, tokenizer/, summary.json.
      init: where the encoder comes from: a run, a folder of `transformers`, a folder that `bertlite convert` wrote, or
        another task's model (see `start.take_over`).
      overwrite: delete a run that the directory holds, and start from step 0.
      answers: folder for what a teacher answers and a masked language model proposes, where several runs share it. Its
        files are named by hashes of all that they follow from, and outlive the run. None: a folder of the run.

    Returns:
      The content of `summary.json`: the task's metrics of the best model, its step, examples per second. A run that a
      signal stopped returns {"stopped": True, "steps": ..}.

    Raises:
      UserError: anything that is wrong before the first step.
      Diverged: the loss is not finite.
    """
    check_finetune(config)
    check_installed(config.run.track)
    if not init:
        raise UserError(
            "finetune: --init is missing; name a run, a folder of transformers, one that `bertlite convert` wrote, or "
            "reference-en"
        )
    for place in filter(None, (init, config.learn.teacher, config.learn.augment_model)):
        sources.check_there(place, "finetune")
    config = own_data.decided(config, run, overwrite)
    folder, clock = pathlib.Path(run), metrics.Clock()
    with (
        adoption.open_weights(init, "finetune") as weights,
        checkpoint.naming_good_ones(folder / "checkpoints", f"finetune: {folder}"),
    ):
        setup = prepare(config, weights, init)
        setup = setup._replace(extra=setup.extra._replace(answers=answers))
        memory_need.check(setup)
        read = read_by(setup.start.config)
        commits = hub.commits(read) | hub_datasets.commits(read, "finetune")
        environment = workdir.environment(teachers=setup.extra.digests, hub=commits) | {"corpora": digests(setup)}
        with one_job.alone_in(folder):
            holds_run = workdir.open_workdir(folder, setup.start.config, overwrite, environment, print, read)
            workdir.copy_tokenizer(setup.start.tokenizer.folder, folder)
            setup = masked_lm.complete(setup, weights, folder)
            return _train(setup, folder, holds_run, clock)


def read_by(config: Finetuned) -> tuple[str, ...]:
    """The files and folders that a run reads."""
    data, learn = config.data, config.learn
    of_learn = (learn.teacher, learn.unlabelled, learn.augment_model, *learn.domains)
    return (config.init, data.folder, data.validation_file, data.added_file, *of_learn)


def _train(setup: Setup, folder: pathlib.Path, holds_run: bool, clock: metrics.Clock) -> dict[str, Any]:
    # --- State, step, evaluation -------------------------------------------------------------------------------
    optimizer, step_fn = make_optimizer_and_step(setup)
    layout = layout_of(setup)
    train_state = state.init_state(init_params(setup), optimizer, setup.start.config.run.seed, layout)
    evaluate = open_evaluation(
        setup.task, setup.start.config, setup.model, setup.mesh, setup.shape.length, setup.start.tokenizer.pad_id
    )
    print(announcement(setup, train_state.params))

    # --- Resume where the last run stopped: own checkpoint, else the encoder of --init -------------------------------
    saved_step = checkpoint.newest_good(folder / "checkpoints", print) if holds_run else None
    if saved_step is None:
        train_state, meta = _from_init(setup, train_state)
    else:
        train_state, meta = _from_checkpoint(setup, state.shapes_of(layout, optimizer), folder, saved_step)
    start = saved_step or 0
    resumed_metrics.truncate(folder / "metrics.jsonl", start)
    summary = folder / "summary.json"
    if meta["done"] and summary.is_file():
        return json_files.read_object(summary, "finetune")

    # --- The loop, the summary ---------------------------------------------------------------------------------
    stopped = False
    if not meta["done"]:
        train_state, meta, stopped = _loop(setup, folder, train_state, meta, start, step_fn, evaluate, clock)
    if stopped and not meta["done"]:
        number = int(train_state.step)
        print(f"finetune: stopped by a signal after step {number}, which is saved; the same command resumes the run")
        return {"stopped": True, "steps": number}
    figures = _summary(setup, folder, train_state, meta, evaluate, clock)
    whole_files.write_json(summary, figures)
    for line in own_data.verdict(figures, setup.start.config.learn.confidence):
        print(f"finetune: {line}")
    return figures


# --- The loop --------------------------------------------------------------------------------------------------------


def _loop(
    setup: Setup,
    folder: pathlib.Path,
    train_state: TrainState,
    meta: Meta,
    start: int,
    step_fn: Callable[..., Any],
    evaluate: task_splits.Evaluate,
    clock: metrics.Clock,
) -> tuple[TrainState, Meta, bool]:
    """Dispatches step n, then reads the metrics of step n - 1.

    Returns:
      The state, the meta data of the last checkpoint, and whether a signal stopped the run.
    """
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
        trackers = tracking.records(folder, setup.start.config)
        writer = on_leaving.enter_context(metrics.open_writer(folder, run.tensorboard, start + 1, trackers))
        checkpoints = checkpoint.open_checkpoints(folder / "checkpoints", run.keep_last, 0)
        on_leaving.callback(checkpoint.finish, checkpoints)

        def read_metrics(number: int, pending: dict[str, jax.Array]) -> None:
            """Reads the metrics of a step that was dispatched earlier; checks and logs them."""
            values = jax.device_get(pending)
            values = additions.read(number, values) if additions else values
            line = _readable({name: float(value) for name, value in values.items()})
            _check_finite(number, line)
            if "consistency_share" in line:
                meta["sure"] = meta.get("sure", 0.0) + line["consistency_share"]
            if number % run.log_every == 0 or number == setup.steps:
                metrics.write(writer, number, line)
                display.show(number, line)

        for number in range(start + 1, setup.steps + 1):
            compiles = number == start + 1
            with clock.measure("compile" if compiles else "data"):
                rows, examples = batches.at(number)
            with clock.measure("compile" if compiles else "step"):
                train_state, step_metrics = step_fn(train_state, rows)
                if compiles:
                    jax.block_until_ready(step_metrics)
                if pending is not None:
                    read_metrics(number - 1, pending)
            if compiles:
                display.print_line(clock.first_step())
            timed += 0 if compiles else examples
            pending = step_metrics
            checkpoint.maybe_seal(checkpoints)

            stopped, last = stop_wanted(number), number == setup.steps
            evaluates = last or (number % eval_every == 0 and not stopped)
            saves = run.checkpoint_every and number % run.checkpoint_every == 0
            if not (evaluates or stopped or saves):
                continue
            with clock.measure("step"):
                read_metrics(number, pending)
            pending, better = None, False
            params = averaging.averaged(train_state.opt, train_state.params)
            if evaluates:
                answered: set[int] = set()
                with clock.measure("evaluation"):
                    figures = evaluate(params, setup.valid, answered=answered)
                metrics.write(writer, number, {f"valid_{name}": value for name, value in figures.items()})
                display.print_line(f"valid at step {number}: " + ", ".join(f"{n} {v:.4f}" for n, v in figures.items()))
                better = meta["best"] is None or figures[first] > meta["best"][first]
                meta |= {"best": {"step": number, **figures}, "waited": 0} if better else {"waited": meta["waited"] + 1}
                if better:
                    meta["only_answer"] = setup.start.config.head.labels[answered.pop()] if len(answered) == 1 else ""
            with clock.measure("checkpoint"):
                spent = clock.seconds()
                meta["done"] = last or bool(run.patience and meta["waited"] >= run.patience)
                meta |= {"seconds": before[0] + spent["step"] + spent["data"], "examples": before[1] + timed}
                if additions:
                    additions.save(number)
                checkpoint.save(checkpoints, number, train_state.params, train_state.opt, meta | {"step": number})
                if better:  # After the checkpoint whose meta data names it, so that a resumed run can write it again.
                    checkpoint.seal(checkpoints)
                    _save_best(setup, folder, params)
            if stopped or meta["done"]:
                break
    return train_state, meta, stopped


def _readable(values: dict[str, float]) -> dict[str, float]:
    line = {name: values[name] for name in ("loss", "grad_norm", "learning_rate", "real_tokens")}
    parts = {name: value for name, value in values.items() if name.endswith(("_loss", "_share"))}
    return line | {"accuracy": values["correct"] / max(values["weight"], 1.0)} | parts


def _check_finite(number: int, line: dict[str, float]) -> None:
    if not (math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"])):
        raise Diverged(
            f"finetune: step {number}: loss {line['loss']:g}, gradient norm {line['grad_norm']:g}; lower "
            "optim.learning_rate; a changed config needs --overwrite or another --workdir"
        )


def _save_best(setup: Setup, folder: pathlib.Path, params: Any) -> None:
    config = setup.start.config
    params = jax.device_get(few_label_inputs.without_domains(params))
    head = dataclasses.replace(config.head, splits=setup.splits)
    counts = setup.train.encoded.counts
    reading = reading_of(config.data, pairs_of(counts.get("pairs"), counts["examples"]))
    bits = config.quantise.bits
    weights = Weights(params, config.model, head, setup.start.tokenizer, reading=reading, trained_bits=bits)
    save_weights(weights, folder / BEST, overwrite=True)


# --- Start, resumption, summary -------------------------------------------------------------------------------------


def _from_init(setup: Setup, drawn: TrainState) -> tuple[TrainState, Meta]:
    """The drawn state, with the weights of --init in place of those that they replace."""
    config = setup.start.config
    loaded = parameters.pad_vocabulary(setup.start.params, config.model)
    params, notes = warm_start.merge(drawn.params, loaded, config.init)
    for note in notes:
        print(note)
    params = jax.device_put(few_label_inputs.start_private(params, config.learn), sharding.replicated(setup.mesh))
    meta = {"best": None, "waited": 0, "done": False, "seconds": 0.0, "examples": 0}
    return dataclasses.replace(drawn, params=params), meta


def _from_checkpoint(setup: Setup, like: TrainState, folder: pathlib.Path, saved_step: int) -> tuple[TrainState, Meta]:
    params, opt, meta = checkpoint.restore(folder / "checkpoints", saved_step, like.params, like.opt)
    step = jax.device_put(np.int32(saved_step), sharding.replicated(setup.mesh))
    if meta["done"]:
        print(f"finetune: {folder} is finished already, at step {saved_step}; --overwrite trains it again")
    else:
        print(f"finetune: resuming from step {saved_step} of {folder}")
    if meta["best"] and meta["best"]["step"] < saved_step and not (folder / BEST / FILE).is_file():
        raise UserError(
            f"finetune: {folder / BEST} is missing, the model of step {meta['best']['step']}; put back a copy, or pass "
            "--overwrite to start again"
        )
    if meta["best"] and meta["best"]["step"] == saved_step:  # The run may have been killed before it was written.
        _save_best(setup, folder, averaging.averaged(opt, params))
    return TrainState(step=step, params=params, opt=opt), meta


def _summary(
    setup: Setup,
    folder: pathlib.Path,
    train_state: TrainState,
    meta: Meta,
    evaluate: task_splits.Evaluate,
    clock: metrics.Clock,
) -> dict[str, Any]:
    config = setup.start.config
    best = load_weights(folder / BEST).params
    more_splits = other_validation_splits(setup.task, config.data, config.head, setup.start.tokenizer)
    measured = bool(meta["seconds"] and meta["examples"])
    return {
        "task": setup.task.name,
        "metric": setup.task.metrics[0],
        **{name: value for name, value in meta["best"].items() if name != "step"},
        **{
            f"{name}_{metric}": value
            for name, split in more_splits.items()
            for metric, value in evaluate(best, split).items()
        },
        **(evaluate(best, setup.valid, folder) if config.head.kind == "span" else {}),
        "best_step": meta["best"]["step"],
        "steps": int(train_state.step),
        "seed": config.run.seed,
        "train_seconds": round(meta["seconds"], 1),
        "examples_per_second": round(meta["examples"] / meta["seconds"], 2) if measured else None,
        "batch_shape": list(setup.shape[:2]),
        **setup.notes,
        **({"only_answer": meta["only_answer"]} if meta.get("only_answer") else {}),
        **({"consistency_share": meta["sure"] / int(train_state.step)} if "sure" in meta else {}),
        "parameters": state.count_parameters(train_state.params),
        "compute": setup.model.compute,
        "time_shares": {name: round(share, 4) for name, share in clock.shares().items()},
    }
