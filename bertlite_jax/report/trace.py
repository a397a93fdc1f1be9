"""What a profiler's trace says of waiting: how long devices spend in collective operations.

A collective takes from the moment in which a device has its own part until it has the result. That holds the wait for
the slower devices and the transfer itself; the trace does not tell them apart.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Collection, Iterable

import jax

from bertlite_jax.report import hlo
from bertlite_jax.report.hlo_cost import COLLECTIVES


def waiting_operations(text: str) -> set[str]:
    """Names of the instructions of a program in which a device waits for others.

    What `all-reduce-start` begins goes on beside the computation, and is waited for in `all-reduce-done`.

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
      operations: see `waiting_operations`. NCCL's kernels on GPUs count in any case.

    Raises:
      FileNotFoundError: no trace there.
    """
    files = sorted(pathlib.Path(folder).rglob("*.xplane.pb"))
    if not files:
        raise FileNotFoundError(f"no trace in {folder}")
    spans: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for plane in jax.profiler.ProfileData.from_file(str(files[-1])).planes:
        for line in plane.lines:
            for event in line.events:
                # A TPU's events are named `%all-reduce.1 = ...`, a CPU's `all-reduce.1`.
                if event.name.partition(" = ")[0].lstrip("%") in operations or event.name.startswith("nccl"):
                    # A CPU's devices share a plane.
                    device = next((str(value) for name, value in event.stats if name == "device_ordinal"), "")
                    spans.setdefault((plane.name, device), []).append((event.start_ns, event.end_ns))
    return sum(covered(found) for found in spans.values()) / 1e9


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans, as two collectives of a device may run at a time."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
