"""What each step of a run draws from, where rows become longer or batches larger on the way.

Each row length of `run.lengths` has corpora of its own, and their rows an endless sequence. A step goes on in it where
the last step with rows of that length stopped, however many rows the batches have: no row of an epoch comes twice or is
left out, and a step is still found from its number alone. Steps count from 1.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from bertlite_jax.config import schedule
from bertlite_jax.config.pretrain import Data, Pretrain
from bertlite_jax.data.corpus.folder import read_meta
from bertlite_jax.data.rows import batches, buckets
from bertlite_jax.data.rows.source import Source
from bertlite_jax.errors import UserError


class Stage(NamedTuple):
    """Steps that have rows and batches of the same sizes (with `data.buckets`: of the same choice of sizes)."""

    first: int
    last: int
    source: Source
    """All rows of its length; with `data.buckets` their windows before they are dealt out."""
    buckets: buckets.Buckets
    """What its steps draw from."""


Stages = tuple[Stage, ...]


def open_stages(config: Pretrain, open_source: Callable[[Data], Source]) -> Stages:
    """Opens the corpora of each row length once, and counts the rows that each stage begins with.

    Args:
      config: `data` and `run` matter.
      open_source: opens the corpora of the data that it is given, such as `source.open_source` with all else bound.

    Raises:
      UserError: a row length has no corpus, or a corpus has no row length; and what `open_source` raises.
    """
    planned = _planned(config)
    _refuse_unused(config)
    sources: dict[int, Source] = {}
    dealt: dict[int, buckets.Buckets] = {}
    stages = []
    for first, last, data in planned:
        length = data.length
        if length not in sources:
            # Which of `data.buckets` are filled depends on the batch; the largest decides for all.
            most = max(other.batch_rows for _, _, other in planned if other.length == length)
            sources[length] = open_source(of_length(config, dataclasses.replace(data, batch_rows=most)))
            dealt[length] = buckets.open_buckets(sources[length])
        drawn = buckets.with_batches(dealt[length], sources[length].data.batch_rows, data.batch_rows)
        stages.append(Stage(first, last, sources[length], drawn))
        dealt[length] = dataclasses.replace(dealt[length], before=buckets.taken(drawn, last - first + 1))
    return tuple(stages)


def _planned(config: Pretrain) -> list[tuple[int, int, Data]]:
    """First step, last step and data of each stage; stages that differ in the model alone are one here."""
    planned: list[tuple[int, int, Data]] = []
    for first, last, stage in schedule.stages(config):
        if planned and planned[-1][2] == stage.data:
            first, _, _ = planned.pop()
        planned.append((first, last, stage.data))
    return planned


# --- Corpora of a length ---------------------------------------------------------------------------------------------


def _lengths(config: Pretrain) -> list[int]:
    return sorted({length for _, length in schedule.values_of(config, "data.length")})


def of_length(config: Pretrain, data: Data | None = None) -> Data:
    """The data with those corpora, and their weights, that were built for its row length; all without `run.lengths`.

    Args:
      config: of the run.
      data: of a stage; None: that of the last one, which evaluation reads.

    Raises:
      UserError: there is none.
    """
    data = config.data if data is None else data
    if not config.run.lengths or not data.corpus:
        return data
    chosen = [place for place, folder in enumerate(data.corpus) if _length_of(folder) == data.length]
    if not chosen:
        raise UserError(
            f"corpus: run.lengths needs a corpus for rows of {data.length} tokens, and none of "
            f"{', '.join(data.corpus)} is one; build it with `bertlite corpus --length {data.length}` and add it to "
            "data.corpus"
        )
    weights = tuple(data.weights[place] for place in chosen) if data.weights else ()
    return dataclasses.replace(data, corpus=tuple(data.corpus[place] for place in chosen), weights=weights)


def _length_of(folder: str) -> int:
    return read_meta(os.fspath(folder))["length"]


def _refuse_unused(config: Pretrain) -> None:
    lengths = _lengths(config)
    for folder in config.data.corpus if config.run.lengths else ():
        if _length_of(folder) not in lengths:
            raise UserError(
                f"corpus: {folder} was built for rows of {_length_of(folder)} tokens, and the run has rows of "
                f"{' and '.join(map(str, lengths))}; leave it out of data.corpus"
            )


# --- Looking up a step -----------------------------------------------------------------------------------------------


def _stage_of(stages: Stages, step: int) -> Stage:
    return next(stage for stage in reversed(stages) if stage.first <= max(step, 1))


def data_at(stages: Stages, step: int) -> Data:
    """The row length, the batch rows and the corpora of a step."""
    return rows_of(stages, step)[0].data


def rows_of(stages: Stages, step: int) -> tuple[Source, Int64[np.ndarray, " B"]]:
    """The source of a step and the numbers of its rows there."""
    stage = _stage_of(stages, step)
    return buckets.rows_of(stage.buckets, step - stage.first + 1)


def batch_at(stages: Stages, step: int, process_index: int = 0, process_count: int = 1) -> batches.Batch:
    """The rows of a step that belong to this process, as of `batches.batch_at`; B and L depend on the step."""
    return batches.part_of(*rows_of(stages, step), process_index, process_count)
