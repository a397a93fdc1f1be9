"""Where a window is cut into a pair A|B, which order or which B it gets, and whether its edges give that away.

An edge is of kind S (a sentence boundary) or of kind M (in mid-sentence, at a word start). The pair of a window has
four edges: the two of A and the two of B. They are all of one kind, so no rule that looks at the edges alone can tell
a swapped pair from one in order.
"""

from __future__ import annotations

import numpy as np


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
