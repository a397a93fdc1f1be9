"""A model in a process of its own, so that thread pools and memory do not mix.

Nothing heavy is imported here: a model's libraries are imported in its process, after that is bound to its cores, since
most of them count the cores when they are imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import pathlib
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from bertlite_jax.errors import UserError

Batch = dict[str, np.ndarray]
"""input_ids, attention_mask, token_type_ids: [B, L] int64, or [B, C, L] for a head that chooses between C texts."""
Answer = Callable[[Batch], np.ndarray]
"""Logits or hidden states of a batch, float32; the classes, choices, pieces or tokens to choose from come last."""
Load = Callable[[int], Answer]
"""(threads) -> the loaded model. It is pickled and called in the other process, so it has to be importable there."""

MOST_VALUES = 400_000
"""Of an answer with more values than this, only evenly spaced tokens are sent."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """Times and answers for the batches of one request."""

    seconds: list[float]
    """Wall time of each call."""
    answers: list[np.ndarray]
    """One for each batch, in their order; empty unless they were requested."""
    peak_bytes: int
    """The most memory that the process has used so far."""


@dataclasses.dataclass(frozen=True)
class Process:
    """A process with a loaded model that waits for requests."""

    run: Callable[..., Turn]
    """`run(batches, seconds=0.0, return_answers=False)` answers all batches, then again until the time is over."""
    load_seconds: float
    loaded_bytes: int
    """The most memory that the process had used when the model was loaded."""
    pid: int


@contextlib.contextmanager
def start(name: str, load: Load, threads: int) -> Iterator[Process]:
    """Starts the process and waits until its model is loaded; the process always ends with the context.

    Args:
      name: for messages.
      load: loads the model.
      threads: number of cores that it may use; at most those of this process.

    Raises:
      UserError: the process raised one, or the system ended it, as it does when memory runs out.
      RuntimeError: the process failed in another way; the message has its traceback.
    """
    ours, theirs = multiprocessing.Pipe()
    # Not a fork, because JAX has threads.
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, load, threads), daemon=True)
    process.start()
    theirs.close()

    def receive() -> Any:
        try:
            kind, value = ours.recv()
        except (EOFError, ConnectionResetError) as error:
            process.join()
            raise UserError(
                f"bench: the system ended the process of {name} (exit code {process.exitcode}); if memory ran out, "
                "choose fewer runtimes with --only"
            ) from error
        if kind == "refused":
            raise UserError(value)
        if kind == "failed":
            raise RuntimeError(f"bench: {name} failed:\n{value}")
        return value

    def run(batches: list[Batch], seconds: float = 0.0, return_answers: bool = False) -> Turn:
        ours.send((batches, seconds, return_answers))
        return receive()

    try:
        yield Process(run, *receive(), pid=process.pid or 0)
    finally:
        process.kill()
        process.join()
        ours.close()


# --- In the other process --------------------------------------------------------------------------------------------


def _serve(connection: Connection, load: Load, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent handles Ctrl-C, and ends this process.
    logging.disable(logging.WARNING)  # Libraries warn about parts of each other that are not used here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _bind(threads)
            began = time.perf_counter()
            answer = load(threads)
            connection.send(("done", (time.perf_counter() - began, peak_bytes())))
            while True:
                connection.send(("done", _turn(answer, *connection.recv())))
        except EOFError:
            return  # The parent has ended.
        except UserError as error:
            connection.send(("refused", str(error)))
        except Exception:
            connection.send(("failed", traceback.format_exc()))


def _bind(threads: int) -> None:
    """Binds the process to `threads` cores, and tells libraries that read the environment."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def _turn(answer: Answer, batches: list[Batch], seconds: float, return_answers: bool) -> Turn:
    times: list[float] = []
    answers: list[np.ndarray] = []
    end = time.perf_counter() + seconds
    while len(times) < len(batches) or time.perf_counter() < end:
        batch = batches[len(times) % len(batches)]
        began = time.perf_counter()
        values = answer(batch)
        times.append(time.perf_counter() - began)
        if return_answers and len(answers) < len(batches):
            answers.append(thinned(values))
    return Turn(times, answers, peak_bytes())


def thinned(values: np.ndarray) -> np.ndarray:
    """As many evenly spaced tokens of [B, L, C] as `MOST_VALUES` allows; the same tokens for every runtime."""
    if values.ndim < 3 or values.size <= MOST_VALUES:
        return values
    return np.ascontiguousarray(values[:, :: -(-values.size // MOST_VALUES)])


def peak_bytes() -> int:
    """The most memory that this process has used so far, imported libraries included."""
    status = pathlib.Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
