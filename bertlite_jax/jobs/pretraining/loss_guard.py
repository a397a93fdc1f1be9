"""Stops a run whose loss is no number, or far above what it was."""

from __future__ import annotations

import math
import pathlib

import numpy as np

from bertlite_jax.config.pretrain import Run
from bertlite_jax.data.rows import buckets, source
from bertlite_jax.errors import Diverged
from bertlite_jax.train import checkpoint


class Guard:
    """Stops a run whose loss is no number, or jumps."""

    def __init__(self, run: Run, rows: buckets.Buckets, checkpoints: pathlib.Path, mean: float | None):
        self._run, self._rows, self._checkpoints = run, rows, checkpoints
        self.mean = mean

    def check(self, number: int, values: dict[str, float]) -> None:
        """Raises Diverged where a run should not go on: at which step, in which windows, and what is still good.

        Args:
          number: of the step.
          values: the step's metrics.
        """
        loss, factor = values["loss"], self._run.spike_factor
        jumped = bool(factor) and self.mean is not None and loss > factor * self.mean
        if math.isfinite(loss) and math.isfinite(values["grad_norm"]) and not jumped:
            self.mean = loss if self.mean is None else 0.98 * self.mean + 0.02 * loss
            return
        corpus, rows = buckets.rows_of(self._rows, number)
        good = checkpoint.verified_steps(self._checkpoints)
        raise Diverged(
            f"pretrain: step {number}: loss {loss:g}, gradient norm {values['grad_norm']:g}"
            + (f", {factor:g} times the running mean {self.mean:.3f} exceeded" if jumped else "")
            + f"; rows {rows[0]} to {rows[-1]} of those of {corpus.data.length} tokens, "
            f"windows {_windows_in(corpus, rows)}; "
            + (f"last good checkpoint: step {good[-1]}" if good else "no good checkpoint yet")
            + "; lower optim.learning_rate"
            + (", or go on with a larger run.spike_factor" if jumped else "")
            + ("" if good else "; another config needs --overwrite or another --workdir")
        )


def _windows_in(corpus: source.Source, rows: np.ndarray) -> str:
    """Corpus numbers and window numbers in some global rows, the first few."""
    which, windows, _ = source.windows_of(corpus, rows)
    of_windows = np.repeat(which, windows.shape[1])
    named = [f"{int(c)}:{int(w)}" for c, w in zip(of_windows, np.ravel(windows), strict=True) if w >= 0]
    return ", ".join(named[:8]) + (f", ... ({len(named)} in all)" if len(named) > 8 else "")
