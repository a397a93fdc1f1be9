"""How often things are drawn, against the published figures."""

import collections
import functools
import math

import jax
import numpy as np
import pytest
from masking_rows import MASK, SPECIAL, mask, pack, places

from bertlite_jax.config.pretrain import Mask
from bertlite_jax.train.pretraining import masking


def test_span_lengths_follow_one_over_n():
    """6/11, 3/11, 2/11 for up to three words."""
    lengths = np.asarray(
        jax.jit(lambda key: masking.draw(key, 100_000, Mask(), 100, SPECIAL))(jax.random.key(1)).span_words
    )
    for n, expected in ((1, 6 / 11), (2, 3 / 11), (3, 2 / 11)):
        assert np.mean(lengths == n) == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 1e5))
    assert set(lengths) == {1, 2, 3}


@functools.cache
def long_windows():
    """64 windows of 512 random tokens, a quarter of them inside words, masked by the default rule."""
    rng = np.random.default_rng(2)
    rows = [[[(rng.integers(5, 30_000, 510), rng.random(510) >= 0.25)]] for _ in range(64)]
    batch = pack(rows, 512, windows=1)
    return batch, mask(batch, Mask())


def test_fifteen_percent_are_predicted():
    """round(0.15 * 512) = 77 in each, but for a rare remainder that no word fits."""
    _, masked = long_windows()
    assert masked.weights.sum() / (64 * 512) == pytest.approx(0.150, abs=0.0005)


def test_eighty_ten_ten_is_drawn_for_each_token():
    """About 4,900 predictions: within four standard deviations, and inside a word of several pieces independent."""
    _batch, masked = long_windows()
    inputs = np.take_along_axis(np.asarray(masked.inputs), np.asarray(masked.positions), axis=1)
    used = masked.weights > 0
    replaced, kept = masked.replaced[used], (inputs == masked.labels)[used]
    assert np.array_equal(replaced, inputs[used] == MASK)
    for share, expected in ((replaced, 0.8), (kept, 0.1), (~replaced & ~kept, 0.1)):
        assert share.mean() == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / used.sum()))
    neighbours = used[:, 1:] & (np.diff(masked.positions, axis=1) == 1)
    both = (masked.replaced[:, 1:] & masked.replaced[:, :-1])[neighbours]
    assert both.mean() == pytest.approx(0.64, abs=4 * np.sqrt(0.64 * 0.36 / neighbours.sum()))


def test_runs_of_masked_words_are_as_long_as_in_the_release():
    """Its code, run on text of this kind (N = 3, L = 512, 77 predictions): .52, .27, .18, .04 for 1, 2, 3, 4+ words."""
    batch, masked = long_windows()
    counts = collections.Counter()
    for row in range(64):
        words = np.cumsum(batch["word_starts"][row][1:-1] | (np.arange(510) == 0))
        chosen = np.unique(words[places(masked, row) - 1])
        breaks = np.flatnonzero(np.diff(chosen) > 1)
        runs = np.diff(np.concatenate([[-1], breaks, [len(chosen) - 1]]))
        counts.update(np.minimum(runs, 4).tolist())
    shares = [counts[n] / counts.total() for n in (1, 2, 3, 4)]
    np.testing.assert_allclose(shares, [0.52, 0.27, 0.18, 0.04], atol=0.06)


def test_every_place_is_masked_equally_often():
    """3,200 windows of 40 tokens, budget 6 of 38: the ends of a window are neither spared nor preferred."""
    batch = pack([[[(np.arange(100, 138), np.ones(38))]] for _ in range(3200)], 40, windows=1)
    counts = np.zeros(40)
    masked = mask(batch, Mask())
    np.add.at(counts, masked.positions[masked.weights > 0], 1)
    expected = 3200 * 6 / 38
    assert counts[0] == counts[39] == 0
    assert np.all(np.abs(counts[1:39] - expected) < 4.5 * np.sqrt(expected))


def test_random_pieces_are_uniform_over_the_ordinary_ones():
    """Ids 0 and 100 to 103 of 110 are special: the other 105 are drawn equally often, those never."""
    special = (0, 100, 101, 102, 103)
    draw = jax.jit(jax.vmap(lambda key: masking.draw(key, 1000, Mask(), 110, special)))
    substitutes = np.asarray(draw(jax.random.split(jax.random.key(0), 105)).substitute)
    counts = np.bincount(substitutes.ravel(), minlength=110)
    assert counts[list(special)].sum() == 0
    assert len(counts) == 110
    ordinary = np.delete(counts, special)
    assert np.all(np.abs(ordinary - 1000) < 5 * np.sqrt(1000))
