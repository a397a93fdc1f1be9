"""Where a window is cut into a pair A|B, which order or which B it gets, and whether its edges give that away.

An edge is of kind S (a sentence boundary) or of kind M (in mid-sentence, at a word start). The pair of a window has
four edges: the two of A and the two of B. They are all of one kind, so no rule that looks at the edges alone can tell
a swapped pair from one in order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from bertlite_jax.data.records import Windows


def pair_span(n: int, word_starts: np.ndarray, sentence_ends: np.ndarray) -> tuple[int, int]:
    """The part of a window that its pair is made of; its two edges are of one kind wherever that is possible.

    A window that opens at a sentence boundary and closes in mid-sentence (the first one of a long document), or the
    other way round (its last one), would give the order away whatever the cut. Its edge at the sentence boundary moves
    inwards to the word start nearest to the middle of that sentence. Where no word starts inside that sentence the
    window stays whole, and its pair is dropped later.

    Args:
      n: tokens in the window.
      word_starts: [n] bool; a word starts at this token.
      sentence_ends: [E] integers, strictly increasing offsets in 0..n; 0 is there if the window opens with a new
        sentence, n if it closes with a complete one.

    Returns:
      (start, stop) with 0 <= start < stop <= n; (0, 0) for an empty window.
    """
    ends = np.asarray(sentence_ends)
    opens = bool(ends.size) and int(ends[0]) == 0
    closes = bool(ends.size) and int(ends[-1]) == n
    if n == 0 or opens == closes:
        return 0, n
    if opens:
        first, last = 0, int(ends[1]) if ends.size > 1 else n
    else:
        first, last = int(ends[-2]) if ends.size > 1 else 0, n
    inside = np.flatnonzero(np.asarray(word_starts)[first + 1 : last]) + first + 1
    if not inside.size:
        return 0, n
    edge = int(inside[np.argmin(np.abs(2 * inside - (first + last)))])
    return (edge, n) if opens else (0, edge)


# --- Choices that depend on numbers alone ----------------------------------------------------------------------------


def window_keys(windows: np.ndarray, *numbers: np.ndarray | int) -> np.ndarray:
    """One 64-bit key a window, a function of its number and of `numbers` (seed, corpus, pass).

    Args:
      windows: [W] integers.
      numbers: integers, or [W] integers.

    Returns:
      [W] uint64. Source of the mixing: splitmix64 (Steele et al. 2014, OOPSLA).
    """
    keys = np.zeros(len(windows), np.uint64)
    for number in (*numbers, windows):
        value = number % 2**64 if isinstance(number, int) else np.asarray(number).astype(np.uint64)
        keys = _mix(keys + np.uint64(0x9E3779B97F4A7C15) + np.broadcast_to(np.asarray(value, np.uint64), keys.shape))
    return keys


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def draw(keys: np.ndarray, purpose: int, counts: np.ndarray | int) -> np.ndarray:
    """One number in 0..count - 1 for each key; [W] int64, 0 where the count is 0. Integers only, no state."""
    high = _mix(keys + np.uint64(purpose * 0xD1342543DE82EF95 % 2**64)) >> np.uint64(32)
    return ((high * np.asarray(counts, np.uint64)) >> np.uint64(32)).astype(np.int64)


# --- Cutting ---------------------------------------------------------------------------------------------------------

SENTENCE, INSIDE, MIXED = 0, 1, 2
"""Kinds of a window: both edges at sentence boundaries; both in mid-sentence; one of each."""


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Two parts for each of W windows, as places in a pool of tokens. A part of length 0 is absent."""

    tokens: np.ndarray
    """[T'] int32: the windows' own tokens, behind them those of other documents that were drawn as B."""
    word_starts: np.ndarray
    """[T'] bool."""
    a_start: np.ndarray
    a_length: np.ndarray
    b_start: np.ndarray
    b_length: np.ndarray
    """[W] int64 each."""
    labels: np.ndarray
    """[W] int32: 0 in order; 1 swapped (sop), random (nsp), previous (three_way); 2 random (three_way)."""
    weights: np.ndarray
    """[W] int32: 1 for a real pair, 0 for a window without one."""


def spans(windows: Windows, span_lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pair span of each window, from its stored length, and its kind.

    Args:
      windows: W windows.
      span_lengths: [W] integers: tokens of the span (`pair_span`).

    Returns:
      (start [W], stop [W], kind [W]).
    """
    n, counts = np.diff(windows.offsets), np.diff(windows.end_offsets)
    padded = np.append(windows.ends, -1)
    opens = (counts > 0) & (padded[np.minimum(windows.end_offsets[:-1], len(windows.ends))] == 0)
    closes = (counts > 0) & (padded[windows.end_offsets[1:] - 1] == n)
    trimmed = span_lengths < n
    start = np.where(trimmed & opens, n - span_lengths, 0)
    stop = np.where(trimmed & ~opens, span_lengths, n)
    kind = np.where(opens & closes, SENTENCE, np.where((opens == closes) | trimmed, INSIDE, MIXED))
    return start, stop, kind


@dataclasses.dataclass(frozen=True)
class _Boundaries:
    """Where the parts of W windows may begin and end, in places that count n + 1 for each window (0..n)."""

    bases: np.ndarray
    """[W + 1] int64: place 0 of each window."""
    places: np.ndarray
    """[Q] int64, rising."""

    def between(self, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices into `places` of those from `first` to `last` [W], both included: (low, high), high excluded."""
        bases = self.bases[:-1]
        low = np.searchsorted(self.places, bases + first)
        return low, np.maximum(low, np.searchsorted(self.places, bases + last, side="right"))


def _boundaries(windows: Windows, kinds: np.ndarray) -> _Boundaries:
    """Sentence boundaries where the kind [W] is SENTENCE, word starts in mid-sentence where INSIDE, none for MIXED."""
    n = np.diff(windows.offsets)
    bases = windows.offsets + np.arange(len(windows.offsets))
    starts = np.zeros(bases[-1], bool)
    ends = np.zeros(bases[-1], bool)
    starts[np.arange(len(windows.tokens)) + np.repeat(np.arange(len(n)), n)] = windows.word_starts
    starts[bases[1:] - 1] = True  # behind its last token a window was cut at a word start, or at its document's end
    ends[np.repeat(bases[:-1], np.diff(windows.end_offsets)) + windows.ends] = True
    wanted = np.repeat(kinds, n + 1)
    return _Boundaries(bases, np.flatnonzero(np.where(wanted == SENTENCE, ends, starts & ~ends & (wanted == INSIDE))))


def _cut(bounds: _Boundaries, start: np.ndarray, stop: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """[W] a random boundary strictly between start and stop; -1 where there is none."""
    low, high = bounds.between(start + 1, stop - 1)
    chosen = low + draw(keys, CUT, high - low)
    padded = np.append(bounds.places, 0)
    return np.where(high > low, padded[np.minimum(chosen, len(bounds.places))] - bounds.bases[:-1], -1)


def _last_boundary(bounds: _Boundaries, start: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """[W] the last boundary in start + 1 .. limit; `start` where there is none."""
    low, high = bounds.between(start + 1, limit)
    padded = np.append(bounds.places, 0)
    return np.where(high > low, padded[high - 1] - bounds.bases[:-1], start)


CUT, LABEL, TRIM, PLACE, DONOR = 1, 2, 3, 4, 16
"""Purposes of the draws."""

LABELS = {"sop": 2, "nsp": 2, "three_way": 3}
"""Labels of each pair task; the last one means a random B, except for sop."""


def make_pairs(
    windows: Windows,
    span_lengths: np.ndarray,
    keys: np.ndarray,
    task: str,
    single_segment: str,
    other_windows: Callable[[np.ndarray], Windows],
    sizes: np.ndarray,
) -> Pairs:
    """Cuts windows into pairs, swaps them or replaces their B, all by draws from `keys`.

    A random B comes from another document; its edges are of the kind of the true B's edges, and it is never longer, so
    that packing holds. As it must end at a boundary it would be a little shorter on average; so for the tasks that
    have one, every B is first limited to up to seven tokens less than there are, and ends at a boundary, whatever the
    label. Else a pair that fills its row would be a true one.

    Args:
      windows: W windows.
      span_lengths: [W] integers, tokens of each window's pair span.
      keys: [W] uint64 from `window_keys`.
      task: `sop`, `nsp`, `three_way` or `none`.
      single_segment: for windows without a fitting place to cut. `drop`: one segment, weight 0. `split`: cut at any
        word start, which may give the order away. `reference`: cut so, a random B, label 1.
      other_windows: reads windows of the same corpus by number.
      sizes: [N] integers, tokens of every window of that corpus.

    Source: Lan et al. 2020 (arXiv 1909.11942), section 3.1; Devlin et al. 2019 (arXiv 1810.04805), section 3.1; Wang
    et al. 2020 (StructBERT, arXiv 1908.04577), section 2.2; google-research/albert:create_pretraining_data.py.
    """
    n, offsets = np.diff(windows.offsets), windows.offsets[:-1]
    none, zeros = np.zeros(len(n), np.int64), np.zeros(len(n), np.int32)
    if task == "none":
        return Pairs(windows.tokens, windows.word_starts, offsets, n, offsets, none, zeros, zeros)
    start, stop, kind = spans(windows, span_lengths)
    bounds = _boundaries(windows, kind)
    cut = _cut(bounds, start, stop, keys)
    single = cut < 0
    if single_segment != "drop" and single.any():
        anywhere = dataclasses.replace(windows, ends=windows.ends[:0], end_offsets=np.zeros_like(windows.end_offsets))
        cut = np.where(single, _cut(_boundaries(anywhere, np.full_like(kind, INSIDE)), start, stop, keys), cut)
    weights = (cut > 0).astype(np.int32)
    cut = np.where(cut > 0, cut, stop)
    labels = draw(keys, LABEL, LABELS[task])
    if task != "sop":
        wish = cut + (stop - cut) - draw(keys, TRIM, np.minimum(8, (stop - cut + 1) // 2))
        short = _last_boundary(bounds, cut, wish)
        stop = np.where((kind == INSIDE) & (short > cut), short, stop)
    random = (labels == LABELS[task] - 1) & (task != "sop")
    if single_segment == "reference":
        labels, random = np.where(single, 1 if task != "three_way" else 2, labels), random | single
    labels, random = labels * weights, random & (weights > 0)
    swap = (labels == 1) & ~random & (task != "nsp")
    a_start, b_start = np.where(swap, cut, start) + offsets, np.where(swap, start, cut) + offsets
    a_length, b_length = np.where(swap, stop - cut, cut - start), np.where(swap, cut - start, stop - cut)
    pairs = Pairs(
        windows.tokens, windows.word_starts, a_start, a_length, b_start, b_length, labels.astype(np.int32), weights
    )
    wanted = np.where(kind == SENTENCE, SENTENCE, INSIDE)
    return _with_random_b(pairs, np.flatnonzero(random), windows.documents, wanted, keys, other_windows, sizes)


def _with_random_b(
    pairs: Pairs,
    pending: np.ndarray,
    documents: np.ndarray,
    kinds: np.ndarray,
    keys: np.ndarray,
    other_windows: Callable[[np.ndarray], Windows],
    sizes: np.ndarray,
) -> Pairs:
    """Replaces B of the pairs numbered `pending`. One that finds none in eight draws stays true, with weight 0."""
    b_start, b_length = pairs.b_start.copy(), pairs.b_length.copy()
    labels, weights = pairs.labels.copy(), pairs.weights.copy()
    tokens, word_starts, pool = [pairs.tokens], [pairs.word_starts], len(pairs.tokens)
    for attempt in range(8):
        if not pending.size:
            break
        drawn = keys[pending] + np.uint64(attempt)
        donors = other_windows(_long_enough(drawn, sizes, b_length[pending]))
        bounds = _boundaries(donors, kinds[pending])
        n, limit = np.diff(donors.offsets), b_length[pending]
        # A start that leaves room for the whole length, or the first one.
        low, high = bounds.between(np.zeros_like(n), np.maximum(n - limit, 0))
        chosen = low + draw(drawn, PLACE, high - low)
        padded = np.append(bounds.places, bounds.bases[-1])
        start = np.minimum(padded[np.minimum(chosen, len(bounds.places))] - bounds.bases[:-1], n)
        length = _last_boundary(bounds, start, np.minimum(start + limit, n)) - start
        good = (length > 0) & (donors.documents != documents[pending])
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


def _long_enough(keys: np.ndarray, sizes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """[W] windows: of sixteen drawn for each key, the first with room for `wanted` tokens and some choice of where."""
    candidates = np.stack([draw(keys, DONOR + attempt, len(sizes)) for attempt in range(16)], axis=1)
    room = np.minimum(sizes[candidates].astype(np.int64) - wanted[:, None], 16)
    return candidates[np.arange(len(keys)), room.argmax(axis=1)]


# --- What the edges give away ----------------------------------------------------------------------------------------

FINAL = frozenset(".!?…。！？｡")
EDGE_KINDS = ("other", "sentence end", "other punctuation", "capital", "digit")


def token_kinds(pieces: list[str]) -> np.ndarray:
    """What an edge shows of each piece: [V] int64, index into EDGE_KINDS."""
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


def pair_edges(batch: dict[str, np.ndarray], kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kinds of the four edge tokens of every real pair in a batch, read from the batch alone.

    Args:
      batch: as `batches.batch_at` gives it.
      kinds: [V] integers, kind of each token.

    Returns:
      (edges [W, 4]: first and last of A, first and last of B; labels [W]).
    """
    rows, column = np.nonzero(batch["pair_weights"])
    # cls is the index in the row; A opens behind it.
    opens = batch["cls"][rows, column].astype(np.int64)
    same = batch["segments"][rows] == (column + 1)[:, None]
    second = same & (batch["token_types"][rows] == 1)
    size, b_size = same.sum(axis=1), second.sum(axis=1)
    places = np.stack([opens + 1, opens + size - b_size - 2, opens + size - b_size, opens + size - 2], axis=1)
    return kinds[batch["tokens"][rows[:, None], places]], batch["pair_labels"][rows, column]


def edge_rule_accuracy(edges: np.ndarray, labels: np.ndarray) -> float:
    """How often the best table of edges names the label; about the most frequent label's share if they tell nothing.

    For each subset of the four edges, a table from their kinds to the most frequent label is fitted on every other
    pair and scored on the rest. The highest score of all subsets is returned, so it errs on the high side.

    Args:
      edges: [W, 4] integers (`pair_edges`).
      labels: [W] integers.

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
