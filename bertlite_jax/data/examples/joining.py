"""Two encoded sets become one: one after the other, or their examples side by side; or a part is taken of one."""

from __future__ import annotations

import numpy as np

from bertlite_jax.data.examples.features import Encoded


def behind(first: Encoded, second: Encoded) -> Encoded:
    """All examples of the first set, then all of the second; their labels are of one kind. Counts are summed."""
    return Encoded(
        tokens=np.r_[first.tokens, second.tokens],
        types=np.r_[first.types, second.types],
        words=np.r_[first.words, second.words],
        offsets=np.r_[first.offsets, first.offsets[-1] + second.offsets[1:]],
        firsts=np.r_[first.firsts, first.firsts[-1] + second.firsts[1:]],
        labels=np.concatenate([first.labels, second.labels]),
        counts={name: count + second.counts.get(name, 0) for name, count in first.counts.items()},
    )


def beside(first: Encoded, second: Encoded) -> Encoded:
    """Examples of two windows: one of the first set, one of the second, which has as many examples.

    So both lie in the same row, next to each other. Labels and counts are those of the first set, except for tokens.
    """
    both, count = behind(first, second), len(first.firsts) - 1
    sizes = np.diff(both.offsets)
    order = np.arange(2 * count).reshape(2, count).T.ravel()  # 0, count, 1, count + 1, ..
    places = np.concatenate([np.arange(both.offsets[w], both.offsets[w + 1]) for w in order])
    return Encoded(
        tokens=both.tokens[places],
        types=both.types[places],
        words=both.words,
        offsets=np.r_[0, np.cumsum(sizes[order])],
        firsts=2 * first.firsts,
        labels=first.labels,
        counts=first.counts | {"tokens": both.counts["tokens"]},
    )


def stretch(encoded: Encoded, first: int, stop: int) -> Encoded:
    """The examples from `first` to `stop` - 1. Of the counts, only those of examples and tokens are kept."""
    window, window_stop = int(encoded.firsts[first]), int(encoded.firsts[stop])
    tokens = slice(int(encoded.offsets[window]), int(encoded.offsets[window_stop]))
    by_token = len(encoded.words) > 0
    return Encoded(
        tokens=encoded.tokens[tokens],
        types=encoded.types[tokens],
        words=encoded.words[tokens],
        offsets=encoded.offsets[window : window_stop + 1] - tokens.start,
        firsts=encoded.firsts[first : stop + 1] - window,
        labels=encoded.labels[tokens] if by_token else encoded.labels[first:stop],
        counts={"examples": stop - first, "tokens": tokens.stop - tokens.start},
    )
