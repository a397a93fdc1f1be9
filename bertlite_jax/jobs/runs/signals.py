"""Signals that end a run early, after its state is saved."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[int], bool]]:
    """Yields `stop_wanted(step)`, which a job calls after every step: whether to save and end now.

    With one process, SIGTERM and the first Ctrl-C ask the run to stop; a second Ctrl-C interrupts it. With several
    processes a SIGTERM to any of them is enough: JAX picks a step that none of them has passed, and all stop after that
    step; Ctrl-C interrupts at once.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    received: list[int] = []

    def receive(number: int, frame: object) -> None:
        del frame
        received.append(number)
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda step: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
