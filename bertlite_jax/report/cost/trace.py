"""From a profiler's trace: how long each operation took, and how long devices spent in collectives.

A collective lasts from the moment when a device has its own part until it has the result. That includes the wait for
slower devices and the transfer; the trace does not tell them apart.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import jax

from bertlite_jax.report.cost import hlo
from bertlite_jax.report.cost.hlo_cost import COLLECTIVES


@contextlib.contextmanager
def profiling(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Writes a trace of what runs inside into a folder, without Python's own calls."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    jax.profiler.start_trace(folder, profiler_options=options)
    try:
        yield
    finally:
        jax.profiler.stop_trace()


def waiting_operations(text: str) -> set[str]:
    """Names of the instructions of a program in which a device waits for others.

    What `all-reduce-start` begins runs beside the computation; `all-reduce-done` waits for it.

    Args:
      text: what `jax.stages.Compiled.as_text` returns.
    """
    kinds = {*COLLECTIVES, *(f"{kind}-done" for kind in COLLECTIVES)}
    computations = hlo.parse(text).computations.values()
    return {line.name for each in computations for line in each.instructions.values() if line.operation in kinds}


def collective_seconds(folder: str | os.PathLike[str], operations: Collection[str]) -> float:
    """Time in some operations, summed over the devices of this process.

    Args:
      folder: what `jax.profiler.start_trace` was given, for one trace.
      operations: see `waiting_operations`. NCCL's kernels on GPUs always count.

    Raises:
      FileNotFoundError: there is no trace.
    """
    spans: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for plane, event in _events(folder):
        if _name(event) in operations or event.name.startswith("nccl"):
            # A CPU's devices share a plane.
            device = next((str(value) for name, value in event.stats if name == "device_ordinal"), "")
            spans.setdefault((plane, device), []).append((event.start_ns, event.end_ns))
    return sum(covered(of_device) for of_device in spans.values()) / 1e9


def operation_seconds(folder: str | os.PathLike[str], operations: Collection[str]) -> dict[str, float]:
    """Time in each operation of a program on one CPU device. While several run, each gets an equal share of the time.

    An operation that another thread finishes ends at a mark of its own, `end: NAME`.

    Args:
      folder: as for `collective_seconds`.
      operations: names, without loops and calls, which last as long as their content.

    Returns:
      Seconds by name. Their sum is the time in which at least one of them ran.

    Raises:
      FileNotFoundError: there is no trace.
    """
    starts: dict[str, list[tuple[float, float]]] = {}
    marks: dict[str, list[float]] = {}
    for _, event in _events(folder):
        if event.name in operations:
            starts.setdefault(event.name, []).append((event.start_ns, event.end_ns))
        elif event.name.removeprefix(_MARK) in operations:
            marks.setdefault(event.name.removeprefix(_MARK), []).append(event.end_ns)
    spans = []
    for name, runs in starts.items():
        over = sorted(marks.get(name, []))
        if len(over) != len(runs):
            over = [0.0] * len(runs)
        spans += [(start, max(end, mark), name) for (start, end), mark in zip(sorted(runs), over, strict=True)]
    return {name: nanoseconds / 1e9 for name, nanoseconds in shared_out(spans).items()}


_MARK = "end: "


def _events(folder: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """(name of its plane, event) for all events of a trace."""
    files = sorted(pathlib.Path(folder).rglob("*.xplane.pb"))
    if not files:
        raise FileNotFoundError(f"no trace in {folder}")
    for plane in jax.profiler.ProfileData.from_file(str(files[-1])).planes:
        for line in plane.lines:
            for event in line.events:
                yield plane.name, event


def _name(event: Any) -> str:
    """The operation of an event: a TPU's are named `%all-reduce.1 = ...`, a CPU's `all-reduce.1`."""
    return event.name.partition(" = ")[0].lstrip("%")


def shared_out(spans: Iterable[tuple[float, float, str]]) -> dict[str, float]:
    """The time in which any span is open, divided among names: at each moment equally among the open spans."""
    turns = sorted((time, step, name) for start, end, name in spans for time, step in ((start, 1), (end, -1)))
    shares: dict[str, float] = {}
    open_spans: dict[str, int] = {}
    before = 0.0
    for time, step, name in turns:
        count = sum(open_spans.values())
        for other, times in open_spans.items():
            shares[other] = shares.get(other, 0.0) + (time - before) * times / count
        open_spans[name] = open_spans.get(name, 0) + step
        if not open_spans[name]:
            del open_spans[name]
        before = time
    return shares


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans, as two collectives of a device may run at a time."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
