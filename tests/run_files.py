"""What runs write, as tests read it; and runs in processes of their own, which they wait for."""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from bertlite_jax.config.pretrain import Pretrain


def lines_of(run: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without one that is still being written; none before there is a file."""
    file = run / "metrics.jsonl"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def losses_of(run: pathlib.Path) -> dict[int, float]:
    """Step to training loss."""
    return {line["step"]: line["loss"] for line in lines_of(run) if "loss" in line}


def caching_environment(compiled: pathlib.Path, devices: int) -> dict[str, str]:
    """The environment of a process with that many CPU devices, whose compiled programs are kept in a folder."""
    return os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def hears_ctrl_c(arguments: list[str]) -> list[str]:
    """The command that runs Python with these arguments, as in a terminal: a script's background jobs ignore Ctrl-C."""
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    return [sys.executable, "-c", code, *arguments]


Start = Callable[[pathlib.Path], subprocess.Popen[str]]
"""Starts a job with a work directory, in a process of its own with one device."""


def start_with(config: Pretrain, compiled: pathlib.Path) -> Start:
    """Starts the command that takes such a config."""

    def start(run: pathlib.Path) -> subprocess.Popen[str]:
        file = run.parent / "config.py"
        file.write_text(f"from bertlite_jax.config import *\nconfig = {config!r}\n")
        return subprocess.Popen(
            hears_ctrl_c(["-m", "bertlite_jax", config.job, str(file), "--workdir", str(run)]),
            env=caching_environment(compiled, devices=1),
            cwd=pathlib.Path(__file__).resolve().parents[1],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Waits two minutes at most; fails with the output of a process that ends before the condition holds."""
    deadline = time.monotonic() + 120
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            output = process.communicate(timeout=5)[0] if process.poll() is not None else "(still running)"
            raise AssertionError(f"the run ended or hung before the condition held: {output}")
        time.sleep(0.002)
