"""Training speed in real tokens: padding never counts."""

from __future__ import annotations

import time
from collections.abc import Mapping

from bertlite_jax.report.cost import flops


class Pace:
    """Real tokens and seconds since the last logged line, and over the whole run."""

    def __init__(self, peak: float | None, devices: int, before: Mapping[str, float]):
        """Continues from the `totals` of earlier processes of the run; `peak` is one device's FLOP/s."""
        self._peak, self._devices = peak, devices
        self._totals = {name: before[name] for name in ("real_tokens", "seconds", "flops")}
        self._since = time.perf_counter()
        self._window = {"tokens": 0.0, "seconds": 0.0, "flops": 0.0}
        self._data = self._data_before = 0.0
        self._first = True

    def count(self, real_tokens: float, flops: float, data_seconds: float) -> None:
        """Call after each update, in order; `data_seconds` is all the time so far that was spent waiting for rows."""
        now = time.perf_counter()
        for name, value in (("real_tokens", real_tokens), ("seconds", now - self._since), ("flops", flops)):
            self._totals[name] += value
        if not self._first:  # The first one compiles.
            self._window["tokens"] += real_tokens
            self._window["seconds"] += now - self._since
            self._window["flops"] += flops
        self._since, self._data, self._first = now, data_seconds, False

    def pause(self) -> None:
        """Call before other work than training: it counts as time of the run, but not towards its speed."""
        self._first = True

    def read(self) -> dict[str, float | None]:
        """`tokens_per_second`, `mfu`, `data_wait` since the last call, and totals (FLOPs by formula)."""
        window, seconds = self._window, self._window["seconds"]
        wait = self._data - self._data_before
        self._window, self._data_before = {"tokens": 0.0, "seconds": 0.0, "flops": 0.0}, self._data
        rates = {"tokens_per_second": None, "mfu": None, "data_wait": None}
        if seconds > 0:
            rates = {
                "tokens_per_second": window["tokens"] / seconds,
                "mfu": flops.mfu(window["flops"], seconds, self._peak, self._devices),
                "data_wait": min(1.0, wait / seconds),
            }
        totals = self._totals
        return rates | {
            "seconds": totals["seconds"],
            "total_real_tokens": totals["real_tokens"],
            "total_flops": totals["flops"],
        }

    def totals(self) -> dict[str, float]:
        """`real_tokens`, `seconds`, `flops` so far: for the checkpoint's meta and the summary."""
        return dict(self._totals)
