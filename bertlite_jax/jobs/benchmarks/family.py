"""`bertlite bench family`: what each published shape costs to store, to train and to run, beside BERT-base.

Sizes, FLOPs and memory come from formulas (`report/cost/flops.py`). `--measure` times answers and `--train` training
steps, of as many shapes as fit into `--seconds`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
import os
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bertlite_jax.config import presets
from bertlite_jax.config.model import SPECIAL_IDS, Model
from bertlite_jax.config.pretrain import Data, Optim, Pretrain, Run
from bertlite_jax.convert.weights import parameters
from bertlite_jax.data.rows import batches
from bertlite_jax.errors import UserError, fields_close_to
from bertlite_jax.host import cpu, whole_files
from bertlite_jax.jobs.benchmarks import machine, output, sample_rows
from bertlite_jax.jobs.benchmarks.runtimes import catalogue, process, turns
from bertlite_jax.report import terminal
from bertlite_jax.report.benchmarks.machine_line import machine_line
from bertlite_jax.report.cost import flops

BASE = "bert_base"
"""The shape that the others are compared with."""
HEADLINE = ("albert_base", "albert_xlarge", "distilbert", "bort")
"""Shapes that get a sentence below the tables."""
CALLS = 4
"""Least number of calls of an answer or a step; the first one is not counted."""
SAME = 1.1
"""Ratios between the inverse of this and this count as the same."""

Row = dict[str, Any]


def bench_family(
    *,
    length: int = 128,
    batch_rows: int = 8,
    measure: bool = False,
    train: bool = False,
    threads: int = 0,
    seconds: float = 120.0,
    only: tuple[str, ...] = (),
    out: str = "",
) -> list[Row]:
    """Prints the family as tables: ALBERT, BERT, DistilBERT and Bort beside BERT-base.

    Args:
      length: Tokens in a row.
      batch_rows: Rows of a training step.
      measure: Time answers at batch 1 in ONNX Runtime, or in JAX if that is not installed; float32.
      train: Time training steps on random rows in JAX, in the arithmetic that fits this machine.
      threads: Number of cores for the answers; 0: all.
      seconds: Time limit for all answers, and again for all training steps. Shapes that are predicted to exceed it are
        skipped.
      only: Names of shapes; by default all. BERT-base is always included.
      out: JSON file for the figures.

    Returns:
      For each shape {"name", "parameters", "float32_bytes", "int8_bytes", "flops", "exchanged_bytes",
      "optimiser_bytes", "step_bytes", "answer_seconds", "step_seconds", "ratios"}. Seconds are None if
      they were not measured. `ratios`: under the same names, BERT-base's figure over this one's, so more is better.

    Raises:
      UserError: a name is unknown, or a setting is out of range.
    """
    shapes = _shapes(only)
    shortest = min(model.max_positions for model in shapes.values())
    if not 8 <= length <= shortest:
        raise UserError(f"bench: length = {length} must lie between 8 and {shortest}")
    if batch_rows < 1 or seconds <= 0:
        raise UserError(f"bench: batch_rows = {batch_rows} and seconds = {seconds:g} must be positive")
    output.check_file("out", out)
    console, load = terminal.open_console(), os.getloadavg()[0]
    rows = {name: by_formula(name, model, length, batch_rows) for name, model in shapes.items()}
    used = threads or cpu.cores()
    if measure:
        answer = functools.partial(_answer_seconds, length=length, threads=used)
        measure_within(seconds, shapes, rows, "answer_seconds", answer, console)
    if train:
        step = functools.partial(_step_seconds, length=length, batch_rows=batch_rows)
        measure_within(seconds, shapes, rows, "step_seconds", step, console)
    figures = [row | {"ratios": ratios(row, rows[BASE])} for row in rows.values()]
    about_machine = machine.describe(["jax", *([_runtime()] if measure else [])], load)
    settings = {"length": length, "batch_rows": batch_rows, "threads": used, "runtime": _runtime()}
    _print(figures, settings, about_machine, console)
    if out:
        whole_files.write_json(out, {"machine": about_machine, "settings": settings, "rows": figures})
    return figures


def _shapes(only: tuple[str, ...]) -> dict[str, Model]:
    """The presets by name, each family from its smallest on; not ALBERT's version 1, which differs in dropout only."""
    known = {name.lower(): value for name, value in vars(presets).items() if isinstance(value, Model)}
    known = {name: value for name, value in known.items() if not name.endswith("_v1")}
    for name in only:
        if name not in known:
            raise UserError(f"bench: --only {name}: no such shape; {fields_close_to(name, list(known))}")
    chosen = [name for name in known if name == BASE or not only or name in only]
    families = list(dict.fromkeys(name.split("_")[0] for name in known))
    size = {name: flops.parameters(known[name])["total"] for name in chosen}
    chosen.sort(key=lambda name: (families.index(name.split("_")[0]), size[name]))
    return {name: known[name] for name in chosen}


# --- By formula ------------------------------------------------------------------------------------------------------


def by_formula(name: str, model: Model, length: int, batch_rows: int) -> Row:
    """The row of a shape, without times.

    Storage and answers count the encoder and its pooler, if it has one; training counts the pretraining heads too.
    `exchanged_bytes` is the float32 gradient, which devices that share a batch exchange at every step.
    """
    config = training_config(model, length, batch_rows)
    memory = flops.step_memory_bytes(config, compute="float32")
    count = flops.parameters(model)
    without_pairs = dataclasses.replace(model, pair_classes=0)
    return {
        "name": name,
        "parameters": count["encoder"] + count["pooler"],
        "float32_bytes": 4 * (count["encoder"] + count["pooler"]),
        "int8_bytes": int8_bytes(model),
        "flops": flops.forward_flops_per_row(without_pairs, length, 0, int(model.pooler)),
        "exchanged_bytes": 4 * count["total"],
        "optimiser_bytes": memory["optimiser"],
        "step_bytes": memory["total"],
        "answer_seconds": None,
        "step_seconds": None,
    }


def int8_bytes(model: Model) -> int:
    """Bytes of the encoder and pooler as `convert/weights/quantized.py` stores them: a scale for each output or row."""
    total = 0
    for path, shape in parameters.shapes(model).items():
        if path.split("/")[0] in ("mlm", "pair"):
            continue
        if path.endswith(("/kernel", "/embedding")):
            axis = -1 if path.endswith("/embedding") else -2
            total += math.prod(shape) + 4 * math.prod(shape) // shape[axis]
        else:
            total += 4 * math.prod(shape)
    return total


def training_config(model: Model, length: int, batch_rows: int) -> Pretrain:
    """Pretraining with one window per row, and with the pair task if the model has a head for it."""
    data = Data(length=length, batch_rows=batch_rows, pack=False, pair_task="sop" if model.pair_classes else "none")
    return Pretrain(model=model, data=data, optim=Optim(name="adamw", warmup_steps=0), run=Run(steps=1000))


def ratios(row: Row, base: Row) -> dict[str, float | None]:
    """How many times as good as the base each figure is: smaller, less memory, faster; None where one is missing."""
    return {name: base[name] / row[name] if base[name] and row[name] else None for name in row if name != "name"}


# --- Measured --------------------------------------------------------------------------------------------------------


def measure_within(
    seconds: float,
    shapes: dict[str, Model],
    rows: dict[str, Row],
    figure: str,
    measure: Callable[[Model], float],
    console: Console,
) -> None:
    """Measures BERT-base, then the shapes of `HEADLINE`, then the others, smaller FLOPs first, while the time lasts.

    Args:
      seconds: time limit.
      shapes: models by name.
      rows: takes the measured values, under the name `figure`.
      figure: "answer_seconds" or "step_seconds".
      measure: seconds of one answer or step of a model.
      console: for a line per shape.
    """
    end = time.perf_counter() + seconds
    base_took = 0.0  # Seconds that it took to measure BERT-base.
    for name in sorted(shapes, key=lambda name: (name != BASE, name not in HEADLINE, rows[name]["flops"])):
        relative_flops = rows[name]["flops"] / rows[BASE]["flops"]
        relative_size = rows[name]["float32_bytes"] / rows[BASE]["float32_bytes"]
        predicted = base_took * max(relative_flops, relative_size)
        if name != BASE and time.perf_counter() + predicted > end:
            console.print(f"bench: {name} is not timed: it would take about {predicted:.0f} s; see --seconds")
            continue
        console.print(f"bench: timing {name}")
        began = time.perf_counter()
        rows[name][figure] = measure(shapes[name])
        if name == BASE:
            base_took = time.perf_counter() - began


def _runtime() -> str:
    installed = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
    return "onnxruntime" if installed else "jax"


def _answer_seconds(model: Model, length: int, threads: int) -> float:
    """The fastest of several answers to one row, by a classifier with random weights."""
    weights = sample_rows.random_weights(model)
    rows = sample_rows.make_rows(weights, length, 1)
    name = "onnx-f32" if _runtime() == "onnxruntime" else "jax-f32"
    (runtime,), _ = catalogue.choose((name,))
    with tempfile.TemporaryDirectory(prefix="bertlite-bench-") as scratch:
        _, load = runtime.prepare(weights, pathlib.Path(scratch), [])
        with process.start(name, load, threads) as started:
            batch = sample_rows.batches_of(weights, rows, 1)
            started.run(batch)
            return min(started.run(batch * (CALLS - 1), seconds=turns.TURN_SECONDS).seconds)


def _step_seconds(model: Model, length: int, batch_rows: int) -> float:
    """The fastest of several training steps, as `bertlite pretrain` compiles them."""
    import jax

    from bertlite_jax.jobs.pretraining.step import make_pretraining
    from bertlite_jax.model.ops import choose_precision
    from bertlite_jax.train import sharding, state

    config = training_config(model, length, batch_rows)
    mesh = sharding.make_mesh(1)
    compute = choose_precision.resolve("auto", jax.default_backend())
    pretraining = make_pretraining(config, compute, mesh, SPECIAL_IDS)
    train_state = state.init_state(pretraining.init_params, pretraining.optimizer, config.run.seed, pretraining.layout)
    batch = sharding.put_batch(random_batch(config), mesh)
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        train_state, metrics = pretraining.step(train_state, batch)
        loss = float(metrics["loss"])
        times.append(time.perf_counter() - began)
        if not math.isfinite(loss):
            raise RuntimeError(f"bench: the loss is {loss}, so the times would mean nothing")
    return min(times[1:])


def random_batch(config: Pretrain) -> dict[str, np.ndarray]:
    """A batch as `data/rows/batches.py` makes it, of random tokens: each row is one full window, cut in the middle."""
    rows, length = config.data.batch_rows, config.data.length
    generator = np.random.default_rng(0)
    batch = batches.empty_batch(rows, length, windows=1)
    batch["rows"][:] = np.arange(rows)
    batch["tokens"][:] = generator.integers(5, config.model.vocab_size, (rows, length), np.int32)
    batch["tokens"][:, 0], batch["tokens"][:, [length // 2, -1]] = 2, 3
    batch["positions"][:] = np.arange(length)
    batch["token_types"][:, length // 2 + 1 :] = 1
    batch["pair_labels"][:] = generator.integers(0, 2, (rows, 1), np.int32)
    for name in ("segments", "word_starts", "pair_weights"):
        batch[name][:] = 1
    return batch


# --- Report ----------------------------------------------------------------------------------------------------------


def _print(rows: list[Row], settings: dict[str, Any], about_machine: dict[str, Any], console: Console) -> None:
    length, batch_rows = settings["length"], settings["batch_rows"]
    title = f"The family at {length} tokens, training steps of {batch_rows} rows"
    figures = _table(title, ("M", "f32", "int8", "GFLOP", "exchanged", "optimiser", "step", "answer", "train"))
    for row in rows:
        sizes = (f"{row[name] / 1e6:,.1f}" for name in ("parameters", "float32_bytes", "int8_bytes"))
        steps = (f"{row[name] / 1e6:,.0f}" for name in ("exchanged_bytes", "optimiser_bytes", "step_bytes"))
        times = (_milliseconds(row[name]) for name in ("answer_seconds", "step_seconds"))
        figures.add_row(row["name"], *sizes, f"{row['flops'] / 1e9:,.2f}", *steps, *times)
    console.print(figures)
    compared = {
        "size": "float32_bytes",
        "GFLOP": "flops",
        "exchanged": "exchanged_bytes",
        "step": "step_bytes",
        "answer": "answer_seconds",
        "train": "step_seconds",
    }
    better = _table(f"How many times as good as {BASE}: smaller, less, faster", tuple(compared))
    for row in rows:
        better.add_row(row["name"], *(_times(row["ratios"][name]) for name in compared.values()))
    console.print(better)
    console.print(
        "M: millions of parameters in encoder and pooler; f32, int8: MB on disk; GFLOP: to answer one row; exchanged: "
        "MB of gradient that devices exchange in a step; optimiser: MB of both moments; step: MB of memory for a "
        "training step in float32 with the shape's own dropout, by formula; answer: ms at batch 1 in "
        f"{settings['runtime']} float32, threads: {settings['threads']}, fastest call; train: ms in JAX, "
        f"fastest step.\n{machine_line(about_machine)}\n"
    )
    for row in rows:
        if row["name"] in HEADLINE:
            console.print(conclusion(row))


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("shape", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def conclusion(row: Row) -> str:
    """One sentence on a shape beside BERT-base, from its ratios."""
    better = row["ratios"]
    measured = better["answer_seconds"] is not None
    speed = better["answer_seconds"] if measured else better["flops"]
    origin = "measured" if measured else "by its FLOPs"
    return (
        f"{row['name']}: {_than(better['parameters'], 'smaller', 'larger')}, "
        f"{_than(better['step_bytes'], 'less', 'more')} memory and "
        f"{_than(better['exchanged_bytes'], 'less', 'more')} communication in a training step, "
        f"and answers {_than(speed, 'faster', 'slower', 'no faster')} ({origin})."
    )


def _than(ratio: float, better: str, worse: str, same: str = "as much") -> str:
    """`9.4x smaller`, `2.1x larger`, or `same` if they differ by little."""
    if ratio > SAME:
        return f"{_times(ratio)} {better}"
    return f"{_times(1 / ratio)} {worse}" if ratio < 1 / SAME else same


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:,.0f}" if seconds >= 0.1 else f"{1000 * seconds:.1f}"
