"""The Pareto front and its hypervolume, against slow loops and boxes whose volume is plain."""

import itertools

import numpy as np
import pytest
from search import planted

from bertlite_jax.search import front, space

RNG = np.random.default_rng(20)


def beats(a: np.ndarray, b: np.ndarray) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def slow_front(points: np.ndarray) -> list[bool]:
    real = [not any(np.isnan(point)) for point in points]
    return [
        real[i] and not any(real[j] and beats(other, point) for j, other in enumerate(points))
        for i, point in enumerate(points)
    ]


@pytest.mark.parametrize("repeat", range(5))
def test_the_front_is_what_no_other_point_beats(repeat):
    """Of small whole numbers, so that there are ties and equal points; a tenth has a NaN."""
    points = RNG.integers(0, 6, (60, 3)).astype(float)
    points[RNG.random(60) < 0.1, RNG.integers(3)] = np.nan
    points[-5:] = points[:5]
    assert front.pareto(points).tolist() == slow_front(points)


def test_equal_points_stand_on_the_front_together():
    assert front.pareto(np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0]])).tolist() == [True, True, False]


def test_a_failed_trial_is_not_on_the_front_and_beats_nothing():
    points = np.array([[0.0, np.nan], [1.0, 1.0], [2.0, 2.0]])
    assert front.pareto(points).tolist() == [False, True, False]


def test_without_the_error_the_front_of_borts_space_is_one_shape():
    """<2,.,512,256> has the fewest parameters and FLOPs: a search without an error has nothing to find."""
    shapes = space.distinct(planted.COSTS)
    points = np.array([[planted.COSTS[shape].parameters, planted.COSTS[shape].seconds] for shape in shapes])
    assert [planted.without_heads(shapes[i]) for i in np.flatnonzero(front.pareto(points))] == [(2, 512, 256)]


def test_the_volume_of_one_point_is_that_of_its_box():
    assert front.hypervolume(np.array([[1.0, 2.0, 3.0]]), np.array([2.0, 4.0, 6.0])) == 1 * 2 * 3


def test_boxes_that_overlap_count_once():
    """In the plane 2 x 1 and 1 x 2 share 1 x 1: 3."""
    assert front.hypervolume(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([2.0, 2.0])) == 3


@pytest.mark.parametrize("K", [1, 2, 3])
def test_the_volume_is_the_number_of_cells_that_a_point_beats(K):
    """On a grid of whole numbers: cells whose lower corner is at least some point."""
    points = RNG.integers(0, 6, (8, K)).astype(float)
    cells = itertools.product(range(6), repeat=K)
    beaten = sum(any((point <= cell).all() for point in points) for cell in map(np.array, cells))
    assert front.hypervolume(points, np.full(K, 6.0)) == beaten


def test_points_beyond_the_reference_beaten_points_and_failed_ones_add_nothing():
    points, reference = np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 0.5]]), np.full(3, 4.0)
    more = np.array([[5.0, 0.0, 0.0], [2.0, 2.0, 2.0], [np.nan, 0.0, 0.0], [1.0, 1.0, 1.0]])
    volume = front.hypervolume(points, reference)
    assert front.hypervolume(np.concatenate([points, more]), reference) == pytest.approx(volume)
    assert front.hypervolume(more[:1], reference) == 0


def test_the_front_alone_has_the_whole_volume():
    points = RNG.random((40, 3))
    on_front = points[front.pareto(points)]
    assert front.hypervolume(on_front, np.ones(3)) == pytest.approx(front.hypervolume(points, np.ones(3)))
