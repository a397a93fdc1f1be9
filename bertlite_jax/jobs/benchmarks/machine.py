"""The machine that a benchmark's figures belong to, and how to make it behave like a lesser one."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Literal

from bertlite_jax.errors import UserError
from bertlite_jax.host import cpu

LIMITS = ("BERTLITE_CPU_FLAGS", "XLA_FLAGS", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS")
"""Environment variables that change how fast products are."""
Lesser = Literal["avx2", "avx512"]
_LESSER_FLAGS = {"avx2": ("avx2",), "avx512": ("avx2", "avx512f")}
_LESSER_ONEDNN = {"avx2": "AVX2", "avx512": "AVX512_CORE"}


def describe(packages: Iterable[str], load: float) -> dict[str, Any]:
    """CPU, cores, instruction sets, load, Python and package versions, limiting environment variables; no accelerators.

    Args:
      packages: names of installed packages whose versions are reported.
      load: the system's one-minute load average before anything was measured.
    """
    return {
        "cpu": cpu.name(),
        "cores": cpu.cores(),
        "flags": cpu.fast_flags(),
        "load": load,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in dict.fromkeys(packages)},
        "environment": {name: os.environ[name] for name in LIMITS if name in os.environ},
    }


def lesser_environment(kind: Lesser) -> dict[str, str]:
    """Environment variables that limit XLA and PyTorch to the instruction sets of a lesser host, without bfloat16.

    XLA's own loops obey `xla_cpu_max_isa`. The library that computes its large products asks the CPU itself, so the
    products go to XLA's oneDNN instead, which obeys ONEDNN_MAX_CPU_ISA as PyTorch's does. A real host of that kind has
    the library, and is a little faster in products (by a fifth, on an AMD EPYC with AVX2).

    Raises:
      UserError: this CPU lacks one of the instruction sets.
    """
    lacking = [flag for flag in _LESSER_FLAGS[kind] if flag not in cpu.actual_flags()]
    if lacking:
        raise UserError(f"bench: --as {kind}: this CPU has no {lacking[0]}")
    xla = (f"--xla_cpu_max_isa={kind.upper()}", "--xla_cpu_experimental_ynn_fusion_type=")
    return {
        "BERTLITE_CPU_FLAGS": " ".join(_LESSER_FLAGS[kind]),
        "XLA_FLAGS": " ".join([os.environ.get("XLA_FLAGS", ""), *xla]).strip(),
        "ATEN_CPU_CAPABILITY": kind,
        "ONEDNN_MAX_CPU_ISA": _LESSER_ONEDNN[kind],
    }


def run_as(kind: Lesser, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Calls the function in a process of its own that behaves like a lesser host; returns or raises what it does."""
    before = dict(os.environ)
    os.environ.update(lesser_environment(kind))
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(function, *args, **keywords).result()
    finally:
        os.environ.clear()
        os.environ.update(before)
