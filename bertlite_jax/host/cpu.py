"""What CPU this is and which of its instruction sets decide how fast products are; Linux says it, others say less."""

from __future__ import annotations

import functools
import os
import pathlib
import platform

from bertlite_jax.errors import UserError

CPUINFO = pathlib.Path("/proc/cpuinfo")
FAST = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm")
"""Instruction sets that belong beside a figure, on x86 and ARM, by Linux' names."""
VARIABLE = "BERTLITE_CPU_FLAGS"
"""Environment variable with the instruction sets to believe in instead of the CPU's, for tests and bug reports."""


@functools.cache
def _fields() -> dict[str, str]:
    """Of the first CPU in /proc/cpuinfo; empty elsewhere."""
    if not CPUINFO.is_file():
        return {}
    first = CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def name() -> str:
    """The CPU's model."""
    return _fields().get("model name") or platform.processor() or platform.machine()


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def flags() -> frozenset[str]:
    """All instruction sets; empty where they are not known.

    BERTLITE_CPU_FLAGS="avx2 avx512f" stands in for what the CPU has. It steers what this package chooses; XLA asks the
    CPU itself.

    Raises:
      UserError: BERTLITE_CPU_FLAGS has a word that is not in `FAST`.
    """
    if VARIABLE in os.environ:
        named = os.environ[VARIABLE].split()
        if unknown := [flag for flag in named if flag not in FAST]:
            raise UserError(f"{VARIABLE}: {unknown[0]} is none of {' '.join(FAST)}")
        return frozenset(named)
    return actual_flags()


def actual_flags() -> frozenset[str]:
    """What the operating system says, whatever BERTLITE_CPU_FLAGS says."""
    fields = _fields()
    return frozenset(fields.get("flags", fields.get("Features", "")).split())


def fast_flags() -> list[str]:
    """Those of `FAST` that this CPU has, or is believed to have."""
    return [flag for flag in FAST if flag in flags()]
