"""A document's tokens become windows: consecutive text that fits into a row, as serialised records.

Tokens, word starts and sentence boundaries go in and bytes come out, so that the processes that do this work need
neither TFDS nor protobuf.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np

from bertlite_jax.data.corpus.boundaries import pair_bounds

SPECIALS = 3
"""[CLS] A [SEP] B [SEP]: tokens that a row needs beside its window."""


@dataclasses.dataclass(frozen=True)
class Cutting:
    """How documents are cut into windows."""

    length: int = 512
    """Tokens in a row, special tokens included."""
    short_fraction: float = 0.1
    """Share of the windows that aim at a random shorter length."""
    whole_sentences: bool = False
    """Cut at sentence boundaries only, unless a sentence is longer than a window."""
    seed: int = 0

    @property
    def capacity(self) -> int:
        """Tokens that a window can hold."""
        return self.length - SPECIALS


def token_type(vocab_size: int) -> str:
    """How ids are stored: `<u2`, or `<u4` where two bytes are too few."""
    return "<u2" if vocab_size <= 65_536 else "<u4"


# --- Where to cut ----------------------------------------------------------------------------------------------------


def _mix(x: int) -> int:
    # splitmix64 (Steele et al. 2014, OOPSLA) in Python's integers: quicker than numpy for one number.
    x = (x + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return x ^ (x >> 31)


def aim(cutting: Cutting, document: int, window: int) -> int:
    """Upper limit of tokens for this window: the capacity or, for a share of the windows, randint(2, capacity).

    The reference draws once a document; here once a window, from its numbers alone.

    Source: google-research/albert:create_pretraining_data.py, `create_instances_from_document` (short_seq_prob).
    """
    draw = _mix(_mix(_mix(cutting.seed) ^ document) ^ window)
    if draw >= cutting.short_fraction * 2.0**64:
        return cutting.capacity
    return 2 + _mix(draw) % (cutting.capacity - 1)


def cut_document(cutting: Cutting, document: int, word_starts: np.ndarray, boundaries: np.ndarray) -> list[int]:
    """The places where a document is cut, from 0 to n; neighbours are at most `capacity` apart.

    A sentence that does not fit is cut at a word start and its rest opens the next window. Only a word longer than a
    window is cut inside.

    Args:
      cutting: the rules.
      document: number of the document, for the draws.
      word_starts: [n] bool.
      boundaries: [S + 1] integers, strictly increasing: 0, the end of each sentence, the last of them n.

    Returns:
      W + 1 offsets; [0] for an empty document.
    """
    n = len(word_starts)
    # Bytes, because rfind looks backwards for the last fitting place at the speed of C.
    words = word_starts.tobytes()
    sentences = b""
    if cutting.whole_sentences:
        marks = np.zeros(n + 1, bool)
        marks[boundaries] = True
        sentences = marks.tobytes()
    cuts = [0]
    while cuts[-1] < n:
        start = cuts[-1]
        target = aim(cutting, document, len(cuts) - 1)
        stop = n if n - start <= target else -1
        if stop < 0 and cutting.whole_sentences:
            stop = sentences.rfind(1, start + 1, start + target + 1)
            if stop < 0:
                stop = sentences.find(1, start + 1, start + cutting.capacity + 1)
                target = cutting.capacity
        if stop < 0:
            stop = words.rfind(1, start + 1, start + target + 1)
        if stop < 0:
            stop = words.find(1, start + 1, start + cutting.capacity + 1)
        cuts.append(stop if stop > 0 else min(n, start + cutting.capacity))
    return cuts


# --- Records ---------------------------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + _varint(len(content)) + content


_KEYS = {name: _field(0x0A, name.encode()) for name in ("document", "sentence_ends", "tokens", "word_starts")}


def serialise(document: int, sentence_ends: bytes, tokens: bytes, word_starts: bytes) -> bytes:
    """A record as TFDS writes it: a tf.train.Example with its keys in order, the same bytes every time."""
    number = _field(0x1A, _field(0x0A, _varint(document)))
    entries = _field(0x0A, _KEYS["document"] + _field(0x12, number))
    for name, value in (("sentence_ends", sentence_ends), ("tokens", tokens), ("word_starts", word_starts)):
        entries += _field(0x0A, _KEYS[name] + _field(0x12, _field(0x0A, _field(0x0A, value))))
    return _field(0x0A, entries)


def document_windows(
    cutting: Cutting,
    document: int,
    tokens: np.ndarray,
    word_starts: np.ndarray,
    boundaries: np.ndarray,
    counts: Counter[str],
) -> tuple[list[bytes], list[tuple[int, int]]]:
    """The windows of one document.

    Args:
      cutting: the rules.
      document: its number.
      tokens: [n] of the type in which they are stored (`token_type`).
      word_starts: [n] bool.
      boundaries: [S + 1] integers, strictly increasing: 0, the end of each sentence, the last of them n.
      counts: is added to: `windows`, `short_windows` (of a shorter limit), `single_sentence_windows` (no sentence ends
        inside), `edges_SS` and so on (left and right edge at a Sentence boundary or in Mid-sentence),
        `pair_windows` (that can be cut into a pair), `cut_words`.

    Returns:
      (records, (tokens, tokens of the pair) of each).
    """
    cuts = cut_document(cutting, document, word_starts, boundaries)
    low = np.searchsorted(boundaries, cuts[:-1], side="left").tolist()
    high = np.searchsorted(boundaries, cuts[1:], side="right").tolist()
    records, lengths = [], []
    for window, (start, stop) in enumerate(itertools.pairwise(cuts)):
        n, starts = stop - start, word_starts[start:stop]
        ends = boundaries[low[window] : high[window]] - start
        opens, closes = ends.size > 0 and ends[0] == 0, ends.size > 0 and ends[-1] == n
        first, last = (0, n) if opens == closes else pair_bounds(n, starts, ends)
        inner = ends.size - bool(opens) - bool(closes)
        counts["windows"] += 1
        counts["short_windows"] += aim(cutting, document, window) < cutting.capacity
        counts["single_sentence_windows"] += inner == 0
        counts[f"edges_{'SM'[not opens]}{'SM'[not closes]}"] += 1
        counts["pair_windows"] += _can_be_cut(opens, closes, first, last, n, starts, ends, inner)
        counts["cut_words"] += not starts[0]
        bits = np.packbits(starts, bitorder="little").tobytes()
        records.append(serialise(document, ends.astype("<u2").tobytes(), tokens[start:stop].tobytes(), bits))
        lengths.append((n, last - first))
    return records, lengths


def _can_be_cut(
    opens: bool, closes: bool, first: int, last: int, n: int, starts: np.ndarray, ends: np.ndarray, inner: int
) -> bool:
    """Whether a window gives a pair whose four edges are of one kind (see data/rows/pairs.py)."""
    if opens and closes:
        return inner > 0
    if opens != closes and last - first == n:
        return False
    inside = int(np.count_nonzero(starts[first + 1 : last]))
    # A cut in mid-sentence is at no sentence boundary.
    return inside > int(np.count_nonzero((ends > first) & (ends < last)))
