"""How fast a run goes, in real tokens: padding never counts."""

from __future__ import annotations

import time

from bertlite_jax.report import flops


class Pace:
    """Real tokens and seconds since the last logged line, and over the whole run."""

    def __init__(
        self, flops_per_step: float, peak: float | None, devices: int, real_tokens: float = 0.0, seconds: float = 0.0
    ):
        """Counts on from `real_tokens` and `seconds` of earlier processes of the run; `peak` is one device's FLOP/s."""
        self._flops, self._peak, self._devices = flops_per_step, peak, devices
        self._tokens, self._seconds = real_tokens, seconds
        self._since = time.perf_counter()
        self._window = {"tokens": 0.0, "seconds": 0.0, "steps": 0}
        self._data = self._data_before = 0.0
        self._first = True

    def count(self, real_tokens: float, data_seconds: float) -> None:
        """After each update, in order."""
        now = time.perf_counter()
        self._tokens += real_tokens
        self._seconds += now - self._since
        if not self._first:  # The first one compiles.
            self._window["tokens"] += real_tokens
            self._window["seconds"] += now - self._since
            self._window["steps"] += 1
        self._since, self._data, self._first = now, data_seconds, False

    def pause(self) -> None:
        """Before something that is no training: what follows does not count as pace, but as time of the run."""
        self._first = True

    def read(self) -> dict[str, float | None]:
        """`tokens_per_second`, `mfu`, `data_wait` since the last call, and totals."""
        window, seconds = self._window, self._window["seconds"]
        wait = self._data - self._data_before
        self._window, self._data_before = {"tokens": 0.0, "seconds": 0.0, "steps": 0}, self._data
        rates = {"tokens_per_second": None, "mfu": None, "data_wait": None}
        if seconds > 0:
            rates = {
                "tokens_per_second": window["tokens"] / seconds,
                "mfu": flops.mfu(self._flops * window["steps"], seconds, self._peak, self._devices),
                "data_wait": min(1.0, wait / seconds),
            }
        return rates | {"seconds": self._seconds, "total_real_tokens": self._tokens}

    def totals(self) -> dict[str, float]:
        """For the checkpoint's meta and the summary."""
        return {"seconds": self._seconds, "real_tokens": self._tokens}
