"""`bertlite prune`: takes layers, heads and neurons out of a fine-tuned model, and fine-tunes what is left.

To be read from top to bottom. A work directory has, for a speed-up of 2, `2x-pruned/`, the model as pruning left it,
and `2x/`, an ordinary fine-tuning run that starts from it. What is there already is not made again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlite_jax.config.compression.prune import Prune, check_prune
from bertlite_jax.config.finetune import OWN_OF_HEAD, Finetune, Finetuned, check_finetune
from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert import adoption
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import FILE, Weights, load_weights, save_weights
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, json_files, whole_files
from bertlite_jax.jobs.answering import task_splits
from bertlite_jax.jobs.compressing import latency
from bertlite_jax.jobs.compressing.importance import measured
from bertlite_jax.jobs.finetuning.examples import open_splits
from bertlite_jax.jobs.finetuning.finetune import BEST, finetune
from bertlite_jax.jobs.runs import one_job, workdir
from bertlite_jax.train.compression import choice, pruning
from bertlite_jax.train.compression.choice import Latencies
from bertlite_jax.train.compression.importance import Importance

TABLE = "latencies.json"
"""File with the table, and with what it was measured for."""


def recipe_of(run: Finetuned) -> Finetune:
    """The recipe with which what is left of a run's model is fine-tuned: the run's, with the head that it has."""
    values: dict[str, Any] = {field.name: getattr(run, field.name) for field in dataclasses.fields(Finetune)}
    head = Head(**{name: getattr(run.head, name) for name in OWN_OF_HEAD})
    return Finetune(**values | {"head": head, "adapt": dataclasses.replace(run.adapt, keep_head=True)})


def prune(config: Finetune, settings: Prune, run: str, out: str, overwrite: bool = False) -> dict[str, Any]:
    """Makes a smaller model for each speed-up.

    Args:
      config: the recipe of fine-tuning, as `recipe_of` the run or with other values.
      settings: how much is taken.
      run: work directory of the fine-tuning run whose best model is pruned.
      out: work directory of pruning.
      overwrite: make everything again.

    Returns:
      The content of `summary.json`: figures of the whole model, and `points`, those of each speed-up. If a signal
      stopped a run, what `finetune` returned for it.

    Raises:
      UserError: the model cannot be pruned, or not become so fast; then nothing is written.
    """
    # --- What can be checked before anything is measured -----------------------------------------------------------
    check_finetune(config)
    if config.learn.domains:
        raise UserError("prune: learn.domains needs layers of one shape; fine-tune without --learn.domains first")
    with adoption.open_weights(run, "prune") as weights:
        weights = _prunable(weights, run)
        check_prune(settings, weights.model.max_positions)
        if (pathlib.Path(out) / workdir.CONFIG).is_file():
            raise UserError(f"prune: {out} holds a single run; name another --workdir")
        with one_job.alone_in(out, of_runs=True):
            return _prune(config, settings, weights, pathlib.Path(run), pathlib.Path(out), overwrite)


def _prune(
    config: Finetune, settings: Prune, weights: Weights, run: pathlib.Path, folder: pathlib.Path, overwrite: bool
) -> dict[str, Any]:
    # --- The table of latencies, and what it allows ----------------------------------------------------------------
    length = settings.length or config.data.length
    source = _source(settings, weights, run, length)
    latencies = None if overwrite else _stored_table(folder / TABLE, source)
    measured_now = latencies is None
    latencies = latencies or latency.table_of(weights, settings, length, print)
    whole = choice.seconds_of(weights.model, latencies)
    _refuse_unreachable(settings.speed_up, whole, choice.fewest_seconds(weights.model, latencies))
    if measured_now:
        whole_files.write_json(folder / TABLE, source | _as_lists(latencies))

    # --- What is left for each speed-up -----------------------------------------------------------------------------
    places = {factor: folder / f"{factor:g}x-pruned" for factor in settings.speed_up}
    missing = [factor for factor, place in places.items() if overwrite or not (place / FILE).is_file()]
    importance = _importance(config, settings, weights, folder) if missing else None
    for factor in missing:
        assert importance is not None
        kept = choice.choose(importance, weights.model, latencies, whole / factor)
        params, model = pruning.prune(weights.params, weights.model, kept)
        print(f"prune: {factor:g}x: {described(weights.model, kept)}")
        save_weights(dataclasses.replace(weights, params=params, model=model), places[factor], overwrite=True)

    # --- Fine-tuning, and how good and how fast the models are -------------------------------------------------------
    points = []
    for factor, place in places.items():
        print(f"prune: fine-tuning {place} in {folder / f'{factor:g}x'}")
        figures = finetune(config, str(folder / f"{factor:g}x"), str(place), overwrite)
        if "stopped" in figures:
            return figures
        points.append({"speed_up": factor, "folder": str(folder / f"{factor:g}x"), "figures": figures})
    summary = _summary(settings, weights, run, points, length)
    whole_files.write_json(folder / "summary.json", summary)
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
    if weights.tokenizer is None:
        raise UserError(f"prune: {run} comes without a tokenizer, and text cannot be read without one")
    pruning.check_prunable(weights.model, f"prune: {run}")
    params = parameters.nest(parameters.exported(weights.params, weights.model))
    return dataclasses.replace(weights, params=params, model=weights.model.exported)


def _refuse_unreachable(speed_ups: Sequence[float], whole: float, fewest: float) -> None:
    for factor in speed_ups:
        if whole / factor < fewest:
            # Rounded down, so that what is named can be reached.
            greatest = np.floor(10 * whole / fewest) / 10
            raise UserError(
                f"prune: --speed-up {factor:g} cannot be reached: of {1e3 * whole:.2f} ms a text, "
                f"{1e3 * fewest:.2f} ms are left with the smallest layer; at most {greatest:g}"
            )


# --- Measuring -------------------------------------------------------------------------------------------------------


def _importance(config: Finetune, settings: Prune, weights: Weights, folder: pathlib.Path) -> Importance:
    """Measures importance, and writes that of heads and layers into the work directory, to be looked at."""
    task = task_splits.task_of(config.data)
    assert weights.head is not None
    assert weights.tokenizer is not None
    if weights.head.labels != task.head.labels:
        raise UserError(
            f"prune: the model has the labels {', '.join(weights.head.labels)}, the task {', '.join(task.head.labels)}"
        )
    train, _ = open_splits(task, config.data, weights.head, weights.tokenizer)
    count = min(settings.examples, len(train.encoded.sizes))
    print(f"prune: measuring the importance of heads and neurons on {count:,} training examples")
    found = measured(weights, train.encoded, settings.examples, config.run.seed, weights.tokenizer.pad_id)
    values = {"heads": [list(map(float, layer)) for layer in found.heads]}
    values |= {"neurons_of_layers": [float(layer.sum()) for layer in found.neurons]}
    whole_files.write_json(folder / "importance.json", {"examples": count, **values})
    return found


def _source(settings: Prune, weights: Weights, run: pathlib.Path, length: int) -> dict[str, Any]:
    """What a table was measured for."""
    digest = hashlib.sha256()
    for _, value in sorted(parameters.flatten(weights.params).items()):
        digest.update(np.ascontiguousarray(value).data)
    return {
        "cpu": cpu.name(),
        "run": str(run.resolve()),
        "model": dataclasses.asdict(weights.model),
        "weights": digest.hexdigest(),
        "length": length,
        "threads": settings.threads,
        "products": settings.products,
        "examples": settings.examples,
    }


def _stored_table(path: pathlib.Path, source: dict[str, Any]) -> Latencies | None:
    """The table of an earlier start; None where there is none.

    Raises:
      UserError: it is of another model, machine or text: then the models beside it are not what is asked for now.
    """
    if not path.is_file():
        return None
    held = json_files.read_object(path, "prune")
    now = json.loads(json.dumps(source))  # Tuples as lists.
    for name, value in now.items():
        if held.get(name) != value:
            with_what = f"with {name} = {held.get(name)}, and this is {value}"
            how = "from another model" if name in ("model", "weights") else with_what
            raise UserError(
                f"workdir: {path.parent} holds models that were pruned {how}; name another --workdir, or pass "
                "--overwrite to start again"
            )
    arrays = {name: np.asarray(held[name]) for name in ("heads", "widths", "neurons")}
    return Latencies(**arrays, layer=held["layer"], rest=held["rest"])


def _as_lists(latencies: Latencies) -> dict[str, Any]:
    return {name: np.asarray(value).tolist() for name, value in latencies._asdict().items()}


def _summary(
    settings: Prune, weights: Weights, run: pathlib.Path, points: list[dict[str, Any]], length: int
) -> dict[str, Any]:
    """Scores beside latencies; all models are timed in turns."""
    models = [weights, *(load_weights(pathlib.Path(point["folder"]) / BEST) for point in points)]
    seconds = latency.seconds_of([lambda model=model: model for model in models], settings, length)
    before = json_files.read_object(run / "summary.json", "prune")
    metric = points[0]["figures"]["metric"]
    rows = [
        {
            "speed_up": point["speed_up"],
            metric: point["figures"][metric],
            "milliseconds": 1e3 * time,
            "measured_speed_up": seconds[0] / time,
            "parameters": _count(model),
            "layers": model.model.num_layers,
            "folder": point["folder"],
        }
        for point, model, time in zip(points, models[1:], seconds[1:], strict=True)
    ]
    return {
        "task": points[0]["figures"]["task"],
        "metric": metric,
        metric: before.get(metric),
        "milliseconds": 1e3 * seconds[0],
        "parameters": _count(weights),
        "layers": weights.model.num_layers,
        "length": length,
        "threads": settings.threads,
        "products": settings.products,
        "cpu": cpu.name(),
        "points": rows,
    }


def _count(weights: Weights) -> int:
    return sum(value.size for value in parameters.flatten(weights.params).values())
