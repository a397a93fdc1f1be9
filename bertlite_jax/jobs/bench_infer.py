"""`bertlite bench infer`: how fast a model answers on this CPU, in which runtime and arithmetic, and how large it is.

Every contender has a process of its own. One works at a time, and they take turns, so that a machine that is busy for a
while is busy for all. Rows are as long as they are said to be, without padding. The first call of each shape is not
counted. Ratios and throughput are those of the fastest call, because other programs can only slow a call down.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import math
import os
import pathlib
import tempfile
from typing import Any

import numpy as np
from rich.console import Console

from bertlite_jax.config import Model, UserError
from bertlite_jax.convert import parameters, sources
from bertlite_jax.convert.weights import Weights
from bertlite_jax.jobs import contenders, inference_peer, inference_rows, workdir
from bertlite_jax.jobs.contenders import Contender
from bertlite_jax.jobs.inference_peer import Batch, Process
from bertlite_jax.report import inference as tables

ROWS = 16
"""Different rows of each length, over which answers are compared; at least a batch."""
CALIBRATION = 16
"""Further rows, of the first length, on which the ranges of static INT8 are measured."""
HOPELESS = 5.0
"""Who takes so many times as long as the first contender gets no further turns."""
TURN_SECONDS = 0.3
"""A turn goes on for so long, and has at least one call."""
FILE = "inference.json"
"""Where a run's work directory keeps the figures; `bertlite report` shows them."""
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm")


@dataclasses.dataclass
class Timed:
    """One contender on one shape."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    answers: list[np.ndarray] = dataclasses.field(default_factory=list)
    dropped: bool = False


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
      UserError: a source that cannot be read, a setting out of range, too little memory or disk space.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100
    available = cores()
    counts = tuple(dict.fromkeys(count or available for count in threads))
    weights, name, is_random = _weights(source, preset, console)
    length = length or (min(128, weights.model.max_positions),)
    _check(weights.model, batch, length, counts, rounds, available)
    chosen, skipped = _choose(only, contenders.task_of(weights))
    for line in skipped:
        console.print(f"bench: {line}", soft_wrap=True)
    if not chosen:
        raise UserError("bench: no contender is left")
    _check_memory(weights, chosen)
    most = max(ROWS, *batch)
    rows = {size: inference_rows.make_rows(weights, size, most + CALIBRATION) for size in length}
    shapes = [(count, size, number) for count in counts for size in length for number in batch]
    timed: dict[tuple[int, int, int], list[Timed]] = {}
    with tempfile.TemporaryDirectory(prefix="bertlite-bench-") as scratch:
        texts = inference_rows.batches_of(weights, rows[length[0]][most:], 1)
        prepared = _prepare(weights, chosen, pathlib.Path(scratch), texts, console)
        kept: list[dict[str, Any]] = []
        for count in counts:
            with contextlib.ExitStack() as stack:
                processes = _start(chosen, prepared, count, stack, console)
                for shape in [shape for shape in shapes if shape[0] == count]:
                    timed[shape] = _race(
                        chosen, processes, inference_rows.batches_of(weights, rows[shape[1]][:most], shape[2]), rounds
                    )
                    console.print(f"bench: {shape[2]} x {shape[1]}, {_plural(count, 'thread')}: done")
                kept.append(_held(processes))
        sizes = [_bytes_of(place) for place, _ in prepared]
    task = contenders.task_of(weights)
    figures = {
        "model": name,
        "task": task,
        "random_weights": is_random,
        "machine": machine([package for contender in chosen for package in contender.packages]),
        "settings": {"rounds": rounds, "threads": list(counts), "text": weights.tokenizer is not None},
        "skipped": skipped,
        "contenders": _about(chosen, sizes, kept, list(timed.values()), task),
        "shapes": [_shape(chosen, shape, timed[shape]) for shape in shapes],
    }
    tables.print_tables(figures, console)
    _store(figures, source, out, html, console)
    return figures


# --- The model -------------------------------------------------------------------------------------------------------


def _weights(source: str, preset: str, console: Console) -> tuple[Weights, str, bool]:
    """The model, its name, and whether its weights are random."""
    if source and preset:
        raise UserError(f"bench: a folder ({source}) and --preset {preset}: give one of them")
    if source:
        return sources.load(source), pathlib.Path(source).resolve().name, False
    model = inference_rows.known_preset(preset or "bert_base")
    console.print("bench: random weights: speed and size only; how far answers differ says little", soft_wrap=True)
    return inference_rows.random_weights(model), preset or "bert_base", True


# --- Checks ----------------------------------------------------------------------------------------------------------


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def _choose(only: tuple[str, ...], task: contenders.Task) -> tuple[list[Contender], list[str]]:
    from bertlite_jax.model import precision

    return contenders.choose(only, precision.resolve("auto", "cpu") == "float32", task)


def _check_memory(weights: Weights, chosen: list[Contender]) -> None:
    """All contenders are loaded at once; each takes about half a gigabyte and twice the float32 parameters."""
    place = pathlib.Path("/proc/meminfo")
    if not place.is_file():
        return
    lines = dict(line.split(":", 1) for line in place.read_text(encoding="utf-8").splitlines() if ":" in line)
    free = int(lines["MemAvailable"].split()[0]) * 1024
    model = sum(value.nbytes for value in parameters.flatten(weights.params).values())
    needed = len(chosen) * (500_000_000 + 2 * model)
    if needed > free:
        raise UserError(
            f"bench: {len(chosen)} contenders of {model / 1e6:,.0f} MB need about {needed / 1e9:.1f} GB of memory and "
            f"{free / 1e9:.1f} GB are free; choose fewer with --only"
        )


# --- Turns -----------------------------------------------------------------------------------------------------------


def _prepare(
    weights: Weights, chosen: list[Contender], scratch: pathlib.Path, texts: list[Batch], console: Console
) -> list[tuple[pathlib.Path, inference_peer.Load]]:
    prepared = []
    for contender in chosen:
        console.print(f"bench: writing {contender.name}")
        prepared.append(contender.prepare(weights, scratch, texts))
    return prepared


def _start(
    chosen: list[Contender],
    prepared: list[tuple[pathlib.Path, inference_peer.Load]],
    threads: int,
    stack: contextlib.ExitStack,
    console: Console,
) -> list[Process]:
    console.print(f"bench: loading {_plural(len(chosen), 'contender')}, {_plural(threads, 'thread')} each")
    return [
        stack.enter_context(inference_peer.start(contender.name, load, threads))
        for contender, (_, load) in zip(chosen, prepared)
    ]


def _race(chosen: list[Contender], processes: list[Process], batches: list[Batch], rounds: int) -> list[Timed]:
    """All contenders on the batches of one shape: one answer to each, then turns.

    Who is hopeless on this machine, as bfloat16 is without AMX, gets only the first two calls.
    """
    timed = [Timed() for _ in chosen]
    for entry, process in zip(timed, processes):
        entry.answers = process.run(batches[:1], keep=True).answers  # compiles, allocates
        entry.seconds += process.run(batches[:1]).seconds
        entry.dropped = min(entry.seconds) > HOPELESS * min(timed[0].seconds)
    going = [(entry, process) for entry, process in zip(timed, processes) if not entry.dropped]
    for entry, process in going:
        if batches[1:]:
            turn = process.run(batches[1:], keep=True)
            entry.answers += turn.answers
            entry.seconds += turn.seconds
    for _ in range(rounds):
        for entry, process in going:
            entry.seconds += process.run(batches[:1], seconds=TURN_SECONDS).seconds
    return timed


def _held(processes: list[Process]) -> dict[str, Any]:
    """What the processes held in memory, and how long they took to load."""
    return {
        "loaded_bytes": [process.loaded_bytes for process in processes],
        "peak_bytes": [process.run([]).peak_bytes for process in processes],
        "load_seconds": [process.load_seconds for process in processes],
    }


# --- Figures ---------------------------------------------------------------------------------------------------------


def _bytes_of(place: pathlib.Path) -> int:
    return place.stat().st_size


def _about(
    chosen: list[Contender], sizes: list[int], held: list[dict[str, Any]], timed: list[list[Timed]], task: str
) -> list[dict[str, Any]]:
    """Size, memory and agreement of each contender, over all shapes and numbers of threads."""
    return [
        {
            "name": contender.name,
            "about": contender.about,
            "bytes": sizes[i],
            **{name: max(part[name][i] for part in held) for name in ("loaded_bytes", "peak_bytes")},
            "load_seconds": min(part["load_seconds"][i] for part in held),
            **agreement([entries[0] for entries in timed], [entries[i] for entries in timed], task),
        }
        for i, contender in enumerate(chosen)
    ]


def agreement(right: list[Timed], other: list[Timed], task: str) -> dict[str, Any]:
    """How far a contender's answers are from the first one's, over the batches that both answered.

    Returns:
      `largest_difference` over all numbers, None where one is not finite; `top1_agreement`: share of the answers
      (texts, or tokens for tags and masked words, or ends of spans) whose largest logit stands at the same place, None
      for states and single numbers; `rows_compared`.
    """
    pairs = [pair for a, b in zip(right, other) for pair in zip(a.answers, b.answers)]
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


def _shape(chosen: list[Contender], shape: tuple[int, int, int], timed: list[Timed]) -> dict[str, Any]:
    threads, length, number = shape
    return {
        "batch": number,
        "length": length,
        "threads": threads,
        "figures": [
            {
                "name": contender.name,
                "calls": len(entry.seconds),
                "seconds_min": min(entry.seconds),
                "seconds_p50": float(np.percentile(entry.seconds, 50)),
                "seconds_p95": float(np.percentile(entry.seconds, 95)),
                "sequences_per_second": number / min(entry.seconds),
                "ratio": min(timed[0].seconds) / min(entry.seconds),
                "dropped": entry.dropped,
            }
            for contender, entry in zip(chosen, timed)
        ],
    }


def machine(packages: list[str]) -> dict[str, Any]:
    """The CPU, its instruction sets that matter to these products, cores, load, versions."""
    from bertlite_jax.model import precision

    about = workdir.environment()
    names = ["jax", *dict.fromkeys(packages)]
    return {
        "cpu": about["cpu"],
        "cores": about["cores"],
        "flags": [flag for flag in _FLAGS if flag in precision.cpu_flags()],
        "load": os.getloadavg()[0],
        "python": about["python"],
        "packages": {name: importlib.metadata.version(name) for name in names},
    }


def _store(figures: dict[str, Any], source: str, out: str, html: str, console: Console) -> None:
    if out:
        workdir.write_json(out, figures)
    if source and (pathlib.Path(source) / "checkpoints").is_dir():
        workdir.write_json(pathlib.Path(source) / FILE, figures)
        console.print(f"bench: wrote {pathlib.Path(source) / FILE}; bertlite report {source} shows it", soft_wrap=True)
    if html:
        pathlib.Path(html).write_text(tables.render(figures), encoding="utf-8")
        console.print(f"bench: wrote {html}", soft_wrap=True)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
