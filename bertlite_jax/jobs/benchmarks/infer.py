"""`bertlite bench infer`: how fast a model answers on this CPU, in which runtime and arithmetic, and how large it is.

Every contender has a process of its own. One works at a time, and they take turns, so that a machine that is busy for a
while is busy for all. Rows are as long as they are said to be, without padding. The first call of each shape is not
counted. Ratios and throughput are those of the fastest call, because other programs can only slow a call down.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import math
import os
import pathlib
import tempfile
from typing import Any

import numpy as np
from rich.console import Console

from bertlite_jax.config.model import Model
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, whole_files
from bertlite_jax.jobs.benchmarks import machine, runtime_process, runtimes, sample_rows
from bertlite_jax.jobs.benchmarks.runtime_process import Batch, Load, Process
from bertlite_jax.jobs.benchmarks.runtimes import Contender
from bertlite_jax.report.benchmarks import inference

ROWS = 16
"""Different rows of each length, over which answers are compared; at least a batch."""
CALIBRATION = 16
"""Further rows, of the first length, on which the ranges of static INT8 are measured."""
HOPELESS = 5.0
"""Who takes so many times as long as the first contender gets no further turns."""
TRIALS = 3
"""Calls after which that is decided: other programs may have slowed one down."""
TURN_SECONDS = 0.3
"""A turn goes on for so long, and has at least one call."""
FILE = "inference.json"
"""Where a run's work directory keeps the figures; `bertlite report` shows them."""


@dataclasses.dataclass
class Timed:
    """One contender on one shape."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    answers: list[np.ndarray] = dataclasses.field(default_factory=list)
    dropped: bool = False


Shape = tuple[int, int, int]
"""Threads, tokens in a row, rows in a batch."""


@dataclasses.dataclass
class Entry:
    """A contender, what it needs, and what was measured."""

    contender: Contender
    load: Load
    file_bytes: int
    timed: dict[Shape, Timed] = dataclasses.field(default_factory=dict)
    process: Process | None = None
    loaded_bytes: int = 0
    peak_bytes: int = 0
    load_seconds: float = math.inf

    @property
    def running(self) -> Process:
        assert self.process
        return self.process


def bench_infer(
    source: str = "",
    /,
    *,
    preset: str = "",
    batch: tuple[int, ...] = (1, 8),
    length: tuple[int, ...] = (),
    threads: tuple[int, ...] = (1, 0),
    rounds: int = 5,
    only: tuple[str, ...] = (),
    out: str = "",
    html: str = "",
) -> dict[str, Any]:
    """Times how fast a model answers: PyTorch, ONNX Runtime, OpenVINO and JAX, in float32, bfloat16 and INT8.

    The default takes minutes for BERT-base; --batch 1 8 32 --length 32 128 512 takes an hour.

    Args:
      source: A run's work directory, a folder of transformers, or one that tools/convert.py wrote.
      preset: Instead of it, a shape with random weights and a two-label classifier: bert_base (the default),
        albert_base, distilbert, bort, bert_tiny...
      batch: Rows in a batch.
      length: Tokens in a row; none: 128, or as many as the model has positions.
      threads: Cores that a contender may use; 0: all.
      rounds: Turns that each contender gets.
      only: Names of contenders: torch-f32, torch-bf16, onnx-f32, onnx-int8-tensor, onnx-int8-token, onnx-int8-static,
        onnx-int8-stock, openvino, openvino-int8, jax-f32, jax-auto, jax-int8.
      out: File for the figures as JSON.
      html: File for a page with tables and plots.

    Returns:
      {"model", "task", "random_weights", "machine", "settings", "skipped", "contenders": [{"name", "about", "bytes",
      "loaded_bytes", "peak_bytes", "load_seconds", "largest_difference", "top1_agreement", "rows_compared"}], "shapes":
      [{"batch", "length", "threads", "figures": [{"name", "calls", "seconds_min", "seconds_p50", "seconds_p95",
      "sequences_per_second", "ratio", "dropped"}]}]}. `ratio`: how many times as fast as the first contender.

    Raises:
      UserError: a source that cannot be read, a setting out of range, or a process that the system ended.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100
    load, available = os.getloadavg()[0], cpu.cores()
    counts = tuple(dict.fromkeys(count or available for count in threads))
    weights, name, is_random = _weights(source, preset, console)
    length = length or (min(128, weights.model.max_positions),)
    _check(weights.model, batch, length, counts, rounds, available)
    check_place("out", out)
    check_place("html", html)
    chosen, skipped = _choose(only, runtimes.task_of(weights))
    for line in skipped:
        console.print(f"bench: {line}", soft_wrap=True)
    if not chosen:
        raise UserError("bench: no contender is left")
    most = max(ROWS, *batch)
    rows = {size: sample_rows.make_rows(weights, size, most + CALIBRATION) for size in length}
    shapes = [(count, size, number) for count in counts for size in length for number in batch]
    with tempfile.TemporaryDirectory(prefix="bertlite-bench-") as scratch:
        texts = sample_rows.batches_of(weights, rows[length[0]][most:], 1)
        entries = _prepare(weights, chosen, pathlib.Path(scratch), texts, console)
        groups = _groups(entries, console)
        for count in counts:
            for group in groups:
                with contextlib.ExitStack() as stack:
                    _start(group, count, stack, console)
                    for shape in [shape for shape in shapes if shape[0] == count]:
                        batches = sample_rows.batches_of(weights, rows[shape[1]][:most], shape[2])
                        _race(group, shape, batches, rounds, entries[0])
                        console.print(f"bench: {shape[2]} x {shape[1]}, {_plural(count, 'thread')}: done")
                    _note_memory(group)
    task = runtimes.task_of(weights)
    figures = {
        "model": name,
        "task": task,
        "random_weights": is_random,
        "machine": machine.describe(["jax", *(name for contender in chosen for name in contender.packages)], load),
        "settings": {"rounds": rounds, "threads": list(counts), "text": weights.tokenizer is not None},
        "skipped": skipped,
        "contenders": [_about(entry, entries[0], task) for entry in entries],
        "shapes": [_shape(entries, shape) for shape in shapes],
    }
    inference.print_tables(figures, console)
    _store(figures, source, out, html, console)
    return figures


# --- The model -------------------------------------------------------------------------------------------------------


def _weights(source: str, preset: str, console: Console) -> tuple[Weights, str, bool]:
    """The model, its name, and whether its weights are random."""
    if source and preset:
        raise UserError(f"bench: a folder ({source}) and --preset {preset}: give one of them")
    if source:
        return sources.load(source), pathlib.Path(source).resolve().name, False
    model = sample_rows.known_preset(preset or "bert_base")
    console.print("bench: random weights: speed and size only; how far answers differ says little", soft_wrap=True)
    return sample_rows.random_weights(model), preset or "bert_base", True


# --- Checks ----------------------------------------------------------------------------------------------------------


def _check(
    model: Model, batch: tuple[int, ...], length: tuple[int, ...], counts: tuple[int, ...], rounds: int, available: int
) -> None:
    for name, values in (("batch", batch), ("length", length), ("threads", counts), ("rounds", (rounds,))):
        if not values or min(values) < 1:
            raise UserError(f"bench: --{name} {' '.join(map(str, values))} must be positive")
    if min(length) < 3 or max(length) > model.max_positions:
        raise UserError(f"bench: --length must lie between 3 and the model's {model.max_positions} positions")
    if max(counts) > available:
        raise UserError(
            f"bench: --threads {max(counts)} is more than the {available} cores that there are; 0 means all"
        )


def check_place(option: str, path: str) -> None:
    """Raises UserError before the work where the file could not be written after it."""
    if path and not pathlib.Path(path).resolve().parent.is_dir():
        raise UserError(f"bench: --{option} {path}: its folder does not exist; name one that does")
    if option == "html" and path and importlib.util.find_spec("matplotlib") is None:
        raise UserError("bench: --html needs matplotlib; pip install 'bertlite_jax[report]'")


def _choose(only: tuple[str, ...], task: runtimes.Task) -> tuple[list[Contender], list[str]]:
    from bertlite_jax.model.ops import choose_precision

    return runtimes.choose(only, choose_precision.resolve("auto", "cpu") == "float32", task)


# --- Turns -----------------------------------------------------------------------------------------------------------


def _prepare(
    weights: Weights, chosen: list[Contender], scratch: pathlib.Path, texts: list[Batch], console: Console
) -> list[Entry]:
    """Writes everybody's files."""
    entries = []
    for contender in chosen:
        console.print(f"bench: writing {contender.name}")
        place, load = contender.prepare(weights, scratch, texts)
        entries.append(Entry(contender, load, place.stat().st_size))
    return entries


def _groups(entries: list[Entry], console: Console) -> list[list[Entry]]:
    """Who is loaded together: all, or each alone where the free memory may not hold all.

    A contender takes its libraries and about twice its file.
    """
    place = pathlib.Path("/proc/meminfo")
    if not place.is_file():
        return [entries]
    lines = dict(line.split(":", 1) for line in place.read_text(encoding="utf-8").splitlines() if ":" in line)
    free = int(lines["MemAvailable"].split()[0]) * 1024
    needed = sum(400_000_000 + 2 * entry.file_bytes for entry in entries)
    if needed < free:
        return [entries]
    console.print(
        f"bench: {free / 1e9:.1f} GB of memory are free and all contenders together need about {needed / 1e9:.1f}: "
        "each runs alone, so that a machine that is busy for a while is not busy for all",
        soft_wrap=True,
    )
    return [[entry] for entry in entries]


def _start(group: list[Entry], threads: int, stack: contextlib.ExitStack, console: Console) -> None:
    names = ", ".join(entry.contender.name for entry in group)
    console.print(f"bench: loading, {_plural(threads, 'thread')} each: {names}", soft_wrap=True)
    for entry in group:
        entry.process = stack.enter_context(runtime_process.start(entry.contender.name, entry.load, threads))


def _race(group: list[Entry], shape: Shape, batches: list[Batch], rounds: int, first: Entry) -> None:
    """A group on the batches of one shape: one answer to each, then turns.

    Who is hopeless on this machine, as bfloat16 is without instructions for it, gets only its trials.
    """
    for entry in group:
        timed = entry.timed[shape] = Timed()
        timed.answers = entry.running.run(batches[:1], keep=True).answers  # compiles, allocates
        for _ in range(TRIALS):
            timed.seconds += entry.running.run(batches[:1]).seconds
            timed.dropped = min(timed.seconds) > HOPELESS * min(first.timed[shape].seconds)
            if not timed.dropped:
                break
    going = [entry for entry in group if not entry.timed[shape].dropped]
    for entry in going:
        if batches[1:]:
            turn = entry.running.run(batches[1:], keep=True)
            entry.timed[shape].answers += turn.answers
            entry.timed[shape].seconds += turn.seconds
    for _ in range(rounds):
        for entry in going:
            entry.timed[shape].seconds += entry.running.run(batches[:1], seconds=TURN_SECONDS).seconds


def _note_memory(group: list[Entry]) -> None:
    """What the processes have held, before they end."""
    for entry in group:
        entry.loaded_bytes = max(entry.loaded_bytes, entry.running.loaded_bytes)
        entry.peak_bytes = max(entry.peak_bytes, entry.running.run([]).peak_bytes)
        entry.load_seconds = min(entry.load_seconds, entry.running.load_seconds)


# --- Figures ---------------------------------------------------------------------------------------------------------


def _about(entry: Entry, first: Entry, task: str) -> dict[str, Any]:
    """Size, memory and agreement of a contender, over all shapes and numbers of threads."""
    return {
        "name": entry.contender.name,
        "about": entry.contender.about,
        "bytes": entry.file_bytes,
        "loaded_bytes": entry.loaded_bytes,
        "peak_bytes": entry.peak_bytes,
        "load_seconds": entry.load_seconds,
        **agreement(list(first.timed.values()), list(entry.timed.values()), task),
    }


def agreement(right: list[Timed], other: list[Timed], task: str) -> dict[str, Any]:
    """How far a contender's answers are from the first one's, over the batches that both answered.

    Returns:
      `largest_difference` over all numbers, None where one is not finite; `top1_agreement`: share of the answers
      (texts, or tokens for tags and masked words, or ends of spans) whose largest logit stands at the same place, None
      for states and single numbers; `rows_compared`.
    """
    pairs = [pair for a, b in zip(right, other, strict=True) for pair in zip(a.answers, b.answers, strict=True)]
    same, rows, furthest = [], 0, 0.0
    for wanted, given in pairs:
        if wanted.shape != given.shape:
            raise RuntimeError(f"bench: a contender answers with {given.shape} where the first has {wanted.shape}")
        furthest = float(np.fmax(furthest, np.abs(wanted - given).max())) if np.isfinite(given).all() else math.inf
        same.append(np.ravel(wanted.argmax(-1) == given.argmax(-1)))
        rows += len(wanted)
    ranked = task != "states" and pairs and pairs[0][0].shape[-1] > 1
    return {
        "largest_difference": furthest if math.isfinite(furthest) else None,
        "top1_agreement": float(np.mean(np.concatenate(same))) if ranked else None,
        "rows_compared": rows,
    }


def _shape(entries: list[Entry], shape: Shape) -> dict[str, Any]:
    threads, length, number = shape
    base = min(entries[0].timed[shape].seconds)
    figures = []
    for entry in entries:
        timed = entry.timed[shape]
        best = min(timed.seconds)
        figures.append(
            {
                "name": entry.contender.name,
                "calls": len(timed.seconds),
                "seconds_min": best,
                "seconds_p50": float(np.percentile(timed.seconds, 50)),
                "seconds_p95": float(np.percentile(timed.seconds, 95)),
                "sequences_per_second": number / best,
                "ratio": base / best,
                "dropped": timed.dropped,
            }
        )
    return {"batch": number, "length": length, "threads": threads, "figures": figures}


def _store(figures: dict[str, Any], source: str, out: str, html: str, console: Console) -> None:
    if out:
        whole_files.write_json(out, figures)
    if source and (pathlib.Path(source) / "checkpoints").is_dir():
        whole_files.write_json(pathlib.Path(source) / FILE, figures)
        console.print(f"bench: wrote {pathlib.Path(source) / FILE}; bertlite report {source} shows it", soft_wrap=True)
    if html:
        whole_files.write_text(html, inference.render(figures))
        console.print(f"bench: wrote {html}", soft_wrap=True)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
