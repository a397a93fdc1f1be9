"""`bertlite bench finetune`: trains a task here and with `transformers` in PyTorch, from the same weights and tokens.

Speed and quality are measured separately, because other programs share the machine. For speed, both sides take turns of
a few steps, and the ratio within one run counts. For quality, both train the whole recipe with the same seeds and the
same examples in every step; each side's best model by the task's metric is scored on the whole validation split.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from bertlite_jax.config import files
from bertlite_jax.config.finetune import Finetune, check_finetune
from bertlite_jax.convert.huggingface.folder import to_hf
from bertlite_jax.convert.weights.folder import Weights, read_json
from bertlite_jax.data.scores import task_metrics
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, memory, whole_files
from bertlite_jax.jobs.answering import outputs, task_splits
from bertlite_jax.jobs.benchmarks import finetune_ours, finetune_peer, machine, race
from bertlite_jax.jobs.benchmarks.finetune_ours import Contender
from bertlite_jax.jobs.benchmarks.finetune_peer import ANSWER, TRAIN, PeerTask, Precision
from bertlite_jax.jobs.benchmarks.runtimes import process
from bertlite_jax.jobs.finetuning import finetune, own_data
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.report import terminal
from bertlite_jax.report.benchmarks.machine_line import machine_line

EVALUATION_BATCH = 64
"""Validation examples, of similar lengths, in one of the peer's batches."""
OURS, PEER = "bertlite_jax", "transformers"


def bench_finetune(
    config: Annotated[str, tyro.conf.arg(metavar="RECIPE")],
    /,
    *,
    init: str,
    task: str = "",
    data: str = "",
    workdir: str = "",
    seeds: int = 1,
    train_examples: int = 0,
    steps: int = 0,
    rounds: int = 5,
    round_steps: int = 12,
    peer_precision: str = "auto",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Trains a task here and with transformers in PyTorch, from the same weights, tokens, order and recipe.

    Args:
      config: Recipe, by its name or path, such as finetune_glue.
      init: Encoder to start from: a run's work directory, a folder of transformers, or one that `bertlite
        convert` wrote.
      task: Name of the task; by default the recipe's data.task.
      data: Folder with the task's files; by default the recipe's data.folder.
      workdir: Folder for the runs and summary.json. If it already holds the same runs, they resume.
      seeds: Number of runs per side, with seeds from run.seed on; 0 measures speed only and needs no --workdir.
      train_examples: Use only the first training examples, this many, on both sides; 0: as the recipe says.
      steps: Training steps of a run, on both sides; 0: as the recipe says.
      rounds: Turns of each side for the speed; 0 measures no speed.
      round_steps: Training steps in a turn.
      peer_precision: Precision that the peer's scores are trained in: float32, bfloat16 (autocast), or auto, the one
        that was faster here.
      overwrite: Delete runs that the folder holds, and start again.

    Returns:
      The content of `summary.json`: {"task", "metric", "machine", "settings", "throughput": [{"name", "precision",
      "examples_per_second", "filled", "ratio", "ratio_median"}], "scores": {name: {"precision", "seeds", "best",
      metric: median, ..}}}. `ratio` is our examples per second over this side's, by the fastest turns; `ratio_median`
      is the median over the rounds.

    Raises:
      UserError: PyTorch is missing, the recipe has a setting that its side lacks, or `bertlite finetune` refuses it.
    """
    recipe = load_recipe(config, task, data, train_examples, steps)
    _check(recipe, workdir, seeds, rounds, round_steps, peer_precision)
    recipe = own_data.decided(recipe, workdir, overwrite)
    memory.keep_freed_memory()
    load = os.getloadavg()[0]
    console = terminal.open_console()
    setup = finetune_ours.open_setup(recipe, init)
    finetune_peer.check_recipe(recipe, setup.start.config.head)
    contenders = _race(setup, rounds, round_steps, console) if rounds else []
    faster = max(contenders[1:], key=lambda contender: contender.rate).precision if contenders else "float32"
    precision: Any = faster if peer_precision == "auto" else peer_precision
    summary = {
        "task": setup.task.name,
        "metric": setup.task.metrics[0],
        "init": init,
        "machine": machine.describe(("jax", "torch", "transformers"), load),
        "settings": files.flat(recipe) | {"seeds": seeds, "rounds": rounds, "round_steps": round_steps},
        "throughput": finetune_ours.throughput(contenders),
        "scores": _scores(recipe, init, workdir, seeds, precision, overwrite, console) if seeds else {},
    }
    if workdir:
        pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
        whole_files.write_json(pathlib.Path(workdir) / "summary.json", summary)
    _print(summary, console)
    return summary


def load_recipe(path: str, task: str, folder: str, train_examples: int, steps: int) -> Finetune:
    """The recipe in a config file, with what the command line overrides; empty values and 0 override nothing."""
    recipe = files.load_file(path, task)
    if not isinstance(recipe, Finetune):
        raise UserError(f"config: {path}: config is a {type(recipe).__name__}; bench finetune needs a Finetune")
    overrides = {"task": task, "folder": folder, "train_examples": train_examples}
    data = dataclasses.replace(recipe.data, **{name: value for name, value in overrides.items() if value})
    run = dataclasses.replace(recipe.run, steps=steps or recipe.run.steps)
    return dataclasses.replace(recipe, data=data, run=run)


def _check(recipe: Finetune, folder: str, seeds: int, rounds: int, round_steps: int, precision: str) -> None:
    finetune_peer.check_installed()
    check_finetune(recipe)
    if min(seeds, rounds) < 0 or round_steps < 1 or not (seeds or rounds):
        raise UserError(f"bench: --seeds {seeds}, --rounds {rounds}, --round-steps {round_steps}: nothing to measure")
    if seeds and not folder:
        raise UserError(
            "bench: --workdir is missing; name a folder for the runs, or pass --seeds 0 to measure speed only"
        )
    if precision not in ("auto", "float32", "bfloat16"):
        raise UserError(f"bench: --peer-precision {precision} must be auto, float32 or bfloat16")


# --- The peer's process --------------------------------------------------------------------------------------------


def precisions() -> list[Precision]:
    """Precisions that the peer is timed in; without instructions for bfloat16 a step in it would take minutes."""
    return ["float32", "bfloat16"] if choose_precision.bfloat16_flag() else ["float32"]


@contextlib.contextmanager
def start_peer(setup: Setup, precision: Precision) -> Iterator[process.Process]:
    """Starts the peer with our starting weights, including the new head's, as `to_hf` writes them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "start"
        config = setup.start.config
        to_hf(Weights(jax.device_get(finetune_ours.start_params(setup)), config.model, config.head), folder)
        peer_task = PeerTask(
            folder=str(folder),
            train=setup.train.encoded,
            valid=setup.valid.encoded,
            optim=finetune_ours.optim_in_steps(setup),
            steps=setup.steps,
            seed=config.run.seed,
            pad_id=setup.start.tokenizer.pad_id,
            precision=precision,
        )
        load = functools.partial(finetune_peer.load, peer_task)
        with process.start(f"PyTorch {precision}", load, cpu.cores()) as peer:
            yield peer


# --- Speed ----------------------------------------------------------------------------------------------------


def _race(setup: Setup, rounds: int, round_steps: int, console: Console) -> list[Contender]:
    """Times our side, then the peer in each of its precisions; the first turn of each is not counted."""
    encoded, batch = setup.train.encoded, setup.start.config.data.batch_examples
    epoch = finetune_peer.shuffled_batches(encoded, batch, setup.start.config.run.seed)
    turn, examples = finetune_ours.open_turn(setup, round_steps)
    peer_batches = finetune_ours.representative(epoch, encoded.sizes, round_steps)
    requests, peer_examples = [{TRAIN: numbers} for numbers in peer_batches], sum(map(len, peer_batches))
    contenders = [Contender(OURS, setup.model.compute, setup.notes["real_share"], examples, turn)]
    with contextlib.ExitStack() as stack:
        for precision in precisions():
            peer = stack.enter_context(start_peer(setup, precision))
            peer_turn = functools.partial(_peer_turn, peer, requests)
            filled = finetune_peer.filled(encoded, epoch)
            contenders.append(Contender(PEER, precision, filled, peer_examples, peer_turn))
        for contender in contenders:
            console.print(f"bench: first turn of {contender.name}, {contender.precision}, which compiles or warms up")
            contender.turn()
        race.race(contenders, rounds, lambda contender: [contender.turn()], console.print)
    return contenders


def _peer_turn(peer: process.Process, requests: list[dict[str, np.ndarray]]) -> float:
    return sum(peer.run(requests).seconds)


# --- Quality ----------------------------------------------------------------------------------------------------


def _scores(
    recipe: Finetune, init: str, folder: str, seeds: int, precision: Precision, overwrite: bool, console: Console
) -> dict[str, Any]:
    """Trains both sides with each seed; runs that an earlier call finished are read, not repeated."""
    workdir = pathlib.Path(folder)
    by_side: dict[str, list[dict[str, Any]]] = {OURS: [], PEER: []}
    for seed in range(recipe.run.seed, recipe.run.seed + seeds):
        one = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, seed=seed))
        console.print(f"bench: {OURS}, seed {seed}")
        figures = finetune.finetune(one, str(workdir / OURS / f"seed-{seed}"), init, overwrite)
        if "stopped" in figures:
            raise UserError(f"bench: stopped by a signal; the same command resumes the runs in {folder}")
        by_side[OURS].append(figures)
        console.print(f"bench: {PEER}, seed {seed}, {precision}")
        result_file = workdir / PEER / f"seed-{seed}.json"
        by_side[PEER].append(peer_run(one, init, result_file, precision, overwrite, console.print))
    return medians(by_side, task_splits.task_of(recipe.data).metrics)


def medians(by_side: dict[str, list[dict[str, Any]]], names: Sequence[str]) -> dict[str, Any]:
    """Every metric's median over the runs of each side, and each run's figures.

    Args:
      by_side: the summaries of a side's runs, one for each seed.
      names: of the metrics.
    """
    return {
        side: {
            "precision": runs[0]["compute"],
            "seeds": [{name: run[name] for name in (*names, "best_step")} for run in runs],
            "examples_per_second": [run["examples_per_second"] for run in runs],
            **{name: statistics.median(run[name] for run in runs) for name in names},
        }
        for side, runs in by_side.items()
    }


def peer_run(
    recipe: Finetune,
    init: str,
    result_file: pathlib.Path,
    precision: Precision,
    overwrite: bool = False,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains the peer with one seed; evaluates it after the same steps as our job, and keeps the best evaluation.

    Args:
      recipe: as for `finetune`.
      init: as for `finetune`.
      result_file: JSON file for the figures. One of the same recipe is read instead of training again.
      precision: of the peer.
      overwrite: train again in any case.
      log: prints a line for each evaluation.

    Returns:
      The task's figures at the best evaluation, `best_step`, `losses` (of each step), `examples_per_second`, `compute`,
      `settings`.
    """
    settings = json.loads(json.dumps(files.flat(recipe) | {"init": init, "precision": precision}))
    if result_file.is_file() and not overwrite:
        stored = read_json(result_file)
        if stored.get("settings") == settings:
            return stored
    setup = finetune_ours.open_setup(recipe, init)
    order = finetune_peer.dealt_batches(setup.train.encoded, recipe.data.batch_examples, recipe.run.seed, setup.steps)
    every = recipe.run.eval_every or min(setup.per_epoch, setup.steps)
    first = setup.task.metrics[0]
    seconds, losses = 0.0, []
    best: dict[str, Any] = {}
    with start_peer(setup, precision) as peer:
        while len(losses) < setup.steps:
            next_batches = order[len(losses) : len(losses) + every]
            turn = peer.run([{TRAIN: numbers} for numbers in next_batches], return_answers=True)
            seconds += sum(turn.seconds)
            new_losses = [float(loss[0]) for loss in turn.answers]
            losses += new_losses
            figures = score(setup, peer)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            log(f"{PEER}: step {len(losses)}: mean loss {np.mean(new_losses):.4f}; valid {shown}")
            if not best or figures[first] > best[first]:
                best = figures | {"best_step": len(losses)}
    rate = sum(map(len, order)) / seconds
    result = best | {"losses": losses, "examples_per_second": round(rate, 2)}
    result |= {"compute": precision, "settings": settings}
    result_file.parent.mkdir(parents=True, exist_ok=True)
    whole_files.write_json(result_file, result)
    return result


def score(setup: Setup, peer: process.Process) -> dict[str, float]:
    """The task's figures of the peer's model on the validation split."""
    logits = peer_logits(peer, setup.valid.encoded.sizes)
    predictions = outputs.predictions(setup.start.config.head, list(logits), setup.valid.examples)
    return task_metrics.score(setup.task, setup.valid.examples, predictions)


def peer_logits(peer: process.Process, sizes: np.ndarray) -> np.ndarray:
    """The peer's logits of all validation examples.

    Args:
      peer: its process.
      sizes: [M] tokens of each example, by which the batches are formed.

    Returns:
      [M, C] float32.
    """
    order = np.argsort(sizes, kind="stable")
    batches = [order[first : first + EVALUATION_BATCH] for first in range(0, len(order), EVALUATION_BATCH)]
    logits = np.concatenate(peer.run([{ANSWER: batch} for batch in batches], return_answers=True).answers)
    return logits[np.argsort(order, kind="stable")]


# --- Report ------------------------------------------------------------------------------------------------------


def _print(summary: dict[str, Any], console: Console) -> None:
    settings = summary["settings"]
    if rows := summary["throughput"]:
        table = Table("who", "precision", title=f"{summary['task']}: training, batch {settings['data.batch_examples']}")
        for name in ("filled", "examples/s", "ours is", "median"):
            table.add_column(name, justify="right")
        for row in rows:
            rate, ratios = f"{row['examples_per_second']:,.1f}", (row["ratio"], row["ratio_median"])
            table.add_row(
                row["name"], row["precision"], f"{row['filled']:.0%}", rate, *(f"{ratio:.2f}x" for ratio in ratios)
            )
        console.print(table)
    if scores := summary["scores"]:
        table = Table("who", "precision", "figure", title=f"{summary['task']}: validation, best evaluation of each run")
        for name in ("median", *(f"seed {settings['run.seed'] + place}" for place in range(settings["seeds"]))):
            table.add_column(name, justify="right")
        for who, figures in scores.items():
            for name in figures["seeds"][0]:
                if name != "best_step":
                    values = (figures[name], *(run[name] for run in figures["seeds"]))
                    table.add_row(who, figures["precision"], name, *(f"{value:.4f}" for value in values))
        console.print(table)
    console.print(
        f"{machine_line(summary['machine'])}\nfilled: share of slots with a token; examples/s: of the fastest turn; "
        f"ours is: our examples/s over this side's; median: the same, over the rounds.\n{OURS} packs examples into "
        f"rows; {PEER} shuffles and pads a batch to its longest example, as its Trainer does\nwithout grouping by "
        "length. For the scores, both see the same examples in each step.",
        soft_wrap=True,
    )
