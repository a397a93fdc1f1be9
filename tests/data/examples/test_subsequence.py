"""The longest common subsequence: textbook answers, brute force, and what follows for distances."""

import itertools

import numpy as np
import pytest

from bertlite_jax.data.examples.subsequence import distance, longest_common


@pytest.mark.parametrize(
    ("first", "second", "length"),
    [
        (
            "ABCBDAB",
            "BDCABA",
            4,
        ),  # Cormen et al., Introduction to Algorithms, section on the longest common subsequence.
        ("AGGTAB", "GXTXAYB", 4),  # GTAB
        ("", "ABC", 0),
        ("ABC", "", 0),
        ("ABC", "DEF", 0),
        ("ABC", "CBA", 1),
        ("ABC", "ABC", 3),
        ("AAAA", "AA", 2),
    ],
)
def test_textbook_answers(first, second, length):
    assert longest_common(first, second) == length
    assert longest_common(second, first) == length


def test_it_is_the_longest_of_all_subsequences():
    """Every choice of places of the shorter one, against every choice of the other."""
    rng = np.random.default_rng(0)

    def subsequences(sequence: tuple[int, ...]) -> set[tuple[int, ...]]:
        return {found for length in range(len(sequence) + 1) for found in itertools.combinations(sequence, length)}

    for _ in range(40):
        first, second = (tuple(rng.integers(3, size=rng.integers(8)).tolist()) for _ in range(2))
        longest = max(map(len, subsequences(first) & subsequences(second)))
        assert longest_common(first, second) == longest


def test_settings_are_compared_with_their_names():
    """A batch of 8 and a seed of 8 have nothing in common."""
    assert longest_common([("batch", 8), ("seed", 1)], [("batch", 1), ("seed", 8)]) == 0
    assert longest_common([("batch", 8), ("seed", 1)], [("batch", 8), ("seed", 8)]) == 1


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ("the queen went down again", "the queen went down again", 0.0),
        ("the queen went down again", "the queen went down", 0.2),  # Left out: 1 of 5.
        ("the queen went down again", "the queen down went again", 0.2),  # Neighbours: one of the two stays.
        ("the queen went down again", "the king went down again", 0.2),
        ("the queen went", "well , the queen went", 0.4),
        ("a b", "c d", 1.0),
        ("", "", 0.0),
    ],
)
def test_the_distance_is_the_share_that_is_not_common(first, second, share):
    assert distance(first.split(), second.split()) == pytest.approx(share)
