"""`bertlite prune`: takes layers, heads and neurons out of a fine-tuned model, and fine-tunes what is left.

To be read from top to bottom. A work directory has, for a speed-up of 2, `2x-pruned/`, the model as pruning left it,
and `2x/`, an ordinary fine-tuning run that starts from it. What is there already is not made again.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from bertlite_jax.config.compression.prune import Prune, check_prune
from bertlite_jax.config.finetune import OWN_OF_HEAD, Finetune, Finetuned, check_finetune
from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import FILE, Weights, load_weights, save_weights
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, json_files, json_shapes, whole_files
from bertlite_jax.host.json_shapes import NUMBER
from bertlite_jax.jobs.compressing import family, latency
from bertlite_jax.jobs.compressing.importance import measured
from bertlite_jax.jobs.finetuning import own_data
from bertlite_jax.jobs.finetuning.examples import open_evaluation
from bertlite_jax.jobs.finetuning.finetune import BEST, finetune, read_by
from bertlite_jax.jobs.finetuning.prepare import prepare
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.jobs.runs import one_job
from bertlite_jax.train import sharding
from bertlite_jax.train.compression import choice, pruning
from bertlite_jax.train.compression.choice import Latencies
from bertlite_jax.train.compression.importance import Importance


def recipe_of(run: Finetuned) -> Finetune:
    """The recipe with which what is left of a run's model is fine-tuned: the run's, with the head that it has."""
    values: dict[str, Any] = {field.name: getattr(run, field.name) for field in dataclasses.fields(Finetune)}
    head = Head(**{name: getattr(run.head, name) for name in OWN_OF_HEAD})
    return Finetune(**values | {"head": head, "adapt": dataclasses.replace(run.adapt, keep_head=True)})


def prune(
    config: Finetune,
    settings: Prune,
    run: str,
    out: str,
    overwrite: bool = False,
    answers: pathlib.Path | None = None,
    latencies: Latencies | None = None,
) -> dict[str, Any]:
    """Makes a smaller model for each speed-up.

    Args:
      config: the recipe of fine-tuning, as `recipe_of` the run or with other values.
      settings: how much is taken.
      run: work directory of the fine-tuning run whose best model is pruned.
      out: work directory of pruning.
      overwrite: delete the models that it holds, and make everything again.
      answers: as for `finetune`.
      latencies: the table, where it has been measured already and the directory has none.

    Returns:
      The content of `summary.json`: what was measured, and `models`, the whole one first. If a signal stopped a run,
      what `finetune` returned for it.

    Raises:
      UserError: the model cannot be pruned, or not become so fast; then nothing is written.
    """
    check_finetune(config)
    if config.learn.domains:
        raise UserError("prune: learn.domains needs layers of one shape; fine-tune without --learn.domains first")
    if not config.adapt.keep_head:
        raise UserError("prune: adapt.keep_head must stay on: what goes is decided by the loss with the run's own head")
    with adoption.open_weights(run, "prune") as weights, one_job.alone_in(out, of_runs=True):
        weights = _prunable(weights, run)
        check_prune(settings, weights.model.max_positions, cpu.cores())
        family.refuse_foreign(pathlib.Path(out))
        setup = prepare(own_data.decided(config, out, overwrite), weights, run)
        setup = setup._replace(extra=setup.extra._replace(answers=answers))
        return _prune(config, settings, weights, setup, pathlib.Path(out), overwrite, latencies)


def _prune(
    config: Finetune,
    settings: Prune,
    weights: Weights,
    setup: Setup,
    folder: pathlib.Path,
    overwrite: bool,
    known: Latencies | None,
) -> dict[str, Any]:
    # --- The table of latencies, and what it allows ----------------------------------------------------------------
    run, length = setup.start.config.init, settings.length or config.data.length
    source = family.source_of(settings, weights, pathlib.Path(run), length)
    latencies = None if overwrite else family.stored_table(folder, source)
    is_new = latencies is None
    latencies = latencies or known or latency.table_of(weights, settings, length, print)
    whole = choice.seconds_of(weights.model, latencies)
    _refuse_unreachable(settings.speed_up, weights.model, latencies)
    if is_new:
        family.clear(folder, read_by(setup.start.config))
        family.write_table(folder, source, latencies)

    # --- What is left for each speed-up -----------------------------------------------------------------------------
    missing = [factor for factor in settings.speed_up if not (family.pruned_of(folder, factor) / FILE).is_file()]
    scores = None if missing else _stored_scores(folder)
    if scores is None:
        importance, scores = _measured(settings, weights, setup, folder)
        for factor in missing:
            kept = choice.choose(importance, weights.model, latencies, whole / factor)
            params, model = pruning.prune(weights.params, weights.model, kept)
            print(f"prune: {factor:g}x: {described(weights.model, kept)}")
            left = dataclasses.replace(weights, params=params, model=model)
            save_weights(left, family.pruned_of(folder, factor), overwrite=True)

    # --- Fine-tuning, and how good and how fast the models are -------------------------------------------------------
    metric = setup.task.metrics[0]
    models, rows = [weights], [{"speed_up": 1.0, metric: scores[metric], "folder": run}]
    for factor in settings.speed_up:
        start, place = family.pruned_of(folder, factor), family.run_of(folder, factor)
        print(f"prune: fine-tuning {start} in {place}")
        figures = finetune(config, str(place), str(start), False, setup.extra.answers)
        if "stopped" in figures:
            return figures
        models.append(load_weights(place / BEST))
        rows.append({"speed_up": factor, metric: figures[metric], "folder": str(place)})
    seconds = latency.seconds_of([lambda model=model: model for model in models], settings, length)
    summary = {
        "task": setup.task.name,
        "metric": metric,
        "pruned_from": run,
        "length": length,
        "threads": settings.threads,
        "products": settings.products,
        "cpu": cpu.name(),
        "models": [_with_costs(*each, seconds[0]) for each in zip(rows, models, seconds, strict=True)],
    }
    whole_files.write_json(folder / family.SUMMARY, summary)
    return summary


def described(model: Model, kept: pruning.Kept) -> str:
    """What stays of a model, in words."""
    heads, widths = [], []
    for layer in kept.layers:
        places = [model.stack_place(part, layer) for part in ("attention", "ffn")]
        heads.append(len(kept.heads[places[0] or 0]))
        widths.append(len(kept.neurons[places[1] or 0]))
    numbers = ", ".join(str(layer) for layer in kept.layers)
    return (
        f"layers {numbers} of {model.num_layers} stay, with {', '.join(map(str, heads))} of {model.num_heads} heads "
        f"and feed-forward widths {', '.join(map(str, widths))} of {model.ffn_size}"
    )


# --- Checks ----------------------------------------------------------------------------------------------------------


def _prunable(weights: Weights, run: str) -> Weights:
    """The weights as exports have them. Raises UserError where nothing can be taken, or nothing be measured."""
    if weights.head is None:
        raise UserError(f"prune: {run} has no task head; prune a model that bertlite finetune has trained")
    if weights.head.conditioned:
        raise UserError(f"prune: {run} has head.span = conditioned; fine-tune with --head.span independent")
    pruning.check_prunable(weights.model, f"prune: {run}")
    params = parameters.nest(parameters.exported(weights.params, weights.model))
    return dataclasses.replace(weights, params=params, model=weights.model.exported)


def _refuse_unreachable(speed_ups: Sequence[float], model: Model, latencies: Latencies) -> None:
    """Raises UserError for a speed-up that not even the smallest model has; names the greatest that can be reached."""
    whole, fewest = choice.seconds_of(model, latencies), choice.fewest_seconds(model, latencies)
    for factor in speed_ups:
        if whole / factor < fewest:
            raise UserError(
                f"prune: --speed-up {factor:g} cannot be reached: of {1e3 * whole:.2f} ms a text, "
                f"{1e3 * fewest:.2f} ms are left with the smallest layer alone; at most "
                f"{choice.greatest_speed_up(model, latencies):g}"
            )


# --- Measuring -------------------------------------------------------------------------------------------------------


def _measured(
    settings: Prune, weights: Weights, setup: Setup, folder: pathlib.Path
) -> tuple[Importance, dict[str, float]]:
    """Importance and scores of the whole model; both are written into the work directory, to be looked at too."""
    config, pad_id = setup.start.config, setup.start.tokenizer.pad_id
    evaluate = open_evaluation(setup.task, config, setup.model, setup.mesh, setup.shape.length, pad_id)
    scores = evaluate(jax.device_put(setup.start.params, sharding.replicated(setup.mesh)), setup.valid)
    count = min(settings.examples, len(setup.train.encoded.sizes))
    print(f"prune: measuring the importance of heads and neurons on {count:,} training examples")
    # The outputs of the head are in the order of the task's labels there.
    task_weights = dataclasses.replace(weights, params=setup.start.params, head=config.head)
    found = measured(task_weights, setup.train.encoded, settings.examples, config.run.seed, pad_id)
    values = {"heads": [list(map(float, layer)) for layer in found.heads]}
    values |= {"neurons_of_layers": [float(layer.sum()) for layer in found.neurons]}
    whole_files.write_json(folder / family.IMPORTANCE, {"scores": scores, "examples": count, **values})
    return found, scores


def _stored_scores(folder: pathlib.Path) -> dict[str, float] | None:
    """The scores of the whole model that an earlier start has measured; None if it was killed before."""
    path = folder / family.IMPORTANCE
    if not path.is_file():
        return None
    values = json_files.read_object(path, "prune")
    json_shapes.check(values, {"scores": {...: NUMBER}}, str(path), "prune")
    return values["scores"]


def _with_costs(row: dict[str, Any], weights: Weights, seconds: float, of_whole: float) -> dict[str, Any]:
    """A row of the summary with what the model takes."""
    count = sum(value.size for value in parameters.flatten(weights.params).values())
    times = {"milliseconds": 1e3 * seconds, "measured_speed_up": of_whole / seconds}
    return row | times | {"parameters": count, "layers": weights.model.num_layers}
