"""Which examples stand in which batch, step by step."""

from __future__ import annotations

import pathlib

import jax
import numpy as np

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.data.examples import batches
from bertlite_jax.jobs.finetuning import few_label_batches
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.train import sharding


class Batches:
    """Batch after batch; holds only the order of the epoch that it is in, and what `learn` adds to it.

    Args:
      setup: of the run.
      folder: of the run, where what `learn` adds is kept; None leaves it out.
    """

    def __init__(self, setup: Setup, folder: pathlib.Path | None = None):
        self.setup, self.epoch, self.dealt = setup, -1, np.zeros((0, 0), np.int64)
        self.additions = None
        if folder is not None and setup.start.config.learn != Learn():
            self.additions = few_label_batches.Additions(setup, folder)

    def at(self, number: int) -> tuple[dict[str, jax.Array], int]:
        """What step `number`, from 1, learns from, and how many examples that are."""
        setup, config = self.setup, self.setup.start.config
        epoch, index = divmod(number - 1, setup.per_epoch)
        sizes = setup.train.encoded.sizes
        if epoch != self.epoch:
            self.dealt = batches.deal(sizes, config.data.batch_examples, config.run.seed, epoch)
            self.epoch = epoch
        pad_id = setup.start.tokenizer.pad_id
        layout = batches.batch_at(
            setup.train.encoded, self.dealt, index, setup.shape, config.head, config.data.pack, pad_id
        )
        more = self.additions.of(number, layout, self.dealt[index]) if self.additions else {}
        return sharding.put_batch(layout.batch | more, setup.mesh), int((self.dealt[index] >= 0).sum())
