"""Two sets of examples as one."""

import dataclasses
import itertools

import numpy as np

from bertlite_jax.data.examples import joining
from bertlite_jax.data.examples.features import Encoded


def encoded(windows: list[list[int]], labels: list[int]) -> Encoded:
    sizes = [len(window) for window in windows]
    tokens = np.array([token for window in windows for token in window], np.int32)
    return Encoded(
        tokens=tokens,
        types=(tokens % 2).astype(np.int8),
        words=np.zeros(0, np.int32),
        offsets=np.r_[0, np.cumsum(sizes)],
        firsts=np.arange(len(windows) + 1),
        labels=np.array(labels, np.int32),
        counts={"examples": len(windows), "tokens": sum(sizes), "unlabelled": sum(label < 0 for label in labels)},
    )


def windows_of(found: Encoded) -> list[list[int]]:
    return [found.tokens[a:b].tolist() for a, b in itertools.pairwise(found.offsets)]


A, B = encoded([[1, 2], [3]], [0, 1]), encoded([[4, 5, 6], [7, 8]], [-1, -1])


def test_behind_each_other():
    found = joining.behind(A, B)
    assert windows_of(found) == [[1, 2], [3], [4, 5, 6], [7, 8]]
    assert found.labels.tolist() == [0, 1, -1, -1]
    assert found.firsts.tolist() == [0, 1, 2, 3, 4]
    assert found.counts == {"examples": 4, "tokens": 8, "unlabelled": 2}


def test_beside_each_other():
    found = joining.beside(A, B)
    assert windows_of(found) == [[1, 2], [4, 5, 6], [3], [7, 8]]
    assert found.types.tolist() == (found.tokens % 2).tolist()
    assert found.sizes.tolist() == [5, 3]
    assert found.labels.tolist() == [0, 1]
    assert found.counts == {"examples": 2, "tokens": 8, "unlabelled": 0}


def test_a_stretch_of_examples():
    """Of three windows, of which the first two are choices of one example."""
    three = joining.behind(A, encoded([[4, 5, 6], [7, 8]], [2, 3]))
    two_choices = dataclasses.replace(three, firsts=np.array([0, 2, 3, 4]), labels=np.array([1, 2, 3], np.int32))
    found = joining.stretch(two_choices, 0, 2)
    assert windows_of(found) == [[1, 2], [3], [4, 5, 6]]
    assert found.firsts.tolist() == [0, 2, 3]
    assert found.labels.tolist() == [1, 2]
    assert found.counts == {"examples": 2, "tokens": 6}
    found = joining.stretch(two_choices, 1, 3)
    assert windows_of(found) == [[4, 5, 6], [7, 8]]
    assert found.firsts.tolist() == [0, 1, 2]
