"""The batch of each step."""

from __future__ import annotations

import pathlib

import jax
import numpy as np

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.data.examples import batches
from bertlite_jax.jobs.finetuning.few_labels import few_label_batches
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.train import sharding


class Batches:
    """Batch after batch. Keeps only the order of the current epoch, and the additions of `learn`.

    Args:
      setup: of the run.
      folder: the work directory, where additions of `learn` are stored; None: batches without additions.
    """

    def __init__(self, setup: Setup, folder: pathlib.Path | None = None):
        self.setup, self.epoch, self.epoch_batches = setup, -1, np.zeros((0, 0), np.int64)
        self.additions = None
        if folder is not None and setup.start.config.learn != Learn():
            self.additions = few_label_batches.Additions(setup, folder)

    def at(self, number: int) -> tuple[dict[str, jax.Array], int]:
        """The batch of step `number`, from 1, on the devices, and its number of examples."""
        setup, config = self.setup, self.setup.start.config
        epoch, index = divmod(number - 1, setup.per_epoch)
        sizes = setup.train.encoded.sizes
        if epoch != self.epoch:
            self.epoch_batches = batches.deal(sizes, config.data.batch_examples, config.run.seed, epoch)
            self.epoch = epoch
        pad_id = setup.start.tokenizer.pad_id
        layout = batches.batch_at(
            setup.train.encoded, self.epoch_batches, index, setup.shape, config.head, config.data.pack, pad_id
        )
        more = self.additions.arrays_at(number, layout, self.epoch_batches[index]) if self.additions else {}
        return sharding.put_batch(layout.batch | more, setup.mesh), int((self.epoch_batches[index] >= 0).sum())
