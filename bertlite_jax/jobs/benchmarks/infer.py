"""`bertlite bench infer`: how fast a model answers on this CPU, in which runtime and arithmetic, and how large it is.

Runtimes take turns (`runtimes/turns.py`). Ratios and throughput are those of the fastest call, because other programs
can only slow a call down.
"""

from __future__ import annotations

import math
import os
import pathlib
import shlex
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from bertlite_jax.config.model import Model
from bertlite_jax.convert import sources
from bertlite_jax.convert.weights import quantized
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu, whole_files
from bertlite_jax.jobs.benchmarks import machine, output, sample_rows
from bertlite_jax.jobs.benchmarks.runtimes import catalogue, turns
from bertlite_jax.jobs.benchmarks.runtimes.runtime import Runtime, Task, task_of
from bertlite_jax.jobs.benchmarks.runtimes.turns import Entry, Shape, Timed
from bertlite_jax.report import terminal
from bertlite_jax.report.benchmarks import inference

FILE = "inference.json"
"""File with the figures in a run's work directory; `bertlite report` shows them."""
_ONLY = (
    "Runtimes to time, by default all; missing packages are skipped. Names: "
    f"{', '.join(runtime.name for runtime in catalogue.ALL)}."
)
"""Help of `--only`."""


def bench_infer(
    source: Annotated[str, tyro.conf.arg(metavar="[RUN|FOLDER]")] = "",
    /,
    *,
    preset: str = "",
    batch: tuple[int, ...] = (1, 8),
    length: tuple[int, ...] = (),
    threads: tuple[int, ...] = (1, 0),
    rounds: int = 5,
    only: Annotated[tuple[str, ...], tyro.conf.arg(help=_ONLY)] = (),
    out: str = "",
    html: str = "",
) -> dict[str, Any]:
    """Times how fast a model answers: PyTorch, ONNX Runtime, OpenVINO and JAX, in float32, bfloat16 and INT8.

    The default takes minutes for BERT-base; --batch 1 8 32 --length 32 128 512 takes an hour.

    Args:
      source: Work directory of a run, folder of transformers, or folder that `bertlite convert` wrote.
      preset: Instead of a source, a shape with random weights and a two-label classifier: bert_base (the default),
        albert_base, distilbert, bort, bert_tiny...
      batch: Batch sizes, in rows.
      length: Row lengths, in tokens; by default 128, or the model's positions if they are fewer.
      threads: Numbers of cores that a runtime may use; 0: all.
      rounds: Turns of each runtime for each shape.
      only: Names of the runtimes to time; empty: all in `catalogue.ALL` whose packages are installed.
      out: JSON file for the figures.
      html: HTML file for a page with tables and plots.

    Returns:
      {"model", "task", "random_weights", "machine", "settings", "skipped", "contenders": [{"name", "about", "bytes",
      "loaded_bytes", "peak_bytes", "load_seconds", "largest_difference", "top1_agreement", "rows_compared"}], "shapes":
      [{"batch", "length", "threads", "figures": [{"name", "calls", "seconds_min", "seconds_p50", "seconds_p95",
      "sequences_per_second", "ratio", "dropped"}]}]}. `ratio`: speed over that of the first runtime.

    Raises:
      UserError: the source cannot be read, a setting is out of range, or the system ended a process.
    """
    console = terminal.open_console()
    load, available = os.getloadavg()[0], cpu.cores()
    counts = tuple(dict.fromkeys(count or available for count in threads))
    weights, name, is_random = _load_weights(source, preset, console)
    length = length or (min(128, weights.model.max_positions),)
    _check(weights.model, batch, length, counts, rounds, available)
    output.check_file("out", out)
    output.check_file("html", html)
    task = task_of(weights)
    chosen, skipped = _choose(only, task)
    for line in skipped:
        console.print(f"bench: {line}", soft_wrap=True)
    if not chosen:
        raise UserError("bench: no runtime is left to time")
    shapes = [(count, size, number) for count in counts for size in length for number in batch]
    entries = turns.time_runtimes(weights, chosen, shapes, rounds, console)
    figures = {
        "model": name,
        "task": task,
        "random_weights": is_random,
        "machine": machine.describe(["jax", *(name for runtime in chosen for name in runtime.packages)], load),
        "settings": {"rounds": rounds, "threads": list(counts), "text": weights.tokenizer is not None},
        "skipped": skipped,
        "contenders": [_entry_figures(entry, entries[0], task) for entry in entries],
        "shapes": [_shape_figures(entries, shape) for shape in shapes],
    }
    inference.print_tables(figures, console)
    _store(figures, source, out, html, console)
    return figures


# --- The model -------------------------------------------------------------------------------------------------------


def _load_weights(source: str, preset: str, console: Console) -> tuple[Weights, str, bool]:
    """The model, its name, and whether its weights are random."""
    if source and preset:
        raise UserError(f"bench: pass either a folder ({source}) or --preset {preset}, not both")
    if source:
        return quantized.as_trained(sources.load(source, "bench")), pathlib.Path(source).resolve().name, False
    model = sample_rows.known_preset(preset or "bert_base")
    console.print(
        "bench: random weights: only speed and size count; differences between answers mean little", soft_wrap=True
    )
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
            f"bench: --threads {max(counts)} is more than the {available} cores of this machine; 0 means all"
        )


def _choose(only: tuple[str, ...], task: Task) -> tuple[list[Runtime], list[str]]:
    from bertlite_jax.model.ops import choose_precision

    return catalogue.choose(only, choose_precision.resolve("auto", "cpu") == "float32", task)


# --- Figures ---------------------------------------------------------------------------------------------------------


def _entry_figures(entry: Entry, first: Entry, task: str) -> dict[str, Any]:
    """Size, memory and agreement of a runtime, over all shapes and numbers of threads."""
    return {
        "name": entry.runtime.name,
        "about": entry.runtime.about,
        "bytes": entry.file_bytes,
        "loaded_bytes": entry.loaded_bytes,
        "peak_bytes": entry.peak_bytes,
        "load_seconds": entry.load_seconds,
        **agreement(list(first.timed.values()), list(entry.timed.values()), task),
    }


def agreement(first: list[Timed], other: list[Timed], task: str) -> dict[str, Any]:
    """Compares a runtime's answers with those of the first one, over the batches that both answered.

    Returns:
      `largest_difference` over all values, None if one is not finite; `top1_agreement`: share of the answers (texts,
      or tokens for tags and masked words, or ends of spans) with the same largest logit, None for states and single
      values; `rows_compared`.
    """
    shapes = zip(first, other, strict=True)
    # A runtime that was dropped has answered the first batch only.
    answers = [pair for a, b in shapes for pair in zip(a.answers, b.answers, strict=False)]
    same, rows, largest = [], 0, 0.0
    for ours, theirs in answers:
        if ours.shape != theirs.shape:
            raise RuntimeError(f"bench: a runtime answers with shape {theirs.shape}, the first one with {ours.shape}")
        largest = float(np.fmax(largest, np.abs(ours - theirs).max())) if np.isfinite(theirs).all() else math.inf
        same.append(np.ravel(ours.argmax(-1) == theirs.argmax(-1)))
        rows += len(ours)
    ranked = task != "states" and answers and answers[0][0].shape[-1] > 1
    return {
        "largest_difference": largest if math.isfinite(largest) else None,
        "top1_agreement": float(np.mean(np.concatenate(same))) if ranked else None,
        "rows_compared": rows,
    }


def _shape_figures(entries: list[Entry], shape: Shape) -> dict[str, Any]:
    threads, length, number = shape
    first_seconds = entries[0].timed[shape].fastest
    figures = []
    for entry in entries:
        timed = entry.timed[shape]
        best = timed.fastest
        figures.append(
            {
                "name": entry.runtime.name,
                "calls": len(timed.seconds),
                "seconds_min": best,
                "seconds_p50": float(np.percentile(timed.seconds, 50)),
                "seconds_p95": float(np.percentile(timed.seconds, 95)),
                "sequences_per_second": number / best,
                "ratio": first_seconds / best,
                "dropped": timed.dropped,
            }
        )
    return {"batch": number, "length": length, "threads": threads, "figures": figures}


def _store(figures: dict[str, Any], source: str, out: str, html: str, console: Console) -> None:
    if out:
        whole_files.write_json(out, figures)
    if source and (pathlib.Path(source) / "checkpoints").is_dir():
        whole_files.write_json(pathlib.Path(source) / FILE, figures)
        shows = f"bertlite report {shlex.quote(source)} shows it"
        console.print(f"bench: wrote {pathlib.Path(source) / FILE}; {shows}", soft_wrap=True)
    if html:
        whole_files.write_text(html, inference.render(figures))
        console.print(f"bench: wrote {html}", soft_wrap=True)
