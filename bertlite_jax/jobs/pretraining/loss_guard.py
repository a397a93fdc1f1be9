"""Stops a run whose loss is not finite, or far above its running mean."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Collection, Mapping

import numpy as np

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.data.rows import source, stages
from bertlite_jax.errors import Diverged
from bertlite_jax.train import checkpoint

_NAMES = {False: "loss_mean", True: "causal_loss_mean"}
"""Of the running means in a checkpoint, by whether the steps are causal."""


class LossGuard:
    """Watches the loss and the gradient norm of each step; `means` has the running mean of the loss.

    Causal steps predict something else, so their losses have a mean of their own.
    """

    def __init__(
        self,
        config: Pretrain,
        row_stages: stages.Stages,
        checkpoints: pathlib.Path,
        means: Mapping[str, float | None],
        changes: Collection[int] = (),
    ):
        """Continues from the mean of an earlier process of the run.

        Args:
          config: of the run; `run.spike_factor` matters.
          row_stages: which rows a step had, for the message.
          checkpoints: folder of the run's checkpoints, for the message.
          means: as `means` was before; empty: no step yet.
          changes: steps that have other layers or rows than the one before. The loss may jump there, so the means begin
            anew.
        """
        self._config, self._row_stages, self._checkpoints, self._changes = config, row_stages, checkpoints, changes
        self._means = {causal: means.get(name) for causal, name in _NAMES.items()}

    @property
    def means(self) -> dict[str, float | None]:
        """By name: of the steps that are not causal, and of those that are; None: no step yet."""
        return {name: self._means[causal] for causal, name in _NAMES.items()}

    def check(self, number: int, values: dict[str, float], causal: bool = False) -> None:
        """Updates the running mean, or stops the run.

        Args:
          number: the step, from 1.
          values: the step's metrics.
          causal: whether the step is.

        Raises:
          Diverged: the loss or the gradient norm is not finite, or the loss exceeds `run.spike_factor` times its
            running mean. The message names the step, its windows and the last good checkpoint.
        """
        loss, factor = values["loss"], self._config.run.spike_factor
        if number in self._changes:
            self._means = dict.fromkeys(_NAMES)
        mean = self._means[causal]
        jumped = bool(factor) and mean is not None and loss > factor * mean
        if math.isfinite(loss) and math.isfinite(values["grad_norm"]) and not jumped:
            self._means[causal] = loss if mean is None else 0.98 * mean + 0.02 * loss
            return
        rows_source, rows = stages.rows_of(self._row_stages, number)
        good = checkpoint.verified_steps(self._checkpoints)
        of_causal = " of causal steps" if causal else ""
        raise Diverged(
            f"{self._config.job}: step {number}: loss {loss:g}, gradient norm {values['grad_norm']:g}"
            + (f", more than {factor:g} times the running mean {mean:.3f}{of_causal}" if jumped else "")
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
