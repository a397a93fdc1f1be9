"""`bertlite bench finetune`: a task learnt here and by `transformers` in PyTorch, from the same weights and tokens.

Two things are measured, apart from each other because other programs share the machine. How fast: both take turns, a
few updates each, and the ratio within one run counts. How well: both train the whole recipe with the same seeds, the
same examples in every update, and the best model by the task's metric of each is scored on the whole validation split.
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
from typing import Any

import jax
import numpy as np
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
from bertlite_jax.jobs.benchmarks import finetune_ours, finetune_peer, machine, runtime_process
from bertlite_jax.jobs.benchmarks.finetune_ours import Contender
from bertlite_jax.jobs.benchmarks.finetune_peer import ANSWER, LEARN, Lesson, Precision
from bertlite_jax.jobs.finetuning import finetune
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.model.ops import choose_precision
from bertlite_jax.report.benchmarks.machine_line import machine_line

TOGETHER = 64
"""Validation examples that the peer answers in a batch; of about one length."""
US, PEER = "bertlite_jax", "transformers"


def bench_finetune(
    config: str,
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
    """Learns a task here and with transformers in PyTorch, from the same weights, tokens, order and recipe.

    Args:
      config: Recipe, such as configs/finetune_glue.py.
      init: The encoder: a run's work directory, or a folder that tools/convert.py wrote.
      task: Name of the task; by default the recipe's data.task.
      data: Folder with the task's files; by default the recipe's data.folder.
      workdir: Folder for the runs and summary.json. One that holds the same runs already is gone on with.
      seeds: Train so many times, with run.seed and those that follow it; 0: only times, which needs no folder.
      train_examples: Only the first so many training examples, for both; 0: as the recipe says.
      steps: Updates of a run, for both; 0: as the recipe says.
      rounds: Turns that each side gets for the times; 0: none.
      round_steps: Updates in a turn.
      peer_precision: What the peer's scores are trained in: float32, bfloat16 (autocast), or auto: whatever was faster
        here.
      overwrite: Start anew where the folder holds runs.

    Returns:
      What `summary.json` holds: {"task", "metric", "machine", "settings", "throughput": [{"name", "precision",
      "examples_per_second", "filled", "ratio", "ratio_median"}], "scores": {name: {"precision", "seeds", "best",
      metric: median, ..}}}. `ratio` is that of our figure to this one's, best turns against best turns; `ratio_median`
      that of the turns of each round.

    Raises:
      UserError: PyTorch is missing, a setting that it does not have, and all that `bertlite finetune` refuses.
    """
    recipe = _recipe(config, task, data, train_examples, steps)
    _check(recipe, workdir, seeds, rounds, round_steps, peer_precision)
    memory.keep_freed_memory()
    load = os.getloadavg()[0]
    console = Console(highlight=False, width=None if Console().is_terminal else 110)
    setup = finetune_ours.open_setup(recipe, init)
    finetune_peer.check_recipe(recipe, setup.start.config.head)
    timed = _race(setup, rounds, round_steps, console) if rounds else []
    faster = max(timed[1:], key=lambda c: c.rate).precision if timed else "float32"
    precision: Any = faster if peer_precision == "auto" else peer_precision
    summary = {
        "task": setup.task.name,
        "metric": setup.task.metrics[0],
        "init": init,
        "machine": machine.describe(("jax", "torch", "transformers"), load),
        "settings": files.flat(recipe) | {"seeds": seeds, "rounds": rounds, "round_steps": round_steps},
        "throughput": finetune_ours.throughput(timed),
        "scores": _scores(recipe, init, workdir, seeds, precision, overwrite, console) if seeds else {},
    }
    if workdir:
        pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
        whole_files.write_json(pathlib.Path(workdir) / "summary.json", summary)
    _print(summary, console)
    return summary


def _recipe(path: str, task: str, folder: str, train_examples: int, steps: int) -> Finetune:
    recipe = files.load_file(path, task)
    if not isinstance(recipe, Finetune):
        raise UserError(f"config: {path}: config is a {type(recipe).__name__}, bench finetune wants a Finetune")
    named = {"task": task, "folder": folder, "train_examples": train_examples}
    data = dataclasses.replace(recipe.data, **{name: value for name, value in named.items() if value})
    run = dataclasses.replace(recipe.run, steps=steps or recipe.run.steps)
    return dataclasses.replace(recipe, data=data, run=run)


def _check(recipe: Finetune, folder: str, seeds: int, rounds: int, round_steps: int, precision: str) -> None:
    finetune_peer.check_installed()
    check_finetune(recipe)
    if min(seeds, rounds) < 0 or round_steps < 1 or not (seeds or rounds):
        raise UserError(f"bench: --seeds {seeds}, --rounds {rounds}, --round-steps {round_steps}: nothing to measure")
    if seeds and not folder:
        raise UserError("bench: --workdir is missing; name a folder for the runs, or pass --seeds 0 for times alone")
    if precision not in ("auto", "float32", "bfloat16"):
        raise UserError(f"bench: --peer-precision {precision} is none of auto, float32, bfloat16")


# --- The peer's process --------------------------------------------------------------------------------------------


def precisions() -> list[Precision]:
    """What the peer is timed in: bfloat16 only where the CPU has instructions for it; else it takes minutes a step."""
    return ["float32", "bfloat16"] if choose_precision.bfloat16_flag() else ["float32"]


@contextlib.contextmanager
def start_peer(setup: Setup, precision: Precision) -> Iterator[runtime_process.Process]:
    """The process of the peer, with our starting weights, the new head's among them, as `to_hf` writes them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "start"
        made = Weights(jax.device_get(finetune_ours.start(setup)), setup.start.config.model, setup.start.config.head)
        to_hf(made, folder)
        lesson = Lesson(
            folder=str(folder),
            train=setup.train.encoded,
            valid=setup.valid.encoded,
            optim=finetune_ours.optim_in_steps(setup),
            steps=setup.steps,
            seed=setup.start.config.run.seed,
            pad_id=setup.start.tokenizer.pad_id,
            precision=precision,
        )
        load = functools.partial(finetune_peer.load, lesson)
        with runtime_process.start(f"PyTorch {precision}", load, cpu.cores()) as process:
            yield process


# --- How fast ----------------------------------------------------------------------------------------------------


def _race(setup: Setup, rounds: int, round_steps: int, console: Console) -> list[Contender]:
    """Ours first, then the peer in each precision that this CPU has instructions for."""
    encoded, batch = setup.train.encoded, setup.start.config.data.batch_examples
    drawn = finetune_peer.shuffled_batches(encoded, batch, setup.start.config.run.seed)
    turn, examples = finetune_ours.open_turn(setup, round_steps)
    theirs = finetune_ours.representative(drawn, encoded.sizes, round_steps)
    requests, learnt = [{LEARN: numbers} for numbers in theirs], sum(map(len, theirs))
    contenders = [Contender(US, setup.model.compute, setup.notes["real_share"], examples, turn)]
    with contextlib.ExitStack() as stack:
        for precision in precisions():
            process = stack.enter_context(start_peer(setup, precision))
            updates = functools.partial(_peer_turn, process, requests)
            contenders.append(Contender(PEER, precision, finetune_peer.filled(encoded, drawn), learnt, updates))
        finetune_ours.race(contenders, rounds, console.print)
    return contenders


def _peer_turn(process: runtime_process.Process, requests: list[dict[str, np.ndarray]]) -> float:
    return sum(process.run(requests).seconds)


# --- How well ----------------------------------------------------------------------------------------------------


def _scores(
    recipe: Finetune, init: str, folder: str, seeds: int, precision: Precision, overwrite: bool, console: Console
) -> dict[str, Any]:
    """Both sides with each seed; what is there already from an earlier call is not trained again."""
    place = pathlib.Path(folder)
    found: dict[str, list[dict[str, Any]]] = {US: [], PEER: []}
    for seed in range(recipe.run.seed, recipe.run.seed + seeds):
        one = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, seed=seed))
        console.print(f"bench: {US}, seed {seed}")
        figures = finetune.finetune(one, str(place / US / f"seed-{seed}"), init, overwrite)
        if "stopped" in figures:
            raise UserError(f"bench: stopped by a signal; the same command goes on from there, in {folder}")
        found[US].append(figures)
        console.print(f"bench: {PEER}, seed {seed}, {precision}")
        kept = place / PEER / f"seed-{seed}.json"
        found[PEER].append(peer_run(one, init, kept, precision, overwrite, console.print))
    return medians(found, task_splits.task_of(recipe.data).metrics)


def medians(found: dict[str, list[dict[str, Any]]], names: Sequence[str]) -> dict[str, Any]:
    """Of the runs of each side, one a seed: every metric's median, and each run's figures."""
    return {
        who: {
            "precision": runs[0]["compute"],
            "seeds": [{name: run[name] for name in (*names, "best_step")} for run in runs],
            "examples_per_second": [run["examples_per_second"] for run in runs],
            **{name: statistics.median(run[name] for run in runs) for name in names},
        }
        for who, runs in found.items()
    }


def peer_run(
    recipe: Finetune,
    init: str,
    kept: pathlib.Path,
    precision: Precision,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains the peer with one seed and scores it when our job scores ours; the best evaluation counts, as there.

    Args:
      recipe, init: as for `finetune`.
      kept: the JSON file for the figures; one of the same recipe is read instead of training again.
      precision: of the peer.
      overwrite: train again.
      say: takes a line an evaluation.

    Returns:
      The task's figures at the best evaluation, `best_step`, `losses` (of each update), `examples_per_second`,
      `compute`, `settings`.
    """
    settled = json.loads(json.dumps(files.flat(recipe) | {"init": init, "precision": precision}))
    if kept.is_file() and not overwrite:
        stored = read_json(kept)
        if stored.get("settings") == settled:
            return stored
    setup = finetune_ours.open_setup(recipe, init)
    order = finetune_peer.dealt_batches(setup.train.encoded, recipe.data.batch_examples, recipe.run.seed, setup.steps)
    every = recipe.run.eval_every or min(setup.per_epoch, setup.steps)
    first = setup.task.metrics[0]
    seconds, losses = 0.0, []
    best: dict[str, Any] = {}
    with start_peer(setup, precision) as process:
        while len(losses) < setup.steps:
            part = order[len(losses) : len(losses) + every]
            turn = process.run([{LEARN: numbers} for numbers in part], keep=True)
            seconds += sum(turn.seconds)
            losses += [float(loss[0]) for loss in turn.answers]
            figures = score(setup, process)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            say(f"{PEER}: step {len(losses)}: mean loss {np.mean(losses[-len(part) :]):.4f}; valid {shown}")
            if not best or figures[first] > best[first]:
                best = figures | {"best_step": len(losses)}
    rate = sum(map(len, order)) / seconds
    made = best | {"losses": losses, "examples_per_second": round(rate, 2), "compute": precision, "settings": settled}
    kept.parent.mkdir(parents=True, exist_ok=True)
    whole_files.write_json(kept, made)
    return made


def score(setup: Setup, process: runtime_process.Process) -> dict[str, float]:
    """The task's figures of the peer's model on the validation split."""
    logits = answers_of(process, setup.valid.encoded.sizes)
    given = outputs.predictions(setup.start.config.head, list(logits), setup.valid.examples)
    return task_metrics.score(setup.task, setup.valid.examples, given)


def answers_of(process: runtime_process.Process, sizes: np.ndarray) -> np.ndarray:
    """The peer's logits of all validation examples, whose sizes [M] these are: [M, C]."""
    order = np.argsort(sizes, kind="stable")
    parts = [order[first : first + TOGETHER] for first in range(0, len(order), TOGETHER)]
    logits = np.concatenate(process.run([{ANSWER: part} for part in parts], keep=True).answers)
    return logits[np.argsort(order, kind="stable")]


# --- Report ------------------------------------------------------------------------------------------------------


def _print(summary: dict[str, Any], console: Console) -> None:
    settled = summary["settings"]
    if rows := summary["throughput"]:
        table = Table("who", "precision", title=f"{summary['task']}: training, batch {settled['data.batch_examples']}")
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
        for name in ("median", *(f"seed {settled['run.seed'] + place}" for place in range(settled["seeds"]))):
            table.add_column(name, justify="right")
        for who, figures in scores.items():
            for name in figures["seeds"][0]:
                if name != "best_step":
                    values = (figures[name], *(run[name] for run in figures["seeds"]))
                    table.add_row(who, figures["precision"], name, *(f"{value:.4f}" for value in values))
        console.print(table)
    console.print(
        f"{machine_line(summary['machine'])}\nfilled: share of slots with a token; examples/s: of the best turn; "
        f"ours is: our figure over it; median: the same over the rounds.\n{US} packs examples into rows; {PEER} "
        "shuffles and pads a batch to its longest example, as its Trainer does\nwithout grouping by length. For the "
        "scores both see the same examples in each update.",
        soft_wrap=True,
    )
