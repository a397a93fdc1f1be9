"""The CPU: its name, cores, and the instruction sets that make matrix products fast. Complete on Linux only."""

from __future__ import annotations

import functools
import itertools
import os
import pathlib
import platform

from bertlite_jax.errors import UserError

CPUINFO = pathlib.Path("/proc/cpuinfo")
FAST = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm")
"""Instruction sets that explain a measured speed, on x86 and ARM, by Linux' names."""
VARIABLE = "BERTLITE_CPU_FLAGS"
"""Environment variable that replaces the CPU's instruction sets, for tests and bug reports."""


@functools.cache
def cpuinfo() -> dict[str, str]:
    """The fields of the first CPU in /proc/cpuinfo; empty where there is no such file. Read once a process."""
    if not CPUINFO.is_file():
        return {}
    first = CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def name() -> str:
    """The CPU's model."""
    return cpuinfo().get("model name") or platform.processor() or platform.machine()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shares(count: int) -> list[frozenset[int]]:
    """The numbers of the cores of this process in so many parts, which differ by one at most.

    Parts are empty where processes cannot be kept to cores.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [frozenset()] * count
    own = sorted(os.sched_getaffinity(0))
    bounds = [len(own) * part // count for part in range(count + 1)]
    return [frozenset(own[first:last]) for first, last in itertools.pairwise(bounds)]


def flags() -> frozenset[str]:
    """All instruction sets; empty where they are not known.

    BERTLITE_CPU_FLAGS="avx2 avx512f" replaces what the CPU has. It steers what this package chooses; XLA asks the CPU
    itself.

    Raises:
      UserError: BERTLITE_CPU_FLAGS has a word that `FAST` does not have.
    """
    if VARIABLE in os.environ:
        named = os.environ[VARIABLE].split()
        if unknown := [flag for flag in named if flag not in FAST]:
            raise UserError(f"{VARIABLE}: {unknown[0]} is not one of {' '.join(FAST)}")
        return frozenset(named)
    return actual_flags()


def actual_flags() -> frozenset[str]:
    """The instruction sets that the operating system reports, whatever BERTLITE_CPU_FLAGS says."""
    fields = cpuinfo()
    return frozenset(fields.get("flags", fields.get("Features", "")).split())


def fast_flags() -> list[str]:
    """Those of `FAST` that `flags` has, in the order of `FAST`."""
    return [flag for flag in FAST if flag in flags()]
