"""Runtimes that answer the same texts in turns, each in a process of its own.

One works at a time, so that a machine that is busy for a while is busy for all of them. Texts have the stated length,
without padding. The first call of each shape is not counted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np
from rich.console import Console

from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.jobs.benchmarks import sample_rows
from bertlite_jax.jobs.benchmarks.race import Contender, drop_slow, race
from bertlite_jax.jobs.benchmarks.runtimes import process
from bertlite_jax.jobs.benchmarks.runtimes.process import Batch, Load, Process
from bertlite_jax.jobs.benchmarks.runtimes.runtime import Runtime

ROWS = 16
"""Different rows of each length on which answers are compared; at least a batch."""
CALIBRATION = 16
"""Further rows, of the first length, that calibrate the ranges of static INT8."""
TOO_SLOW = 5.0
"""A runtime that takes more than this many times as long as the first one gets no further turns."""
TRIALS = 3
"""Calls before that is decided, since other programs may have slowed one down."""
TURN_SECONDS = 0.3
"""Length of a turn, which has at least one call."""


@dataclasses.dataclass
class Timed(Contender):
    """A runtime on one shape; `seconds` are those of its calls."""

    answers: list[np.ndarray] = dataclasses.field(default_factory=list)


Shape = tuple[int, int, int]
"""Threads, tokens in a row, rows in a batch."""


@dataclasses.dataclass
class Entry:
    """A runtime that takes part: its file, its process, and what was measured."""

    runtime: Runtime
    load: Load
    file_bytes: int
    timed: dict[Shape, Timed] = dataclasses.field(default_factory=dict)
    started: Process | None = None
    loaded_bytes: int = 0
    peak_bytes: int = 0
    load_seconds: float = math.inf

    @property
    def process(self) -> Process:
        """Its process, which has been started."""
        assert self.started
        return self.started


def time_runtimes(
    weights: Weights, chosen: Sequence[Runtime], shapes: Sequence[Shape], rounds: int, console: Console
) -> list[Entry]:
    """Lets runtimes answer texts of each shape, one at a time and in turns.

    Args:
      weights: of the model whose files they write; its tokenizer and head decide what the texts are.
      chosen: the first one is what the others are compared with.
      shapes: in the order in which they are timed, those with the same number of threads together.
      rounds: turns of each runtime for each shape.
      console: where to print.

    Returns:
      An entry for each runtime, in their order.
    """
    most = max(ROWS, *(number for _, _, number in shapes))
    rows = {size: sample_rows.make_rows(weights, size, most + CALIBRATION) for size in {size for _, size, _ in shapes}}
    with tempfile.TemporaryDirectory(prefix="bertlite-bench-") as scratch:
        texts = sample_rows.batches_of(weights, rows[shapes[0][1]][most:], 1)
        entries = _prepare(weights, chosen, pathlib.Path(scratch), texts, console)
        groups = group_by_memory(entries, console)
        for count in dict.fromkeys(count for count, _, _ in shapes):
            for group in groups:
                with contextlib.ExitStack() as stack:
                    _start(group, count, stack, console)
                    for shape in [shape for shape in shapes if shape[0] == count]:
                        batches = sample_rows.batches_of(weights, rows[shape[1]][:most], shape[2])
                        _race(group, shape, batches, rounds, entries[0], console)
                        console.print(f"bench: {shape[2]} x {shape[1]}, {_plural(count, 'thread')}: done")
                    _record_memory(group)
    return entries


def _prepare(
    weights: Weights, chosen: Sequence[Runtime], scratch: pathlib.Path, texts: list[Batch], console: Console
) -> list[Entry]:
    """Writes the file of each runtime."""
    entries = []
    for runtime in chosen:
        console.print(f"bench: writing the file of {runtime.name}")
        path, load = runtime.prepare(weights, scratch, texts)
        entries.append(Entry(runtime, load, path.stat().st_size))
    return entries


def group_by_memory(entries: list[Entry], console: Console) -> list[list[Entry]]:
    """The runtimes that are loaded together: all of them, or each alone if free memory may not hold all.

    A runtime takes its libraries and about twice its file.
    """
    meminfo = pathlib.Path("/proc/meminfo")
    if not meminfo.is_file():
        return [entries]
    lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="utf-8").splitlines() if ":" in line)
    free = int(lines["MemAvailable"].split()[0]) * 1024
    needed = sum(400_000_000 + 2 * entry.file_bytes for entry in entries)
    if needed < free:
        return [entries]
    console.print(
        f"bench: {free / 1e9:.1f} GB of memory are free, and all runtimes together need about {needed / 1e9:.1f} GB: "
        "each runs alone, so if the machine is busy for a while, that slows only some of them down",
        soft_wrap=True,
    )
    return [[entry] for entry in entries]


def _start(group: list[Entry], threads: int, stack: contextlib.ExitStack, console: Console) -> None:
    names = ", ".join(entry.runtime.name for entry in group)
    console.print(f"bench: loading, {_plural(threads, 'thread')} each: {names}", soft_wrap=True)
    for entry in group:
        entry.started = stack.enter_context(process.start(entry.runtime.name, entry.load, threads))


def _race(group: list[Entry], shape: Shape, batches: list[Batch], rounds: int, first: Entry, console: Console) -> None:
    """Lets a group answer each batch of one shape once, then take turns; one that is too slow gets only its trials."""
    by_name = {entry.runtime.name: entry for entry in group}
    for name, entry in by_name.items():
        if not entry.timed:
            console.print(f"bench: first call of {name}, {shape[2]} x {shape[1]} tokens")
        timed = entry.timed[shape] = Timed(name)
        timed.answers = entry.process.run(batches[:1], return_answers=True).answers  # Compiles and allocates.
        for _ in range(TRIALS):
            timed.seconds += entry.process.run(batches[:1]).seconds
            drop_slow([timed], TOO_SLOW, first.timed[shape].fastest)
            if not timed.dropped:
                break
    for entry in group:
        timed = entry.timed[shape]
        if batches[1:] and not timed.dropped:
            turn = entry.process.run(batches[1:], return_answers=True)
            timed.answers += turn.answers
            timed.seconds += turn.seconds

    def take_turn(timed: Timed) -> list[float]:
        return by_name[timed.name].process.run(batches[:1], seconds=TURN_SECONDS).seconds

    race([entry.timed[shape] for entry in group], rounds, take_turn)


def _record_memory(group: list[Entry]) -> None:
    """Asks the processes for their memory before they end."""
    for entry in group:
        entry.loaded_bytes = max(entry.loaded_bytes, entry.process.loaded_bytes)
        entry.peak_bytes = max(entry.peak_bytes, entry.process.run([]).peak_bytes)
        entry.load_seconds = min(entry.load_seconds, entry.process.load_seconds)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
