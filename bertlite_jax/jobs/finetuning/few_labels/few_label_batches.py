"""The arrays that `learn` adds to each batch, and the averages of a step's predictions.

Letters: R rows, P windows per row, M examples, C labels, S slots for a batch's predictions.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.data.examples import batches, features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.finetuning.few_labels import few_label_inputs, teacher, unlabelled
from bertlite_jax.jobs.finetuning.few_labels.prediction_averages import Averages
from bertlite_jax.jobs.finetuning.setup import Setup
from bertlite_jax.jobs.runs import arrays
from bertlite_jax.train.few_labels import consistency
from bertlite_jax.train.few_labels.loss import UNLABELLED

Arrays = dict[str, np.ndarray]


class Additions:
    """The additions of one run. It owns the averages of predictions, and stores them in files beside the checkpoints.

    Args:
      setup: of the run.
      run: its work directory.
    """

    def __init__(self, setup: Setup, run: pathlib.Path):
        config: Finetuned = setup.start.config
        self.setup, self.learn, self.extra = setup, config.learn, setup.extra
        self.folder = few_label_inputs.folder_of(run)
        self.answers = setup.extra.answers or self.folder
        self.pad_id = setup.start.tokenizer.pad_id
        self.taught: dict[str, teacher.Taught] = {}
        if self.learn.teacher:
            examples = [] if config.head.kind == "span" else list(unlabelled.examples_of_training(setup))
            self.taught[""] = self._taught(examples, setup.train.encoded)
            if self.extra.unlabelled:
                self.taught[UNLABELLED] = self._taught(self.extra.texts, self.extra.unlabelled)
        self.averages = {}
        if self.learn.temporal:
            outputs, decay = config.head.outputs, self.learn.temporal_decay
            count = len(setup.train.encoded.sizes)
            self.averages[""] = Averages(count, outputs, setup.per_epoch, decay)
            if self.extra.unlabelled:
                count = len(self.extra.unlabelled.firsts) - 1
                per_epoch = batches.batches_in_epoch(count, self._unlabelled_batch())
                self.averages[UNLABELLED] = Averages(count, outputs, per_epoch, decay)

    def _taught(self, texts: Sequence[Example], encoded: features.Encoded) -> teacher.Taught:
        """What the teacher answers to texts, or for spans to the windows that the student reads."""
        source, head = self.learn.teacher, self.setup.start.config.head
        digest = self.extra.digests[source]
        if head.kind == "span":
            return teacher.spans_of(source, digest, encoded, self.pad_id, self.answers)
        return teacher.answers_to(source, digest, texts, head, self.answers)

    def _unlabelled_batch(self) -> int:
        assert self.extra.unlabelled is not None
        return min(self.learn.unlabelled_batch, len(self.extra.unlabelled.firsts) - 1)

    def arrays_at(self, number: int, layout: batches.Layout, examples: np.ndarray) -> Arrays:
        """The arrays for step `number`, by the names that `train.few_labels` uses.

        Args:
          number: of the step, from 1.
          layout: of the labelled rows, one window per example.
          examples: [S] numbers of the batch's examples, -1 for none.
        """
        rows = layout.batch["rows"].shape[0]
        arrays: Arrays = {"progress": np.full(rows, (number - 1) / self.setup.steps, np.float32)}
        arrays |= self._targets("", number, layout, layout.windows, examples)
        if self.extra.domain is not None:
            arrays["domain"] = np.where(layout.windows >= 0, self.extra.domain[layout.windows], -1).astype(np.int32)
        return arrays | (self._unlabelled(number) if self.extra.unlabelled is not None else {})

    def _unlabelled(self, number: int) -> Arrays:
        extra, config = self.extra, self.setup.start.config
        encoded, shape, windows = extra.unlabelled, extra.shape, 2 if self.learn.augments else 1
        assert encoded is not None
        assert shape is not None
        batch = self._unlabelled_batch()
        epoch, index = divmod(number - 1, batches.batches_in_epoch(len(encoded.firsts) - 1, batch))
        epoch_batches = batches.deal(encoded.sizes, batch, config.run.seed + unlabelled.ORDER, epoch)
        layout = batches.batch_at(encoded, epoch_batches, index, shape, config.head, True, self.pad_id)
        used = layout.windows >= 0
        original = used & (layout.windows % windows == 0)
        arrays = {name: array for name, array in layout.batch.items() if name != "labels"}
        arrays |= {"weights": original.astype(np.float32), "changed": (used & ~original).astype(np.int32)}
        texts = np.where(original, layout.windows // windows, -1)
        arrays |= self._targets(UNLABELLED, number, layout, texts, epoch_batches[index])
        if config.head.kind == "choose":  # Of each text, whose choices are windows, the first.
            arrays["weights"] = np.isin(layout.windows, encoded.firsts[:-1]).astype(np.float32)
        if config.head.kind == "tag":
            arrays["weights"] = arrays["teacher_known"]
        return {UNLABELLED + name: array for name, array in arrays.items()}

    def _targets(
        self, stream: str, number: int, layout: batches.Layout, texts: np.ndarray, batch: np.ndarray
    ) -> Arrays:
        """The teacher's outputs and the averages for texts [R, P], -1 for none, of a batch [S]."""
        arrays: Arrays = {}
        if taught := self.taught.get(stream):
            encoded = self.extra.unlabelled if stream else self.setup.train.encoded
            assert encoded is not None
            arrays = teacher.arrays_of(taught, self.setup.start.config.head, encoded, layout, texts)
        if average := self.averages.get(stream):
            target, known = average.at(number, batch)
            progress = (number - 1) / self.setup.steps
            weight = self.learn.temporal * consistency.ramp(progress, self.learn.temporal_ramp) * known
            arrays["ensemble"] = np.where(texts[..., None] >= 0, target[texts], 0).astype(np.float32)
            arrays["ensemble_weight"] = (weight * (texts >= 0)).astype(np.float32)
            slot_of = {int(text): slot for slot, text in enumerate(batch) if text >= 0}
            slots = [slot_of.get(int(text), len(batch)) for text in texts.ravel()]
            arrays["slot"] = np.array(slots, np.int32).reshape(texts.shape)
        return arrays

    def read(self, number: int, values: dict[str, Any]) -> dict[str, Any]:
        """Adds a step's predictions to the averages. Returns its metrics without them."""
        for stream, average in self.averages.items():
            average.add(number, np.asarray(values[stream + "predictions"]))
        return {name: value for name, value in values.items() if not name.endswith("predictions")}

    def save(self, number: int) -> None:
        """Stores the averages before the checkpoint of a step; older files stay, in case that is not completed."""
        if not self.averages:
            return
        arrays = {f"{stream}|{k}": v for stream, average in self.averages.items() for k, v in average.arrays().items()}
        path = self.folder / f"averages-{number}.npz"
        with whole_files.new_file(path, overwrite=True, job="finetune") as unfinished, open(unfinished, "wb") as out:
            np.savez(out, **arrays)
        written = sorted(self.folder.glob("averages-*.npz"), key=lambda path: int(path.stem.split("-")[1]))
        for old in written[: -1 - self.setup.start.config.run.keep_last]:
            old.unlink()

    def restore(self, number: int) -> None:
        """Restores the averages as `save` stored them for step `number`; does nothing for 0."""
        if not self.averages or not number:
            return
        path = self.folder / f"averages-{number}.npz"
        if not path.is_file():
            raise UserError(
                f"finetune: {path} is missing, and the run cannot resume without it; pass --overwrite to start again"
            )
        with arrays.opened(path) as stored:
            for stream, average in self.averages.items():
                prefix = f"{stream}|"
                average.restore({k.removeprefix(prefix): stored[k] for k in stored if k.startswith(prefix)})


def slots_of(setup: Setup) -> tuple[int, int]:
    """S of labelled and of unlabelled batches: the most examples that `batches.deal` puts into one."""
    learn: Learn = setup.start.config.learn
    if not learn.temporal:
        return 0, 0
    labelled = -(-len(setup.train.encoded.sizes) // setup.per_epoch)
    if not setup.extra.unlabelled:
        return labelled, 0
    count = len(setup.extra.unlabelled.firsts) - 1
    return labelled, -(-count // batches.batches_in_epoch(count, min(learn.unlabelled_batch, count)))
