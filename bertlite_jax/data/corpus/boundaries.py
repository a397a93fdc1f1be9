"""Where windows may be cut into pairs, for many windows at once, and random draws without a state."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Windows:
    """W windows one after the other, T tokens in all."""

    tokens: np.ndarray
    """[T] int32."""
    word_starts: np.ndarray
    """[T] bool."""
    offsets: np.ndarray
    """[W + 1] int64: window w is tokens[offsets[w]:offsets[w + 1]]."""
    ends: np.ndarray
    """[E] int64: sentence ends as offsets within their window."""
    end_offsets: np.ndarray
    """[W + 1] int64: those of window w are ends[end_offsets[w]:end_offsets[w + 1]]."""
    documents: np.ndarray
    """[W] int64."""


# --- Draws -----------------------------------------------------------------------------------------------------------


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


# --- Pairs -----------------------------------------------------------------------------------------------------------

SENTENCE, INSIDE, MIXED = 0, 1, 2
"""Kinds of a window: both edges at sentence boundaries; both in mid-sentence; one of each, which cannot be cut."""


def bounds_of_pairs(
    windows: Windows, pair_lengths: np.ndarray, rests: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where in each window its pair lies, from the stored length of the pair, and the kind of the result.

    Args:
      windows: W windows.
      pair_lengths: [W] integers: tokens of the pair (`pair_bounds`).
      rests: [W] bool: give what the pair leaves of the window, of the kind MIXED.

    Returns:
      (start [W], stop [W], kind [W]).
    """
    n, counts = np.diff(windows.offsets), np.diff(windows.end_offsets)
    padded = np.append(windows.ends, -1)
    opens = (counts > 0) & (padded[np.minimum(windows.end_offsets[:-1], len(windows.ends))] == 0)
    closes = (counts > 0) & (padded[windows.end_offsets[1:] - 1] == n)
    trimmed = pair_lengths < n
    start = np.where(trimmed & opens, n - pair_lengths, 0)
    stop = np.where(trimmed & ~opens, pair_lengths, n)
    kind = np.where(opens & closes, SENTENCE, np.where((opens == closes) | trimmed, INSIDE, MIXED))
    rest_start, rest_stop = np.where(start > 0, 0, stop), np.where(start > 0, start, n)
    return np.where(rests, rest_start, start), np.where(rests, rest_stop, stop), np.where(rests, MIXED, kind)


# --- Boundaries ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Boundaries:
    """Where parts of W windows may begin and end, in places that count n + 1 for each window (0..n)."""

    bases: np.ndarray
    """[W + 1] int64: place 0 of each window."""
    places: np.ndarray
    """[Q] int64, rising."""

    def between(self, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices into `places` of those from `first` to `last` [W], both included: (low, high), high excluded."""
        bases = self.bases[:-1]
        low = np.searchsorted(self.places, bases + first)
        return low, np.maximum(low, np.searchsorted(self.places, bases + last, side="right"))


def find_boundaries(windows: Windows, kinds: np.ndarray) -> Boundaries:
    """For the kind [W] SENTENCE sentence boundaries, for INSIDE word starts in mid-sentence, for MIXED none."""
    n = np.diff(windows.offsets)
    bases = windows.offsets + np.arange(len(windows.offsets))
    ends = np.zeros(bases[-1], bool)
    ends[np.repeat(bases[:-1], np.diff(windows.end_offsets)) + windows.ends] = True
    allowed = np.zeros(bases[-1], bool)
    allowed[np.arange(len(windows.tokens)) + np.repeat(np.arange(len(n)), n)] = windows.word_starts
    allowed[bases[1:] - 1] = True  # where a window ends, a word starts or the document ends
    allowed &= ~ends & np.repeat(kinds == INSIDE, n + 1)
    allowed |= ends & np.repeat(kinds == SENTENCE, n + 1)
    return Boundaries(bases, np.flatnonzero(allowed))


def only_between(
    bounds: Boundaries, shown: np.ndarray, before: np.ndarray | None = None, after: np.ndarray | None = None
) -> Boundaries:
    """The boundaries between a token that shows `before` and one that shows `after`.

    Args:
      bounds: of W windows with T tokens.
      shown: [T] what each token shows.
      before: [W] what the token before a boundary shows; None: anything, or no token at all.
      after: [W] what the token behind a boundary shows; None: likewise.
    """
    owner = np.searchsorted(bounds.bases, bounds.places, side="right") - 1
    token = bounds.places - owner  # the one that stands behind the boundary
    keep = np.ones(len(bounds.places), bool)
    if before is not None:
        keep &= (bounds.places > bounds.bases[owner]) & (shown[token - 1] == before[owner])
    if after is not None:
        inside = bounds.places < bounds.bases[owner + 1] - 1
        keep &= inside & (shown[np.minimum(token, len(shown) - 1)] == after[owner])
    return Boundaries(bounds.bases, bounds.places[keep])


def pick_boundary(
    bounds: Boundaries, start: np.ndarray, stop: np.ndarray, draw_from: tuple[np.ndarray, int]
) -> np.ndarray:
    """[W] a random boundary strictly between start and stop; -1 where there is none. `draw_from`: keys, purpose."""
    low, high = bounds.between(start + 1, stop - 1)
    chosen = low + draw(*draw_from, high - low)
    padded = np.append(bounds.places, 0)
    return np.where(high > low, padded[np.minimum(chosen, len(bounds.places))] - bounds.bases[:-1], -1)


def last_boundary(bounds: Boundaries, start: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """[W] the last boundary in start + 1 .. limit; `start` where there is none."""
    low, high = bounds.between(start + 1, limit)
    padded = np.append(bounds.places, 0)
    return np.where(high > low, padded[high - 1] - bounds.bases[:-1], start)


def pair_bounds(n: int, word_starts: np.ndarray, sentence_ends: np.ndarray) -> tuple[int, int]:
    """Where in a window its pair lies: both edges of the pair are of one kind wherever that is possible.

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
