"""Rows to mask, and what the compiled masking makes of them."""

import functools
import math

import jax
import numpy as np

from bertlite_jax.config.pretrain import Mask
from bertlite_jax.data.rows.batches import Batch, empty_batch
from bertlite_jax.train.pretraining import masking

PAD, UNK, CLS, SEP, MASK = 0, 1, 2, 3, 4
SPECIAL = (PAD, UNK, CLS, SEP, MASK)


# --- Rows ------------------------------------------------------------------------------------------------------------


def pack(rows, length: int = 128, windows: int = 8) -> Batch:
    """A batch from rows of windows of (tokens, word starts) pairs: [CLS] A [SEP] B [SEP], or without B."""
    names = ("tokens", "segments", "token_types", "word_starts")
    batch = empty_batch(len(rows), length, windows)
    batch["rows"][:] = np.arange(len(rows))
    for b, row in enumerate(rows):
        at = 0
        for number, parts in enumerate(row, start=1):
            pieces = [([CLS], [0], 0)]
            for kind, (ids, starts) in enumerate(parts):
                pieces += [(ids, starts, kind), ([SEP], [0], kind)]
            for ids, starts, kind in pieces:
                place = slice(at, at + len(ids))
                at += len(ids)
                for name, value in zip(names, (ids, number, kind, starts), strict=True):
                    batch[name][b, place] = value
        assert at <= length
    return batch


def windows_from(ids, starts, sizes, pairs=True):
    """Cuts a long text into windows of these sizes, special tokens included, each into two parts at a word start."""
    ids, starts, at = np.asarray(ids), np.asarray(starts, np.int32), 0
    for size in sizes:
        size = min(size - 3, len(ids) - at)
        inner = np.flatnonzero(starts[at : at + size][1:]) + 1
        cut = int(inner[len(inner) // 2]) if pairs and len(inner) else size
        parts = [(ids[at : at + cut], starts[at : at + cut]), (ids[at + cut : at + size], starts[at + cut : at + size])]
        yield parts if cut < size else parts[:1]
        at += size


def text_batch(ids, starts, rows: int = 8, length: int = 128, seed: int = 0) -> Batch:
    """Rows that hold one to four windows of the text; some leave padding."""
    rng, packed = np.random.default_rng(seed), []
    sizes = [
        rng.multinomial(length - 8 * n - rng.integers(0, 30), np.ones(n) / n) + 8 for n in rng.integers(1, 5, rows)
    ]
    windows = windows_from(ids, starts, [size for row in sizes for size in row])
    for row in sizes:
        packed.append([next(windows) for _ in row])
    return pack(packed, length)


def plain_window(size, first=100):
    """A window of `size` real tokens whose words are single tokens."""
    n = size - 3
    ids = np.arange(first, first + n)
    return [(ids[: n // 2], np.ones(n // 2)), (ids[n // 2 :], np.ones(n - n // 2))]


def random_batch(rows: int = 64, length: int = 128, seed: int = 0, continuation: float = 0.25) -> Batch:
    """Full rows of one to four windows over random ids, a quarter of them inside words, unknown pieces among them."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, 30_000, rows * length)
    ids[rng.random(len(ids)) < 0.01] = UNK
    return text_batch(ids, rng.random(len(ids)) >= continuation, rows, length, seed)


# --- Masked ----------------------------------------------------------------------------------------------------------


def slots_for(config: Mask, length: int, windows: int = 8) -> int:
    """K, by the formula."""
    return math.ceil(config.rate * length) + windows


@functools.cache
def compiled(
    config: Mask, slots: int, vocab_size: int = 30_000, special: tuple[int, ...] = SPECIAL, mask_id: int = MASK
):
    """`mask_batch` under jit, once for each setting."""
    return jax.jit(
        lambda key, batch: masking.mask_batch(key, batch, config, slots, vocab_size, special, mask_id),
    )


def mask(batch: Batch, config: Mask, seed: int = 0, **settings) -> masking.Masked:
    """`mask_batch` as numpy arrays. Padded with empty rows to a multiple of 64, so that few shapes are compiled."""
    slots = slots_for(config, batch["tokens"].shape[1], batch["cls"].shape[1])
    rows = len(batch["rows"])
    padded = {name: np.pad(v, [(0, -rows % 64)] + [(0, 0)] * (v.ndim - 1)) for name, v in batch.items()}
    masked = compiled(config, slots, **settings)(jax.random.key(seed), padded)
    return jax.tree.map(lambda values: np.asarray(values)[:rows], masked)


def places(masked: masking.Masked, row: int) -> np.ndarray:
    """Predicted places of one row."""
    return np.asarray(masked.positions)[row][np.asarray(masked.weights)[row] > 0]
