"""Running averages of a model's predictions for its training examples."""

from __future__ import annotations

from collections import deque

import numpy as np

from bertlite_jax.train.few_labels import consistency


class Averages:
    """The average over epochs of each example's predictions, and the predictions since then.

    The targets of step n use the predictions of the steps up to n - 2, since the metrics of step n - 1 may not have
    been read yet. So targets depend neither on when metrics are read nor on where a run was stopped.

    Args:
      examples: their number, M.
      outputs: outputs of the head, C.
      per_epoch: steps in an epoch.
      decay: of the average, per epoch.
    """

    def __init__(self, examples: int, outputs: int, per_epoch: int, decay: float):
        self.per_epoch, self.decay, self.epochs = per_epoch, decay, 0
        self.ensemble = np.zeros((examples, outputs), np.float32)
        self.epoch = np.zeros((examples, outputs), np.float32)
        self.batches: dict[int, np.ndarray] = {}
        self.pending: deque[tuple[int, np.ndarray, np.ndarray]] = deque()

    def at(self, number: int, batch: np.ndarray) -> tuple[np.ndarray, bool]:
        """Targets [M, C] for step `number`, whose examples are `batch`, and whether an epoch has been averaged yet."""
        while self.pending and self.pending[0][0] <= number - 2:
            step, examples, predictions = self.pending.popleft()
            self.epoch[examples[examples >= 0]] = predictions[: len(examples)][examples >= 0]
            if step % self.per_epoch == 0:
                self.ensemble = consistency.accumulate(self.ensemble, self.epoch, self.decay)
                self.epochs += 1
        self.batches[number] = np.array(batch)
        if not self.epochs:
            return self.ensemble, False
        return consistency.targets(self.ensemble, self.decay, self.epochs), True

    def add(self, number: int, predictions: np.ndarray) -> None:
        """Adds the predictions [S, C] of step `number`."""
        self.pending.append((number, self.batches.pop(number), predictions))

    def arrays(self) -> dict[str, np.ndarray]:
        """The whole state, as named arrays for a file."""
        return {
            "ensemble": self.ensemble,
            "epoch": self.epoch,
            "epochs": np.array(self.epochs, np.int64),
            "steps": np.array([step for step, _, _ in self.pending], np.int64),
            **{f"batch_{step}": batch for step, batch, _ in self.pending},
            **{f"said_{step}": predictions for step, _, predictions in self.pending},
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """The reverse of `arrays`."""
        self.ensemble, self.epoch, self.epochs = arrays["ensemble"], arrays["epoch"], int(arrays["epochs"])
        self.pending = deque((int(s), arrays[f"batch_{s}"], arrays[f"said_{s}"]) for s in arrays["steps"])
