"""Opening corpora, and which of their windows stand in which row of the endless sequence of rows.

Every corpus is packed by itself, so a row holds windows of one corpus. Its rows form an endless sequence: pass after
pass over all its windows, shuffled anew each time. A virtual epoch takes the next rows of each corpus, as many as its
weight says, in shuffled order; without weights it takes one pass of each.

What is packed are *parts* of windows: the pair of every window, and the rest of those windows whose edges had to be
trimmed for the pair (a segment without a pair, so that no text is lost and the gaps in the rows are filled).

Letters: B rows, P windows a row at most, N windows of a corpus, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import threading
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, Int64, UInt16

from bertlite_jax.config.pretrain import Data
from bertlite_jax.data.corpus.folder import on_disk, read_array, read_meta
from bertlite_jax.data.corpus.records import Records, open_records
from bertlite_jax.data.rows import packing
from bertlite_jax.data.rows.pairs import token_kinds
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer
from bertlite_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Corpus:
    """One split of one corpus folder."""

    folder: str
    meta: dict[str, Any]
    """corpus.json."""
    records: Records
    lengths: UInt16[np.ndarray, "N 2"]
    """Tokens in the window, tokens in its pair; no special tokens."""
    rests: Int[np.ndarray, " rests"]
    """The windows whose pair leaves something. Part p is the pair of window p, or for p >= N the rest of window
    rests[p - N]."""
    slots: UInt16[np.ndarray, " parts"]
    """What each part needs in a row, special tokens included."""
    packing: packing.Packing
    rows_per_epoch: int
    """Its rows in a virtual epoch."""
    chosen: Int[np.ndarray, " parts"] | None = None
    """Where only some parts are packed: their numbers; `slots` and `packing` are theirs."""


@dataclasses.dataclass(frozen=True)
class Source:
    """All that a batch depends on besides the step. Safe to use from several threads."""

    data: Data
    split: str
    seed: int
    corpora: tuple[Corpus, ...]
    special_ids: dict[str, int]
    vocab_size: int
    kinds: Int64[np.ndarray, " V"]
    """What an edge shows of each token (`pairs.token_kinds`); all 0 without a tokenizer."""
    orders: dict[tuple[int, ...], tuple[np.ndarray, ...]] = dataclasses.field(default_factory=dict, repr=False)
    """Orders of the last few passes and epochs; they only save time."""
    lock: Any = dataclasses.field(default_factory=threading.Lock, repr=False)


# --- Opening ---------------------------------------------------------------------------------------------------------


def open_source(
    data: Data, split: Literal["train", "validation"], seed: int, loaded: Tokenizer | None = None
) -> Source:
    """Opens the corpora of a config and plans their rows.

    Args:
      data: its `corpus`, `weights`, `length`, `pack`, `windows_per_row`, `pair_task` and `single_segment` matter; with
        a `tokenizer`, pairs are also cut where the punctuation and capitals look like those at the window's edges.
      split: on `validation` the weights are ignored: each window counts once.
      seed: of the order of the windows and of the pairs.
      loaded: the tokenizer of `data.tokenizer`, if the caller has loaded it already.

    Raises:
      UserError: a folder is not a finished corpus, is damaged, or the corpora do not fit together or into the rows.
    """
    if not data.corpus:
        raise UserError("corpus: data.corpus is empty; pass --data.corpus DIR, a folder that `bertlite corpus` made")
    opened = [_open_corpus(folder, data, split) for folder in data.corpus]
    first = opened[0].meta
    for corpus in opened[1:]:
        for name in ("tokenizer_hash", "special_ids", "vocab_size"):
            if corpus.meta[name] != first[name]:
                raise UserError(
                    f"corpus: {corpus.folder} and {opened[0].folder} differ in {name}; build both with one tokenizer"
                )
    weights = data.weights if split == "train" else ()
    if weights and len(weights) != len(opened):
        raise UserError(f"corpus: data.weights has {len(weights)} numbers for {len(opened)} corpora")
    corpora = tuple(
        dataclasses.replace(corpus, rows_per_epoch=rows)
        for corpus, rows in zip(opened, _row_shares(opened, weights), strict=True)
    )
    return Source(
        data=data,
        split=split,
        seed=seed,
        corpora=corpora,
        special_ids=first["special_ids"],
        vocab_size=first["vocab_size"],
        kinds=_edge_kinds(data, opened[0], loaded),
    )


def _edge_kinds(data: Data, corpus: Corpus, loaded: Tokenizer | None) -> Int64[np.ndarray, " V"]:
    if not data.tokenizer:
        return np.zeros(corpus.meta["vocab_size"], np.int64)
    loaded = loaded or load_tokenizer(data.tokenizer)
    if loaded.hash != corpus.meta["tokenizer_hash"]:
        raise UserError(
            f"corpus: {corpus.folder} was not built with the tokenizer {data.tokenizer}; build it again, or pass the "
            "tokenizer that it was built with"
        )
    return token_kinds(loaded.pieces(np.arange(loaded.vocab_size)))


def _row_shares(corpora: list[Corpus], weights: tuple[float, ...]) -> list[int]:
    """Rows of each corpus in a virtual epoch, which has about as many windows as all corpora together."""
    if not weights:
        return [corpus.packing.rows for corpus in corpora]
    windows = sum(len(corpus.lengths) for corpus in corpora)
    wanted = [windows * weight / sum(weights) for weight in weights]
    return [
        max(1, round(share * corpus.packing.rows / len(corpus.lengths)))
        for share, corpus in zip(wanted, corpora, strict=True)
    ]


def _open_corpus(folder: str, data: Data, split: str) -> Corpus:
    folder = os.fspath(on_disk(folder))
    meta = read_meta(folder)
    if meta["length"] > data.length:
        raise UserError(
            f"corpus: {folder} has windows for rows of {meta['length']} tokens, but data.length = {data.length}; "
            f"set --data.length {meta['length']} or build it with --length {data.length}"
        )
    if not meta["splits"].get(split, {}).get("windows"):
        hint = " or sentences, and not with --validation-fraction 0" if split == "validation" else ""
        raise UserError(f"corpus: {folder} has no windows in the split {split}; build it from more documents{hint}")
    lengths = read_array(pathlib.Path(folder) / f"{split}.lengths.npy", columns=2)
    records = open_records(folder, split, meta["vocab_size"])
    if len({len(lengths), int(records.starts[-1]), meta["splits"][split]["windows"]}) > 1:
        raise UserError(
            f"corpus: {folder} is damaged: the split {split} has {records.starts[-1]} records, {len(lengths)} lengths "
            f"and should have {meta['splits'][split]['windows']}; build it again"
        )
    if lengths.min() < 1 or lengths.max() > meta["length"] - 3 or (lengths[:, 1] > lengths[:, 0]).any():
        raise UserError(f"corpus: {folder} is damaged: {split}.lengths.npy has impossible lengths; build it again")
    rests, slots = rests_and_slots(lengths, data.pair_task != "none")
    plan = packing.plan_rows(slots, data.length, data.window_slots)
    return Corpus(folder, meta, records, lengths, rests, slots, plan, plan.rows)


def rests_and_slots(
    lengths: UInt16[np.ndarray, "N 2"], pairs: bool
) -> tuple[Int[np.ndarray, " rests"], UInt16[np.ndarray, " parts"]]:
    """What is packed of windows: `Corpus.rests` and `Corpus.slots`.

    Args:
      lengths: `Corpus.lengths`.
      pairs: whether windows are cut into pairs.
    """
    # A whole window takes [CLS] and [SEP]; a pair one [SEP] more.
    rests = np.flatnonzero(lengths[:, 1] < lengths[:, 0] if pairs else [])
    slots = lengths[:, 1] + 3 if pairs else lengths[:, 0] + 2
    slots = np.concatenate([slots, lengths[rests, 0] - lengths[rests, 1] + 2]).astype(np.uint16)
    return rests.astype(packing.index_type(len(lengths))), slots


# --- Which windows stand where ---------------------------------------------------------------------------------------


def rows_per_epoch(source: Source) -> int:
    """Rows until each window was seen once (with weights: rows of a virtual epoch). The same for every epoch."""
    return sum(corpus.rows_per_epoch for corpus in source.corpora)


def _orders_of(source: Source, key: tuple[int, ...]) -> tuple[Int[np.ndarray, " _"], ...]:
    """Orders by key: (epoch,): rows of the epoch; (corpus, pass): its parts and its rows."""
    with source.lock:
        if key not in source.orders:
            if len(key) == 1:
                orders = (packing.order_rows(rows_per_epoch(source), source.seed, *key),)
            else:
                corpus = source.corpora[key[0]]
                orders = (
                    packing.order_windows(corpus.slots, source.seed, *key),
                    packing.order_rows(corpus.packing.rows, source.seed, *key),
                )
            while len(source.orders) >= 4 * (len(source.corpora) + 1):
                source.orders.pop(next(iter(source.orders)))
            source.orders[key] = orders
        return source.orders[key]


def parts_of(
    source: Source, numbers: Int64[np.ndarray, " B"]
) -> tuple[Int64[np.ndarray, " B"], Int64[np.ndarray, "B P"], Int64[np.ndarray, " B"]]:
    """Which parts of windows stand in these rows of the endless sequence.

    Args:
      source: where the rows come from.
      numbers: of rows, from 0.

    Returns:
      (corpus of each row; its parts, -1 where there is none; pass over that corpus).
    """
    epoch_rows = rows_per_epoch(source)
    epochs = numbers // epoch_rows
    places = np.zeros_like(numbers)
    for epoch in np.unique(epochs).tolist():
        (order,) = _orders_of(source, (epoch,))
        places[epochs == epoch] = order[numbers[epochs == epoch] % epoch_rows]
    ends = np.cumsum([corpus.rows_per_epoch for corpus in source.corpora])
    corpora = np.searchsorted(ends, places, side="right")
    passes = np.zeros_like(numbers)
    parts = np.full((len(numbers), source.data.window_slots), -1, np.int64)
    for index, corpus in enumerate(source.corpora):
        # Rows of this corpus form an endless sequence of their own: pass after pass over all its windows.
        mine = np.flatnonzero(corpora == index)
        if not mine.size:
            continue
        sequence = epochs[mine] * corpus.rows_per_epoch + places[mine] - (ends[index] - corpus.rows_per_epoch)
        passes[mine] = sequence // corpus.packing.rows
        for number in np.unique(passes[mine]).tolist():
            order, rows = _orders_of(source, (index, number))
            these = passes[mine] == number
            wanted = rows[sequence[these] % corpus.packing.rows]
            placed = packing.windows_of_rows(corpus.packing, order, wanted)
            if corpus.chosen is not None:
                placed = np.where(placed < 0, placed, corpus.chosen[placed])
            parts[mine[these]] = placed
    return corpora, parts, passes


def windows_of(
    source: Source, numbers: Int64[np.ndarray, " B"]
) -> tuple[Int64[np.ndarray, " B"], Int64[np.ndarray, "B P"], Int64[np.ndarray, " B"]]:
    """As `parts_of`, with the number of the window in place of its part's."""
    corpora, windows, passes = parts_of(source, numbers)
    for index, corpus in enumerate(source.corpora):
        rest = (windows >= len(corpus.lengths)) & (corpora == index)[:, None]
        windows[rest] = corpus.rests[windows[rest] - len(corpus.lengths)]
    return corpora, windows, passes
