"""Stops a run whose loss is not finite, or far above its running mean."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Collection

import numpy as np

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.data.rows import source, stages
from bertlite_jax.errors import Diverged
from bertlite_jax.train import checkpoint


class LossGuard:
    """Watches the loss and the gradient norm of each step; `mean` is the running mean of the loss."""

    def __init__(
        self,
        config: Pretrain,
        row_stages: stages.Stages,
        checkpoints: pathlib.Path,
        mean: float | None,
        changes: Collection[int] = (),
    ):
        """Continues from the mean of an earlier process of the run.

        Args:
          config: of the run; `run.spike_factor` matters.
          row_stages: which rows a step had, for the message.
          checkpoints: folder of the run's checkpoints, for the message.
          mean: running mean of the loss; None: no step yet.
          changes: steps that have other layers or rows than the one before. The loss may jump there, so the mean begins
            anew.
        """
        self._config, self._row_stages, self._checkpoints, self._changes = config, row_stages, checkpoints, changes
        self.mean = mean

    def check(self, number: int, values: dict[str, float]) -> None:
        """Updates the running mean, or stops the run.

        Args:
          number: the step, from 1.
          values: the step's metrics.

        Raises:
          Diverged: the loss or the gradient norm is not finite, or the loss exceeds `run.spike_factor` times its
            running mean. The message names the step, its windows and the last good checkpoint.
        """
        loss, factor = values["loss"], self._config.run.spike_factor
        if number in self._changes:
            self.mean = None
        jumped = bool(factor) and self.mean is not None and loss > factor * self.mean
        if math.isfinite(loss) and math.isfinite(values["grad_norm"]) and not jumped:
            self.mean = loss if self.mean is None else 0.98 * self.mean + 0.02 * loss
            return
        rows_source, rows = stages.rows_of(self._row_stages, number)
        good = checkpoint.verified_steps(self._checkpoints)
        raise Diverged(
            f"{self._config.job}: step {number}: loss {loss:g}, gradient norm {values['grad_norm']:g}"
            + (f", more than {factor:g} times the running mean {self.mean:.3f}" if jumped else "")
            + f"; rows {rows[0]} to {rows[-1]} of length {rows_source.data.length}, "
            f"windows {_describe_windows(rows_source, rows)}; "
            + (f"last good checkpoint: step {good[-1]}" if good else "no good checkpoint yet")
            + "; lower optim.learning_rate"
            + (", or resume with a larger run.spike_factor" if jumped else "")
            + ("" if good else "; a changed config needs --overwrite or another --workdir")
        )


def _describe_windows(rows_source: source.Source, rows: np.ndarray) -> str:
    """`corpus:window` numbers of the windows in some rows; the first eight of them."""
    corpora, windows, _ = source.windows_of(rows_source, rows)
    corpus_of_window = np.repeat(corpora, windows.shape[1])
    names = [f"{int(c)}:{int(w)}" for c, w in zip(corpus_of_window, np.ravel(windows), strict=True) if w >= 0]
    return ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")
