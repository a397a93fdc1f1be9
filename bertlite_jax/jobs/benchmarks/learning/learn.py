"""`bertlite bench learn`: how long a recipe takes to the loss that PyTorch reaches in the usual way.

PyTorch trains for a fixed time, once for each of several learning rates, and its weights are kept at equal distances
(`pytorch.py`). Then our recipe trains. All weights are scored by one evaluation, ours: the same rows of the validation
split under the same masks. The mark is the best loss that PyTorch has reached at any rate and time.

Our seconds are those of the whole run: compiling, evaluating and saving count. PyTorch's are those of its steps alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import numpy as np
from rich.console import Console

from bertlite_jax.config import checks, files, sizes
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.convert import sources
from bertlite_jax.convert.huggingface.tokenizer import write_tokenizer
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, memory, whole_files
from bertlite_jax.jobs.benchmarks import machine, train_peer
from bertlite_jax.jobs.benchmarks.learning import pytorch
from bertlite_jax.jobs.pretraining.evaluate import Evaluate, open_evaluation
from bertlite_jax.jobs.pretraining.pretrain import pretrain
from bertlite_jax.jobs.runs import one_job
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.report import terminal
from bertlite_jax.report.benchmarks import learning
from bertlite_jax.report.run.metrics import read_lines
from bertlite_jax.train import sharding

OURS = "ours"
LOSS = "valid_mlm_loss"


def bench_learn(
    config: str,
    /,
    workdir: str,
    corpus: tuple[str, ...] = (),
    tokenizer: str = "",
    minutes: float = 30.0,
    rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3),
    rows: int = 32,
    snapshots: int = 30,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Trains a recipe here and the same shape in PyTorch, and compares the times to one validation loss.

    Args:
      config: Recipe of a pretraining run.
      workdir: Folder for all runs, summary.json and curves.png. What it already holds of the same settings is not
        repeated.
      corpus: Corpus folders; by default the recipe's.
      tokenizer: Folder of the tokenizer; by default the recipe's.
      minutes: How long PyTorch trains at each rate.
      rates: Peak learning rates that PyTorch tries.
      rows: Windows in a step of PyTorch.
      snapshots: How often PyTorch's weights are scored in that time.
      overwrite: Delete runs that the folder holds, and start again.

    Returns:
      The content of `summary.json`: {"machine", "settings", "mark": {"name", "loss", "seconds"}, "ours": {"seconds",
      "loss"} at the mark (None where it was not reached), "ratio" of the seconds, ours over PyTorch's, "curves": {name:
      [[seconds, loss], ..]}, "unigram_entropy"}.

    Raises:
      UserError: PyTorch is missing, the recipe cannot be carried out, or PyTorch cannot hold its shape.
    """
    train_peer.check_installed()
    _check(minutes, rates, rows, snapshots)
    recipe, opened = open_recipe(config, corpus, tokenizer)
    console, load = terminal.open_console(), os.getloadavg()[0]
    memory.keep_freed_memory()
    folder = pathlib.Path(workdir)
    settings = {"minutes": minutes, "rows": rows, "snapshots": snapshots} | files.flat(recipe)
    with one_job.alone_in(folder, of_runs=True):
        curves = {}
        for rate in rates:
            task = task_of(recipe, opened, folder / f"pytorch-{rate:g}", rate, minutes * 60.0, rows, snapshots)
            curves[f"PyTorch, rate {rate:g}"] = _peer_curve(task, recipe, opened, overwrite, console)
        console.print(f"bench: {OURS}: {recipe.run.steps:,} steps of {config}")
        figures = pretrain(recipe, str(folder / OURS), overwrite=overwrite)
        if "stopped" in figures:
            raise UserError(f"bench: stopped by a signal; the same command goes on in {folder}")
        curves[OURS] = curve_of(read_lines(folder / OURS / "metrics.jsonl"))
        summary = compare(curves) | {
            "unigram_entropy": figures["unigram_entropy"],
            "machine": machine.describe(("jax", "torch", "transformers"), load),
            "settings": settings | {"rates": list(rates), "compute": figures["compute"]},
        }
        whole_files.write_json(folder / "summary.json", summary)
        (folder / "curves.png").write_bytes(learning.draw(summary))
    learning.print_summary(summary, console)
    return summary


def compare(curves: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Where PyTorch's best loss was reached first, and the ratio of the times.

    Args:
      curves: (seconds, loss) of each contender; ours is named `OURS`.
    """
    theirs = [(loss, seconds, name) for name, points in curves.items() if name != OURS for seconds, loss in points]
    loss, seconds, name = min(theirs)
    ours = next(((s, mine) for s, mine in curves[OURS] if mine <= loss), None)
    return {
        "mark": {"name": name, "loss": loss, "seconds": seconds},
        "ours": {"seconds": ours[0], "loss": ours[1]} if ours else None,
        "ratio": ours[0] / seconds if ours else None,
        "curves": {who: [list(point) for point in points] for who, points in curves.items()},
    }


def curve_of(lines: Sequence[dict[str, Any]]) -> list[tuple[float, float]]:
    """(seconds, loss) of every evaluation in a `metrics.jsonl`; seconds of the run up to that step."""
    seconds = {line["step"]: line["seconds"] for line in lines if "seconds" in line}
    return [(seconds[line["step"]], line[LOSS]) for line in lines if LOSS in line and line["step"] in seconds]


# --- What is compared ------------------------------------------------------------------------------------------------


def _check(minutes: float, rates: tuple[float, ...], rows: int, snapshots: int) -> None:
    for name, value in (("minutes", minutes), ("rows", rows), ("snapshots", snapshots)):
        if not 0 < value < 10**6:
            raise UserError(f"bench: --{name} {value} must be positive")
    if not rates or not all(0 < rate < 1 for rate in rates):
        raise UserError(f"bench: --rates {' '.join(f'{rate:g}' for rate in rates)} must lie between 0 and 1")
    if len(set(rates)) != len(rates):
        raise UserError("bench: --rates has the same rate twice")


def open_recipe(path: str, corpus: tuple[str, ...], tokenizer: str) -> tuple[Pretrain, Tokenizer]:
    """The recipe with all sizes, evaluated where it is logged, and its tokenizer."""
    recipe = files.load_file(path, "")
    if type(recipe) is not Pretrain:
        raise UserError(f"config: {path}: config is a {type(recipe).__name__}; bench learn needs a Pretrain")
    data = dataclasses.replace(
        recipe.data, corpus=corpus or recipe.data.corpus, tokenizer=tokenizer or recipe.data.tokenizer
    )
    recipe = dataclasses.replace(recipe, data=data)
    if not data.corpus or not data.tokenizer:
        raise UserError("bench: name --corpus and --tokenizer; the recipe has none")
    if recipe.run.eval_every % recipe.run.log_every or not recipe.run.eval_every:
        raise UserError(
            f"bench: run.eval_every = {recipe.run.eval_every} must be a multiple of run.log_every = "
            f"{recipe.run.log_every}, so that the time of each evaluation is known"
        )
    opened = load_tokenizer(data.tokenizer)
    recipe = sizes.resolve_sizes(recipe, opened.vocab_size)
    checks.check_pretrain(recipe)
    return recipe, opened


def task_of(
    recipe: Pretrain, opened: Tokenizer, out: pathlib.Path, rate: float, seconds: float, rows: int, snapshots: int
) -> pytorch.Task:
    """What PyTorch has to train: the recipe's shape and rows, in the arithmetic that is fastest for it on this CPU."""
    return pytorch.Task(
        model=pytorch.published(recipe.model),
        data=dataclasses.replace(recipe.data, batch_rows=rows),
        tokenizer=str(opened.folder),
        rate=rate,
        seconds=seconds,
        snapshots=snapshots,
        bfloat16=bool(choose_precision.bfloat16_flag()),
        threads=cpu.cores(),
        seed=recipe.run.seed,
        out=str(out),
    )


# --- PyTorch ---------------------------------------------------------------------------------------------------------


def _peer_curve(
    task: pytorch.Task, recipe: Pretrain, opened: Tokenizer, overwrite: bool, console: Console
) -> list[tuple[float, float]]:
    """(seconds, loss) of the peer's snapshots; those that an earlier call has scored are read."""
    file = pathlib.Path(f"{task.out}.json")
    settings = json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(task, out="", tokenizer=""))))
    if file.is_file() and not overwrite:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["settings"] == settings:
            return [(seconds, loss) for seconds, loss in stored["curve"]]
    products = "bfloat16" if task.bfloat16 else "float32"
    console.print(f"bench: PyTorch trains for {task.seconds / 60:g} minutes at the rate {task.rate:g} in {products}")
    with tempfile.TemporaryDirectory(prefix="bertlite-learn-") as scratch:
        inner = pathlib.Path(scratch)
        (inner / "tokenizer").mkdir()
        write_tokenizer(opened, inner / "tokenizer", task.model.max_positions, task.model.token_types)
        times = _in_its_process(dataclasses.replace(task, tokenizer=str(inner / "tokenizer"), out=str(inner / "run")))
        losses = scores(recipe, opened, [inner / "run" / str(number + 1) for number in range(len(times["steps"]))])
    curve = list(zip(times["seconds"], losses, strict=True))
    console.print(
        f"bench: PyTorch, rate {task.rate:g}: {times['steps'][-1]:,} steps, {times['tokens']:,} real tokens; best loss "
        f"{np.min(losses):.4f}"
    )
    whole_files.write_json(file, {"settings": settings, "curve": curve, "steps": times["steps"]})
    return curve


def scores(recipe: Pretrain, opened: Tokenizer, folders: Sequence[pathlib.Path]) -> list[float]:
    """Validation losses of folders of transformers under the evaluation of the recipe.

    Args:
      recipe: with its rows.
      opened: its tokenizer.
      folders: weights of one shape. What they compute is in their own config, not in the recipe: an ALBERT of
        transformers has a projection even where the two widths are equal.
    """
    mesh, losses = sharding.make_mesh(1), []
    compute = choose_precision.resolve(recipe.model.compute, mesh.devices.flat[0].platform)
    evaluate: Evaluate | None = None
    for folder in folders:
        weights = sources.load(folder)
        if evaluate is None:
            evaluate = open_evaluation(recipe, PretrainingModel(weights.model, compute).apply, mesh, opened)
        losses.append(evaluate(weights.params)[LOSS])
    return losses


def _in_its_process(task: pytorch.Task) -> dict[str, Any]:
    """Trains the peer in a process that is not a fork, because JAX has threads."""
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(pytorch.train, task).result()
    except BrokenProcessPool as error:
        raise UserError("bench: PyTorch's process was ended by the system; is there enough memory?") from error
