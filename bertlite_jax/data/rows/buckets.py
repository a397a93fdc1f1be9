"""Rows of several lengths, where windows are not packed: each step has rows of one length, with as many slots in all.

A window goes into the shortest rows that hold it. Each length has an endless sequence of rows of its own, which its
steps take in turn. An epoch has as many steps of each length as its rows fill, in shuffled order, so a step is found
without going through those before it, as in `batches.py`. A program is compiled for each length, once.

Source of the idea: Google's BERT in MLPerf 1.0 (mlcommons/training_results_v1.0: lengths 128, 256, 512).
"""

from __future__ import annotations

import dataclasses
import functools
import threading

import numpy as np
from jaxtyping import Int, Int64

from bertlite_jax.data.rows import batches, packing
from bertlite_jax.data.rows.source import Source, rows_per_epoch


@dataclasses.dataclass(frozen=True)
class Buckets:
    """What consecutive steps draw from. Steps count from 1 here, wherever in the run they are."""

    sources: tuple[Source, ...]
    """One for each length that occurs, the shortest first; their `data` has the length and the rows of a step."""
    steps: tuple[int, ...]
    """Steps of an epoch with each of them."""
    before: tuple[int, ...]
    """Rows of each of them that steps before these have taken."""

    @functools.cached_property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch with rows of any length."""
        return sum(self.steps)


def open_buckets(source: Source) -> Buckets:
    """Deals the windows of a source out by length: `data.buckets` and `data.length`.

    A length whose windows would not fill one batch hands them to the next longer one. Without buckets the source itself
    is the only one, and step s has its rows from (s - 1) * batch_rows on.
    """
    sources, above = [], 0
    for length in (*source.data.buckets, source.data.length):
        rows = source.data.batch_rows * (source.data.length // length)
        part = source if not source.data.buckets else _between(source, above, length, rows)
        if rows_per_epoch(part) >= rows or (length == source.data.length and (rows_per_epoch(part) or not sources)):
            sources.append(part)
            above = length
    return Buckets(tuple(sources), _steps_of(sources), (0,) * len(sources))


def with_batches(buckets: Buckets, opened_with: int, batch_rows: int) -> Buckets:
    """The same rows in batches of another size than `data.batch_rows` was when they were opened."""
    sources = []
    for part in buckets.sources:
        data = dataclasses.replace(part.data, batch_rows=part.data.batch_rows // opened_with * batch_rows)
        sources.append(dataclasses.replace(part, data=data))
    return Buckets(tuple(sources), _steps_of(sources), buckets.before)


def _steps_of(sources: list[Source]) -> tuple[int, ...]:
    return tuple(max(1, round(rows_per_epoch(part) / part.data.batch_rows)) for part in sources)


def find(buckets: Buckets, step: int) -> tuple[int, int]:
    """Which source a step draws from, by its place, and which of the steps with that source it is, from 1."""
    if step < 1:
        raise ValueError(f"steps count from 1, not {step}")
    if len(buckets.sources) == 1:
        return 0, step
    epoch, number = divmod(step - 1, buckets.steps_per_epoch)
    order = _order(buckets.steps, buckets.sources[0].seed, epoch)
    index = int(order[number])
    return index, epoch * buckets.steps[index] + int(np.count_nonzero(order[:number] == index)) + 1


def batch_at(buckets: Buckets, step: int, process_index: int = 0, process_count: int = 1) -> batches.Batch:
    """The rows of a step that belong to this process, as of `batches.batch_at`; B and L depend on the step."""
    return batches.part_of(*rows_of(buckets, step), process_index, process_count)


def taken(buckets: Buckets, steps: int) -> tuple[int, ...]:
    """Rows of each source that are taken when so many steps are done, those before them included."""
    counts = [steps]
    if len(buckets.sources) > 1:
        epochs, number = divmod(steps, buckets.steps_per_epoch)
        begun = np.bincount(
            _order(buckets.steps, buckets.sources[0].seed, epochs)[:number], minlength=len(buckets.steps)
        )
        counts = [epochs * of_epoch + int(count) for of_epoch, count in zip(buckets.steps, begun, strict=True)]
    sizes = [part.data.batch_rows for part in buckets.sources]
    return tuple(rows + count * size for rows, count, size in zip(buckets.before, counts, sizes, strict=True))


def rows_of(buckets: Buckets, step: int) -> tuple[Source, Int64[np.ndarray, " B"]]:
    """The source of a step and the numbers of its rows there."""
    index, number = find(buckets, step)
    source = buckets.sources[index]
    return source, buckets.before[index] + (number - 1) * source.data.batch_rows + np.arange(source.data.batch_rows)


@functools.lru_cache(maxsize=4)
def _order(steps: tuple[int, ...], seed: int, epoch: int) -> Int[np.ndarray, " E"]:
    """The place of the source that each of an epoch's E steps draws from."""
    shuffled = packing.order_rows(sum(steps), seed, epoch, _STEPS)
    return np.searchsorted(np.cumsum(steps), shuffled, side="right")


_STEPS = 3
"""Sets the order of an epoch's steps apart from other orders."""


def _between(source: Source, above: int, length: int, rows: int) -> Source:
    """The parts of windows of a source that need more than `above` slots and at most `length`, in rows of `length`."""
    corpora = []
    for corpus in source.corpora:
        chosen = np.flatnonzero((corpus.slots > above) & (corpus.slots <= length))
        chosen = chosen.astype(packing.index_type(len(corpus.slots)))
        plan = packing.plan_rows(corpus.slots[chosen], length, 1)
        fields = {"slots": corpus.slots[chosen], "chosen": chosen, "packing": plan, "rows_per_epoch": plan.rows}
        corpora.append(dataclasses.replace(corpus, **fields))
    data = dataclasses.replace(source.data, length=length, batch_rows=rows, buckets=())
    return dataclasses.replace(source, data=data, corpora=tuple(corpora), orders={}, lock=threading.Lock())
