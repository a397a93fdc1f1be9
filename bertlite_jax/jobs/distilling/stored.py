"""A store in the place of the teachers of a run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bertlite_jax.data.rows import stages
from bertlite_jax.data.rows.batches import Batch
from bertlite_jax.data.teaching import index, records, store
from bertlite_jax.jobs.distilling import origin
from bertlite_jax.jobs.distilling.teachers import Teacher
from bertlite_jax.jobs.pretraining.opening import Opened
from bertlite_jax.train.distillation import targets


class Stored(NamedTuple):
    """What a run takes from its store."""

    layouts: dict[int, records.Layout]
    """By row length, what the losses read."""
    digest: str
    """SHA-256 of the store's index."""
    beside: Callable[[int, Batch], Batch]
    """As in `Lesson`."""


def open_stored(opened: Opened, teachers: Sequence[Teacher]) -> Stored:
    """Opens `distill.store`, and checks that it says what the teachers would say of the rows of this run.

    Args:
      opened: the run.
      teachers: of the run.

    Raises:
      UserError: it is no complete store, or one of another seed, corpus, masking, tokenizer or teacher, of fewer steps,
        or without what a loss reads.
    """
    config, folder = opened.config, opened.config.distill.store
    found, models = store.open_store(folder, "distill"), [teacher.model for teacher in teachers]
    origin.check_serves(found.index, folder, config, origin.origin(config, opened.tokenizer, teachers), models)
    names = targets.names_of(config, models)
    layouts = {length: origin.read_of(layout, names) for length, layout in found.index.layouts.items()}
    top = found.index.of[index.TOP]
    pieces = "all pieces" if top == config.model.vocab_size else f"the {top} likeliest pieces"
    what = f"{pieces} of each prediction" if "soft" in names else "hidden states"
    print(f"distill: reads {folder}: {what}, computed in {found.index.of[index.COMPUTE]}; runs no teacher")
    rows_of = functools.cache(lambda step: stages.data_at(opened.row_stages, step).batch_rows)

    def beside(step: int, batch: Batch) -> Batch:
        length = batch["tokens"].shape[1]
        wanted = [entry.name for entry in layouts[length]]
        return targets.in_batch(store.read(found, step, batch["rows"], length, wanted, rows_of))

    return Stored(layouts, index.digest(folder), beside)
