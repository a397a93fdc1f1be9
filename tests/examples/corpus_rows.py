"""Sources and rows of synthetic corpora, for the tests of `data/rows/`."""

from typing import Any, Literal

import numpy as np

from bertlite_jax.config.pretrain import Data
from bertlite_jax.data.rows import batches, source

LENGTH, ROWS = 64, 16
PAD, CLS, SEP = 0, 2, 3

Corpus = tuple[str, list[dict]]
"""A folder, and the windows of its training split."""


def opened(corpus: Corpus, seed: int = 0, split: Literal["train", "validation"] = "train", **fields) -> source.Source:
    """The source of a corpus, with these fields of `Data`."""
    values: dict[str, Any] = {"corpus": fields.pop("folders", (corpus[0],)), "length": LENGTH} | fields
    return source.open_source(Data(**values), split, seed)


def same(first: batches.Batch, other: batches.Batch) -> bool:
    """Whether two batches have the same arrays."""
    return first.keys() == other.keys() and all(np.array_equal(first[name], other[name]) for name in first)


def segments_of(batch: batches.Batch) -> list[tuple[list[int], list[int]]]:
    """(A, B) of every window in the batch, without special tokens; read from the batch alone."""
    found = []
    for row in range(len(batch["tokens"])):
        for segment in range(1, batch["segments"][row].max() + 1):
            here = batch["segments"][row] == segment
            tokens, types = batch["tokens"][row][here], batch["token_types"][row][here]
            assert tokens[0] == CLS
            assert tokens[-1] == SEP
            assert types[0] == 0
            a = tokens[types == 0][1:]
            assert a[-1] == SEP
            found.append((a[:-1].tolist(), tokens[types == 1][:-1].tolist()))
    return found


def epoch(opened_source: source.Source, number: int = 0) -> list[tuple[list[int], list[int]]]:
    """(A, B) of every window in the rows of an epoch, from 0."""
    rows = source.rows_per_epoch(opened_source)
    return segments_of(batches.rows_at(opened_source, np.arange(number * rows, (number + 1) * rows)))
