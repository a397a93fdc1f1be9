"""Where a window is cut into a pair A|B, which order or which B it gets, and whether its edges give that away.

An edge is of kind S (a sentence boundary) or of kind M (in mid-sentence, at a word start). The pair of a window has
four edges: the two of A and the two of B. They are all of one kind, so no rule that looks at the edges alone can tell
a swapped pair from one in order. A pair is also cut at a place that looks like the outer edges: where the window opens
with a capital, B does too, and where it closes with a comma, A does too (`token_kinds`). A window without such a place
gets no pair, unless the option `single_segment` says otherwise.

Letters: W windows, T tokens of all of them, N windows of a corpus, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int32, Int64, Integer, UInt64

from bertlite_jax.config.pair_tasks import pair_classes
from bertlite_jax.data.corpus.boundaries import (
    INSIDE,
    SENTENCE,
    Boundaries,
    Windows,
    bounds_of_pairs,
    draw,
    find_boundaries,
    last_boundary,
    only_between,
    pick_boundary,
)

# --- Cutting ---------------------------------------------------------------------------------------------------------

CUT, LABEL, TRIM, DONOR = 1, 2, 3, 16
"""Purposes of the draws; DONOR and those behind it belong to the tries."""


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Two parts for each of W windows, as places in a pool of tokens. A part of length 0 is absent."""

    tokens: Int32[np.ndarray, " T"]
    """The windows' own tokens, behind them those of other documents that were drawn as B."""
    word_starts: Bool[np.ndarray, " T"]
    a_start: Int64[np.ndarray, " W"]
    a_length: Int64[np.ndarray, " W"]
    b_start: Int64[np.ndarray, " W"]
    b_length: Int64[np.ndarray, " W"]
    labels: Int32[np.ndarray, " W"]
    """0 in order; 1 swapped (sop), random (nsp), previous (three_way); 2 random (three_way)."""
    weights: Int32[np.ndarray, " W"]
    """1 for a real pair, 0 for a window without one."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """How pairs are made, apart from the draws."""

    task: str
    """`sop`, `nsp`, `three_way` or `none`."""
    single_segment: str
    """For windows without a fitting place to cut. `drop`: one segment, weight 0. The others cut at any boundary of the
    window's kind, else at any word start, which may give the order away: `split` goes on as usual; `reference` takes a
    random B, label 1 (2 for three_way), where it was a word start."""
    kinds: Int64[np.ndarray, " V"]
    """What an edge shows of each token (`token_kinds`); all 0 where that is not known."""
    other_windows: Callable[[Int64[np.ndarray, " W"]], Windows]
    """Reads windows of the same corpus by number."""
    sizes: Integer[np.ndarray, " N"]
    """Tokens of every window of that corpus."""


def make_pairs(
    windows: Windows,
    pair_lengths: Integer[np.ndarray, " W"],
    rests: Bool[np.ndarray, " W"],
    keys: UInt64[np.ndarray, " W"],
    rules: Rules,
) -> Pairs:
    """Cuts windows into pairs, swaps them or replaces their B, all by draws from `keys`.

    Tasks with a random B first take up to three tokens off the end of every pair in mid-sentence, whatever its label:
    a random B must end at a boundary and must not be longer than the true one, so it is often a little shorter, and
    pairs that fill their row would all be true ones.

    Args:
      windows: W windows.
      pair_lengths: tokens of each window's pair.
      rests: whether to take what the pair leaves of the window, as one segment, in place of the pair.
      keys: from `window_keys`.
      rules: how pairs are made.

    Source: Lan et al. 2020 (arXiv 1909.11942), section 3.1; Devlin et al. 2019 (arXiv 1810.04805), section 3.1; Wang
    et al. 2020 (StructBERT, arXiv 1908.04577), section 2.2; google-research/albert:create_pretraining_data.py.
    """
    n, offsets = np.diff(windows.offsets), windows.offsets[:-1]
    if rules.task == "none":
        none, zeros = np.zeros_like(n), np.zeros(len(n), np.int32)
        return Pairs(windows.tokens, windows.word_starts, offsets, n, offsets, none, zeros, zeros)
    start, stop, kind = bounds_of_pairs(windows, pair_lengths, rests)
    bounds = find_boundaries(windows, kind)
    if rules.task != "sop":
        short = last_boundary(bounds, start, stop - draw(keys, TRIM, np.minimum(4, np.maximum(0, stop - start - 8))))
        stop = np.where((kind == INSIDE) & (short > start), short, stop)
    cut, single = _cut(windows, bounds, start, stop, rests, keys, rules)
    weights = (cut > 0).astype(np.int32)
    cut = np.where(cut > 0, cut, stop)
    labels = draw(keys, LABEL, pair_classes(rules.task))
    random = (labels == pair_classes(rules.task) - 1) & (rules.task != "sop")
    if rules.single_segment == "reference":
        labels, random = np.where(single, 1 if rules.task != "three_way" else 2, labels), random | single
    labels, random = (labels * weights).astype(np.int32), random & (weights > 0)
    swap = (labels == 1) & ~random & (rules.task != "nsp")
    a_start, b_start = np.where(swap, cut, start) + offsets, np.where(swap, start, cut) + offsets
    a_length, b_length = np.where(swap, stop - cut, cut - start), np.where(swap, cut - start, stop - cut)
    pairs = Pairs(windows.tokens, windows.word_starts, a_start, a_length, b_start, b_length, labels, weights)
    wanted = np.where((kind == SENTENCE) & ~single, SENTENCE, INSIDE)
    return _with_random_b(pairs, np.flatnonzero(random), windows.documents, wanted, keys, rules)


def _cut(
    windows: Windows,
    bounds: Boundaries,
    start: Int64[np.ndarray, " W"],
    stop: Int64[np.ndarray, " W"],
    rests: Bool[np.ndarray, " W"],
    keys: UInt64[np.ndarray, " W"],
    rules: Rules,
) -> tuple[Int64[np.ndarray, " W"], Bool[np.ndarray, " W"]]:
    """Where each window is cut (-1: not at all), and whether no place was fitting."""
    shown, offsets, drawn = rules.kinds[windows.tokens], windows.offsets[:-1], (keys, CUT)
    like_edges = only_between(bounds, shown, before=shown[offsets + stop - 1], after=shown[offsets + start])
    # Where nothing is swapped the edges may differ: a random B gets those of the true one.
    cut = pick_boundary(bounds if rules.task == "nsp" else like_edges, start, stop, drawn)
    if rules.single_segment != "drop":
        cut = np.where(cut < 0, pick_boundary(bounds, start, stop, drawn), cut)
    single = (cut < 0) & ~rests
    if rules.single_segment != "drop" and single.any():
        anywhere = dataclasses.replace(windows, ends=windows.ends[:0], end_offsets=np.zeros_like(windows.end_offsets))
        words = find_boundaries(anywhere, np.full(len(start), INSIDE))
        cut = np.where(single, pick_boundary(words, start, stop, drawn), cut)
    return cut, single


def _with_random_b(
    pairs: Pairs,
    pending: Int64[np.ndarray, " R"],
    documents: Int64[np.ndarray, " W"],
    kinds: Int64[np.ndarray, " W"],
    keys: UInt64[np.ndarray, " W"],
    rules: Rules,
) -> Pairs:
    """Replaces B of the pairs numbered `pending`. One that finds none in twelve tries stays true, with weight 0."""
    b_start, b_length = pairs.b_start.copy(), pairs.b_length.copy()
    labels, weights = pairs.labels.copy(), pairs.weights.copy()
    tokens, word_starts, pool = [pairs.tokens], [pairs.word_starts], len(pairs.tokens)
    shown = rules.kinds[pairs.tokens]
    for attempt in range(12):
        if not pending.size:
            break
        drawn = keys[pending] + np.uint64(attempt)
        limit = b_length[pending]
        donors = rules.other_windows(_long_enough(drawn, rules.sizes, limit))
        first, last = shown[b_start[pending]], shown[b_start[pending] + limit - 1]
        start, length = _longest_part(donors, kinds[pending], limit, first, last, rules.kinds[donors.tokens])
        # A much shorter part is good enough only when nothing better turns up.
        enough = length >= (limit - 2 if attempt < 4 else limit // 2 if attempt < 8 else 1)
        good = enough & (length > 0) & (donors.documents != documents[pending])
        b_start[pending[good]] = (pool + donors.offsets[:-1] + start)[good]
        b_length[pending[good]] = length[good]
        tokens.append(donors.tokens)
        word_starts.append(donors.word_starts)
        pool += len(donors.tokens)
        pending = pending[~good]
    labels[pending] = 0
    weights[pending] = 0
    return dataclasses.replace(
        pairs,
        tokens=np.concatenate(tokens),
        word_starts=np.concatenate(word_starts),
        b_start=b_start,
        b_length=b_length,
        labels=labels,
        weights=weights,
    )


def _long_enough(
    keys: UInt64[np.ndarray, " W"], sizes: Integer[np.ndarray, " N"], wanted: Int64[np.ndarray, " W"]
) -> Int64[np.ndarray, " W"]:
    """For each key a window: of sixteen drawn, the first with room for `wanted` tokens and a choice of where."""
    candidates = np.stack([draw(keys, DONOR + attempt, len(sizes)) for attempt in range(16)], axis=1)
    room = np.minimum(sizes[candidates].astype(np.int64) - wanted[:, None], 64)
    return candidates[np.arange(len(keys)), room.argmax(axis=1)]


def _longest_part(
    donors: Windows,
    kinds: Int64[np.ndarray, " W"],
    limit: Int64[np.ndarray, " W"],
    first: Int64[np.ndarray, " W"],
    last: Int64[np.ndarray, " W"],
    shown: Int64[np.ndarray, " T"],
) -> tuple[Int64[np.ndarray, " W"], Int64[np.ndarray, " W"]]:
    """Start and length (0: there is none) of the longest part of each window that could be a B.

    It has at most `limit` tokens, lies between boundaries of `kinds`, and its outer tokens show `first` and `last`.
    """
    bounds = find_boundaries(donors, kinds)
    starts, stops = only_between(bounds, shown, after=first), only_between(bounds, shown, before=last)
    owner = np.searchsorted(starts.bases, starts.places, side="right") - 1
    # For every start the last stop that is near enough; a stop of an earlier window means that there is none.
    near = np.searchsorted(stops.places, starts.places + limit[owner], side="right") - 1
    limits = starts.bases[owner + 1] - 1
    beyond = np.searchsorted(stops.places, limits, side="right") - 1
    stop = np.append(stops.places, -1)[np.minimum(near, beyond)]
    length = np.maximum(stop - starts.places, 0) * (np.minimum(near, beyond) >= 0)
    order = np.lexsort((length, owner))
    best = np.searchsorted(owner[order], np.arange(len(limit)), side="right") - 1
    chosen = np.append(order, 0)[best]
    known = (best >= 0) & (np.append(owner, -1)[chosen] == np.arange(len(limit)))
    places = np.append(starts.places, 0)[chosen]
    return np.where(known, places - starts.bases[:-1], 0), np.where(known, np.append(length, 0)[chosen], 0)


# --- What the edges give away ----------------------------------------------------------------------------------------

FINAL = frozenset(".!?…。！？｡")
EDGE_KINDS = ("other", "sentence end", "other punctuation", "capital", "digit")


def token_kinds(pieces: list[str]) -> Int64[np.ndarray, " V"]:
    """What an edge shows of each piece: an index into EDGE_KINDS."""
    kinds = np.zeros(len(pieces), np.int64)
    for index, piece in enumerate(pieces):
        text = piece.lstrip("▁Ġ#") or piece[-1:]
        if text[-1:] in FINAL:
            kinds[index] = 1
        elif text and not text[0].isalnum():
            kinds[index] = 2
        elif text[:1].isupper():
            kinds[index] = 3
        elif text[:1].isdigit():
            kinds[index] = 4
    return kinds


def pair_edges(
    batch: dict[str, np.ndarray], kinds: Int64[np.ndarray, " V"]
) -> tuple[Int64[np.ndarray, "W 4"], Integer[np.ndarray, " W"]]:
    """The kinds of the four edge tokens of every real pair in a batch, read from the batch alone.

    Args:
      batch: as `batches.batch_at` gives it.
      kinds: of each token (`token_kinds`).

    Returns:
      Edges (first and last of A, first and last of B), and labels.
    """
    rows, column = np.nonzero(batch["pair_weights"])
    # cls is the index in the row; A opens behind it.
    opens = batch["cls"][rows, column].astype(np.int64)
    same = batch["segments"][rows] == (column + 1)[:, None]
    second = same & (batch["token_types"][rows] == 1)
    size, b_size = same.sum(axis=1), second.sum(axis=1)
    places = np.stack([opens + 1, opens + size - b_size - 2, opens + size - b_size, opens + size - 2], axis=1)
    return kinds[batch["tokens"][rows[:, None], places]], batch["pair_labels"][rows, column]


def edge_rule_accuracy(edges: Integer[np.ndarray, "W 4"], labels: Integer[np.ndarray, " W"]) -> float:
    """How often the best table of edges names the label; about the most frequent label's share if they tell nothing.

    For each subset of the four edges, a table from their kinds to the most frequent label is fitted on every other
    pair and scored on the rest. The highest score of all subsets is returned, so it errs on the high side.

    Args:
      edges: from `pair_edges`.
      labels: of the pairs.

    Returns:
      Share in 0..1; nan for fewer than two pairs.
    """
    if len(labels) < 2:
        return float("nan")
    base, classes = int(edges.max()) + 1, int(labels.max()) + 1
    prior = np.bincount(labels[::2], minlength=classes)
    best = 0.0
    for subset in range(1, 16):
        cell = np.zeros(len(labels), np.int64)
        for edge in range(4):
            if subset >> edge & 1:
                cell = cell * base + edges[:, edge]
        _, cell = np.unique(cell, return_inverse=True)
        table = np.zeros((int(cell.max()) + 1, classes))
        np.add.at(table, (cell[::2], labels[::2]), 1)
        # Cells that were not seen, and ties, fall to the more frequent label.
        guess = (table + prior / (prior.sum() + 1)).argmax(axis=1)
        best = max(best, float((guess[cell[1::2]] == labels[1::2]).mean()))
    return best
