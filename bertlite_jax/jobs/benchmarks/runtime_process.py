"""One contender of `bertlite bench infer` in a process of its own, so that thread pools and memory do not mix.

Nothing heavy is imported here: what a contender needs it imports in its process, once that is bound to its cores, since
most libraries count the cores when they are imported.
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
"""Loads a model for so many threads. Has to be importable, as it is called in the other process."""

MOST_ANSWERED = 400_000
"""Numbers that an answer may have; of a longer one evenly spaced tokens are sent."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """What a contender did with the batches that it was given."""

    seconds: list[float]
    """Wall time of each call."""
    answers: list[np.ndarray]
    """Of each batch, in their order, if they were asked for."""
    peak_bytes: int
    """The most memory that the process has held so far."""


@dataclasses.dataclass(frozen=True)
class Process:
    """A contender that is loaded and waits."""

    run: Callable[..., Turn]
    """`run(batches, seconds=0.0, keep=False)` answers each batch, then again from the first until the time is over."""
    load_seconds: float
    loaded_bytes: int
    """The most memory that the process held until the model was loaded."""
    pid: int


@contextlib.contextmanager
def start(name: str, load: Load, threads: int) -> Iterator[Process]:
    """Starts the process, waits until its model is loaded, and ends it with the context, whatever happens.

    Args:
      name: for messages.
      load: the contender.
      threads: cores that it may use; at most those of this process.

    Raises:
      UserError: the process raised one, or the system ended it, as it does when memory runs out.
      RuntimeError: it failed otherwise; the message has its traceback.
    """
    ours, theirs = multiprocessing.Pipe()
    # Not a fork: JAX has threads.
    serve = (theirs, load, threads)
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=serve, daemon=True)
    process.start()
    theirs.close()

    def receive() -> Any:
        try:
            kind, value = ours.recv()
        except (EOFError, ConnectionResetError) as error:
            process.join()
            raise UserError(
                f"bench: the process of {name} was ended by the system (exit code {process.exitcode}); if memory ran "
                "out, choose fewer contenders with --only"
            ) from error
        if kind == "refused":
            raise UserError(value)
        if kind == "failed":
            raise RuntimeError(f"bench: {name} failed:\n{value}")
        return value

    def run(batches: list[Batch], seconds: float = 0.0, keep: bool = False) -> Turn:
        ours.send((batches, seconds, keep))
        return receive()

    try:
        yield Process(run, *receive(), pid=process.pid or 0)
    finally:
        process.kill()
        process.join()
        ours.close()


# --- In the other process --------------------------------------------------------------------------------------------


def _serve(connection: Connection, load: Load, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # An interrupt is the parent's, which ends this process.
    logging.disable(logging.WARNING)  # Libraries warn of each other's parts that nobody uses here.
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
            return  # The parent is gone.
        except UserError as error:
            connection.send(("refused", str(error)))
        except Exception:
            connection.send(("failed", traceback.format_exc()))


def _bind(threads: int) -> None:
    """Leaves the process so many cores, and tells libraries that read the environment."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def _turn(answer: Answer, batches: list[Batch], seconds: float, keep: bool) -> Turn:
    times: list[float] = []
    answers: list[np.ndarray] = []
    end = time.perf_counter() + seconds
    while len(times) < len(batches) or time.perf_counter() < end:
        batch = batches[len(times) % len(batches)]
        began = time.perf_counter()
        given = answer(batch)
        times.append(time.perf_counter() - began)
        if keep and len(answers) < len(batches):
            answers.append(_thinned(given))
    return Turn(times, answers, peak_bytes())


def _thinned(given: np.ndarray) -> np.ndarray:
    """[B, L, C] with as many tokens, evenly spaced, as `MOST_ANSWERED` allows; the same ones for every contender."""
    if given.ndim < 3 or given.size <= MOST_ANSWERED:
        return given
    return np.ascontiguousarray(given[:, :: -(-given.size // MOST_ANSWERED)])


def peak_bytes() -> int:
    """The most memory that this process has held, the libraries that it imported among it."""
    status = pathlib.Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
