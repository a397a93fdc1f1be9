"""Deletion, swaps of neighbours and templates: what changes, how much, and that the same number draws the same."""

import itertools

import numpy as np
import pytest

from bertlite_jax.data.examples.subsequence import longest_common
from bertlite_jax.data.examples.transformations import in_template, make_deletion, make_swap
from bertlite_jax.data.tasks.example import Example

WORDS = [f"word{number}" for number in range(20)]


def test_deletion_leaves_a_shorter_text_in_the_same_order():
    change = make_deletion(0.3, seed=0)
    lengths = []
    for number in range(300):
        left = change(WORDS, number)
        assert 0 < len(left) < len(WORDS)
        assert longest_common(left, WORDS) == len(left)
        lengths.append(len(left))
    # 14 on average; a text that loses none loses one, which is rarer than once in a thousand.
    assert np.mean(lengths) == pytest.approx(14, abs=0.4)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_deletion_takes_at_least_one_word_and_leaves_one(rate):
    change = make_deletion(rate, seed=0)
    assert {len(change(WORDS, number)) for number in range(20)} == {1 if rate else 19}
    assert {tuple(change(["a", "b"], number)) for number in range(40)} == {("a",), ("b",)}


def test_a_swap_moves_neighbours_and_loses_no_word():
    change = make_swap(0.1, seed=0)  # 0.1 x 20 words move in one swap.
    for number in range(100):
        moved = change(WORDS, number)
        places = [place for place, word in enumerate(moved) if word != WORDS[place]]
        assert len(places) == 2
        assert places[1] == places[0] + 1
        assert moved[places[0]] == WORDS[places[1]]


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_swaps_never_undo_each_other(rate):
    """However many there are, each is of other places, and something has moved."""
    change = make_swap(rate, seed=0)
    for number in range(100):
        moved = change(WORDS, number)
        assert sorted(moved) == sorted(WORDS)
        assert moved != WORDS


@pytest.mark.parametrize("make", [make_deletion, make_swap])
def test_short_texts_stay(make):
    change = make(0.5, seed=0)
    assert change([], 1) == []
    assert change(["alone"], 1) == ["alone"]


@pytest.mark.parametrize("make", [make_deletion, make_swap])
def test_the_same_seed_and_number_change_the_same(make):
    found = [[make(0.3, seed)(WORDS, number) for number in range(10)] for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert all(one != other for one, other in itertools.pairwise(found[0]))


def test_a_template_takes_every_text_and_leaves_empty_ones():
    template = "It says: {text}"
    pair = in_template(Example("7", "one", "two", label=1), template)
    assert pair == Example("7", "It says: one", "It says: two")
    choice = in_template(Example("8", "", choices=("a", "b"), label=0), template)
    assert choice == Example("8", "", choices=("It says: a", "It says: b"))
