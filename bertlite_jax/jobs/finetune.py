"""`bertlite finetune`: a pretrained encoder becomes a task model. Told from top to bottom, like `pretrain.py`.

Everything random is a function of (seed, step, row): a run that is killed and started again ends with the same model.
After each evaluation the model is kept if it is the best so far by the task's metric; `sources.load` reads that one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import pathlib
from typing import Any

import jax
import numpy as np
import optax

from bertlite_jax import config as settings
from bertlite_jax.config import Diverged, Finetune, Finetuned
from bertlite_jax.convert import parameters, weights
from bertlite_jax.data import task_batches
from bertlite_jax.jobs import stopping, task_examples, task_model, workdir
from bertlite_jax.model import precision
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.report import metrics
from bertlite_jax.train import checkpoint, layer_rates, optim, schedules, sharding, state, task_loss, warm_start
from bertlite_jax.train.step import make_step

BEST = "best"
"""Folder of the best model in a work directory, as `weights.save` writes it."""


def finetune(config: Finetune, run: str, init: str, overwrite: bool = False) -> dict[str, Any]:
    """Trains, or goes on with, the run in a work directory.

    Args:
      config: the recipe, with the task and its folder.
      run: the work directory: config.json, metrics.jsonl, checkpoints/, best/, tokenizer/, summary.json.
      init: where the encoder comes from: a run, a folder of `transformers`, one of `convert.py from-hf`.
      overwrite: start anew where the directory holds a run.

    Returns:
      What `summary.json` holds: the task's metrics of the best model, which step that was, real examples a second.
      A run that a signal stopped returns {"stopped": True, "steps": ..}.

    Raises:
      UserError: anything that can be seen to be wrong before the first step.
      Diverged: a loss that is no number.
    """
    # --- Check everything that can be checked before the data ------------------------------------------------------
    folder = pathlib.Path(run)
    settings.check_finetune(config)
    mesh = task_examples.make_mesh(config.run.devices)
    task = task_examples.task_named(config.data.task)
    started = task_model.take_over(config, task.head, init)
    full, head = started.config, started.config.head
    compute = precision.resolve(full.model.compute, mesh.devices.flat[0].platform)
    model = TaskModel(full.model, head, compute)

    # --- Examples ---------------------------------------------------------------------------------------------------
    train, valid = task_examples.open_splits(task, config.data, head, started.tokenizer)
    task_examples.check_training(train.encoded, head)
    batch = config.data.batch_examples
    per_epoch = task_batches.batches_in_epoch(train.encoded.counts["examples"], batch)
    steps = config.run.steps or max(1, round(config.run.epochs * per_epoch))
    eval_every = config.run.eval_every or min(per_epoch, steps)
    shape = task_batches.plan(
        train.encoded, batch, config.data.pack, config.data.row_length, -(-steps // per_epoch), config.run.seed
    )
    unit = mesh.size * config.optim.micro_batches
    shape = shape._replace(rows=-(-shape.rows // unit) * unit)
    notes = task_examples.describe(train, valid, head) | {"real_share": _real_share(train, per_epoch, shape)}

    # --- Work directory -----------------------------------------------------------------------------------------
    resumed = workdir.open_workdir(folder, full, overwrite, workdir.environment(), print)
    workdir.copy_tokenizer(started.tokenizer.folder, folder)

    # --- State, step ----------------------------------------------------------------------------------------------
    init_params = functools.partial(task_model.init_params, model)
    shapes = jax.eval_shape(init_params, jax.random.key(0))
    warmup = config.optim.warmup_steps or int(config.run.warmup_fraction * steps)
    settled = dataclasses.replace(config.optim, warmup_steps=min(warmup, steps - 1))
    optimizer = optim.make_optimizer(settled, steps, batch, shapes)
    optimizer = _with_depths(optimizer, config, full.model.num_layers, shapes)
    held = state.init_state(init_params, optimizer, config.run.seed, mesh)
    step_fn = make_step(
        prepare=task_loss.make_prepare(),
        loss=task_loss.make_loss(model.apply, head, full.model),
        optimizer=optimizer,
        learning_rate=schedules.schedule(settled, steps, batch),
        mesh=mesh,
        micro_batches=config.optim.micro_batches,
        seed=config.run.seed,
        unroll=full.model.unroll,
    )
    evaluate = task_examples.open_evaluation(task, full, model, mesh, shape.length, started.tokenizer.pad_id)
    print(
        f"finetune: {task.name} from {init}: {state.count_parameters(held.params):,} parameters, {mesh.size} x "
        f"{mesh.devices.flat[0].device_kind}, products in {compute}\n"
        f"finetune: {steps:,} steps of {batch} of {train.encoded.counts['examples']:,} examples (an epoch is "
        f"{per_epoch:,}) in {shape.rows} rows of {shape.length} tokens, {notes['real_share']:.0%} of them real"
    )

    # --- Go on where the last run stopped: own checkpoint, else the given encoder ----------------------------------
    good = checkpoint.newest_good(folder / "checkpoints", print) if resumed else None
    meta: dict[str, Any] = {"best": None, "waited": 0, "done": False, "seconds": 0.0, "examples": 0}
    if good is not None:
        params, opt, meta = checkpoint.restore(
            folder / "checkpoints", good, state.shapes_of(held.params, mesh), state.shapes_of(held.opt, mesh)
        )
        held = state.TrainState(step=jax.device_put(np.int32(good), sharding.replicated(mesh)), params=params, opt=opt)
        print(f"finetune: going on from step {good} of {folder}")
        if meta["best"] and meta["best"]["step"] == good:  # A kill may have come before it was written.
            _keep_best(folder, params, full, started.tokenizer)
    else:
        given = parameters.pad_vocabulary(started.params, full.model)
        params, said = warm_start.merge(held.params, given, init)
        for note in said:
            print(note)
        held = dataclasses.replace(held, params=jax.device_put(params, sharding.replicated(mesh)))
    start = good or 0
    workdir.truncate_metrics(folder / "metrics.jsonl", start)

    # --- The loop: dispatch step n, then read the metrics of step n - 1 ---------------------------------------------
    clock = metrics.Clock()
    stopped, pending, dealt, epoch = False, None, np.zeros((0, 0)), -1
    with contextlib.ExitStack() as on_leaving:
        stop_wanted = on_leaving.enter_context(stopping.stop_signals())
        display = on_leaving.enter_context(metrics.progress(steps, start))
        writer = metrics.open_writer(folder, config.run.tensorboard, start + 1)
        on_leaving.callback(metrics.close, writer)
        saved = checkpoint.open_checkpoints(folder / "checkpoints", config.run.keep_last, 0)
        on_leaving.callback(checkpoint.finish, saved)

        def settle(number: int, values: dict[str, jax.Array]) -> None:
            """Reads the metrics of an update that was dispatched earlier; guards, logs."""
            with clock.measure("step"):
                line = _readable({name: float(value) for name, value in jax.device_get(values).items()})
            if not (math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"])):
                raise Diverged(
                    f"finetune: step {number}: loss {line['loss']:g}, gradient norm {line['grad_norm']:g}; lower "
                    "optim.learning_rate; another config needs --overwrite or another --workdir"
                )
            if number % config.run.log_every == 0 or number == steps:
                metrics.write(writer, number, line)
                display.show(number, line)

        for number in range(start + 1, steps + 1 if not meta["done"] else 0):
            with clock.measure("data"):
                if (number - 1) // per_epoch != epoch:
                    epoch = (number - 1) // per_epoch
                    dealt = task_batches.deal(train.encoded.sizes, batch, config.run.seed, epoch)
                index = (number - 1) % per_epoch
                layout = task_batches.batch_at(
                    train.encoded, dealt, index, shape, head, config.data.pack, started.tokenizer.pad_id
                )
                rows = sharding.put_batch(layout.batch, mesh)
            with clock.measure("compile" if number == start + 1 else "step"):
                held, new = step_fn(held, rows)
            meta["examples"] += int((dealt[index] >= 0).sum())
            if pending is not None:
                settle(number - 1, pending)
            pending = new
            checkpoint.maybe_seal(saved)

            stopped, last = stop_wanted(number), number == steps
            evaluates = last or (number % eval_every == 0 and not stopped)
            saves = config.run.checkpoint_every and number % config.run.checkpoint_every == 0
            if not (evaluates or stopped or saves):
                continue
            settle(number, pending)
            pending = None
            better = False
            if evaluates:
                with clock.measure("evaluation"):
                    figures = evaluate(held.params, valid)
                metrics.write(writer, number, {f"valid_{name}": value for name, value in figures.items()})
                display.say(f"valid at step {number}: " + ", ".join(f"{n} {v:.4f}" for n, v in figures.items()))
                score = figures[task.metrics[0]]
                better = meta["best"] is None or score > meta["best"][task.metrics[0]]
                meta |= {"best": {"step": number, **figures}, "waited": 0} if better else {"waited": meta["waited"] + 1}
            patience = config.run.patience
            meta["done"] = last or bool(patience and meta["waited"] >= patience)
            with clock.measure("checkpoint"):
                spent = clock.seconds()
                now = {"step": number, "seconds": meta["seconds"] + spent["step"] + spent["data"]}
                checkpoint.save(saved, number, held.params, held.opt, meta | now)
                if better:  # Only after the checkpoint that knows of it, so that a kill in between is made good.
                    checkpoint.seal(saved)
                    _keep_best(folder, held.params, full, started.tokenizer)
            if stopped or meta["done"]:
                break

    # --- Summary -------------------------------------------------------------------------------------------------
    number = int(held.step)
    if stopped and not meta["done"]:
        print(f"finetune: stopped by a signal after step {number}, which is saved; the same command goes on from there")
        return {"stopped": True, "steps": number}
    if good is not None and start == number and (folder / "summary.json").is_file():  # It had ended already.
        return json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    spent = clock.seconds()
    seconds = meta["seconds"] + spent["step"] + spent["data"]
    best = weights.load(folder / BEST).params
    others = task_examples.other_validation_splits(task, config.data, head, started.tokenizer)
    summary = {
        "task": task.name,
        "metric": task.metrics[0],
        **{name: value for name, value in meta["best"].items() if name != "step"},
        **{f"{split}_{name}": value for split, of in others.items() for name, value in evaluate(best, of).items()},
        "best_step": meta["best"]["step"],
        "steps": number,
        "seed": config.run.seed,
        "train_seconds": round(seconds, 1),
        "examples_per_second": round(meta["examples"] / seconds, 2),
        "batch_shape": list(shape[:2]),
        **notes,
        "parameters": state.count_parameters(held.params),
        "compute": compute,
        "time_shares": {name: round(share, 4) for name, share in clock.shares().items()},
    }
    workdir.write_json(folder / "summary.json", summary)
    return summary


def finetune_seeds(config: Finetune, run: str, init: str, seeds: int, overwrite: bool = False) -> dict[str, Any]:
    """The same recipe with several seeds, from `run.seed` on, each in a folder of its own; goes on where it stopped.

    Returns:
      Median, least and greatest of each figure of the task, and the folder of the best run by the first one; also in
      `summary.json` of the work directory.
    """
    task = task_examples.task_named(config.data.task)
    found = {}
    for seed in range(config.run.seed, config.run.seed + seeds):
        place = str(pathlib.Path(run) / f"seed-{seed}")
        print(f"finetune: seed {seed} in {place}")
        one = dataclasses.replace(config, run=dataclasses.replace(config.run, seed=seed))
        found[place] = finetune(one, place, init, overwrite)
        if "stopped" in found[place]:
            return found[place]
    first = task.metrics[0]
    summary: dict[str, Any] = {"task": task.name, "metric": first, "seeds": seeds}
    for name in found[next(iter(found))]:
        if name.startswith("valid") or name in task.metrics:
            values = [figures[name] for figures in found.values()]
            summary |= {name: float(np.median(values)), f"{name}_min": min(values), f"{name}_max": max(values)}
    summary["best_run"] = max(found, key=lambda place: found[place][first])
    workdir.write_json(pathlib.Path(run) / "summary.json", summary)
    return summary


# --- Parts -----------------------------------------------------------------------------------------------------------


def _with_depths(optimizer: Any, config: Finetune, num_layers: int, shapes: Any) -> Any:
    """The optimizer as it is, or with rates by depth behind it: an identity would change what a checkpoint holds."""
    if config.adapt.layer_decay == 1.0 and not config.adapt.freeze_layers:
        return optimizer
    return optax.chain(optimizer, layer_rates.scale_by_depth(config.adapt, num_layers, shapes))


def _keep_best(folder: pathlib.Path, params: Any, config: Finetuned, tokenizer: Any) -> None:
    kept = weights.Weights(jax.device_get(params), config.model, config.head, tokenizer)
    weights.save(kept, folder / BEST, overwrite=True)


def _readable(values: dict[str, float]) -> dict[str, float]:
    line = {name: values[name] for name in ("loss", "grad_norm", "learning_rate", "real_tokens")}
    return line | {"accuracy": values["correct"] / max(values["weight"], 1.0)}


def _real_share(train: task_examples.Split, per_epoch: int, shape: task_batches.Shape) -> float:
    """Of the slots of an epoch, those that hold tokens."""
    return train.encoded.counts["tokens"] / (per_epoch * shape.rows * shape.length)
