"""Running averages of what a model says of its training examples."""

from __future__ import annotations

from collections import deque

import numpy as np

from bertlite_jax.train.few_labels import consistency


class Averages:
    """The average over epochs of what was predicted for each example, and what came since.

    A step's targets know of the steps up to the last but one, as the metrics of the last one may still be on their way;
    so they do not depend on when metrics are read, nor on where a run was stopped.
    """

    def __init__(self, examples: int, outputs: int, per_epoch: int, decay: float):
        self.per_epoch, self.decay, self.epochs = per_epoch, decay, 0
        self.ensemble = np.zeros((examples, outputs), np.float32)
        self.epoch = np.zeros((examples, outputs), np.float32)
        self.batches: dict[int, np.ndarray] = {}
        self.noted: deque[tuple[int, np.ndarray, np.ndarray]] = deque()

    def at(self, number: int, batch: np.ndarray) -> tuple[np.ndarray, bool]:
        """Targets [M, C] for step `number`, which learns from the examples `batch`, and whether there are any yet."""
        while self.noted and self.noted[0][0] <= number - 2:
            step, examples, said = self.noted.popleft()
            self.epoch[examples[examples >= 0]] = said[: len(examples)][examples >= 0]
            if step % self.per_epoch == 0:
                self.ensemble = consistency.accumulate(self.ensemble, self.epoch, self.decay)
                self.epochs += 1
        self.batches[number] = np.array(batch)
        if not self.epochs:
            return self.ensemble, False
        return consistency.targets(self.ensemble, self.decay, self.epochs), True

    def note(self, number: int, said: np.ndarray) -> None:
        """Predictions [S, C] of step `number`."""
        self.noted.append((number, self.batches.pop(number), said))

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, for a file."""
        return {
            "ensemble": self.ensemble,
            "epoch": self.epoch,
            "epochs": np.array(self.epochs, np.int64),
            "steps": np.array([step for step, _, _ in self.noted], np.int64),
            **{f"batch_{step}": batch for step, batch, _ in self.noted},
            **{f"said_{step}": said for step, _, said in self.noted},
        }

    def take(self, held: dict[str, np.ndarray]) -> None:
        """The reverse of `arrays`."""
        self.ensemble, self.epoch, self.epochs = held["ensemble"], held["epoch"], int(held["epochs"])
        self.noted = deque((int(s), held[f"batch_{s}"], held[f"said_{s}"]) for s in held["steps"])
