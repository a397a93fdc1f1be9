"""The order of size, the stride through it, the maximum point and the limit of latency."""

import dataclasses

import pytest
from search import planted

from bertlite_jax.config.search.settings import Shape
from bertlite_jax.errors import UserError
from bertlite_jax.search import candidates
from bertlite_jax.search.candidates import Candidate, Cost


def made(shape: Shape, parameters: int, seconds: float) -> Candidate:
    return Candidate(shape, Cost(parameters, seconds, 1))


SMALL, FAST, LARGE = made(Shape(2), 10, 0.002), made(Shape(4), 20, 0.001), made(Shape(6), 30, 0.003)


def test_bort_stands_at_place_197_between_its_twins_with_other_heads():
    """4, 8 and 16 heads cost the same, so the order of shapes decides."""
    shapes = [each.shape for each in planted.CANDIDATES]
    assert shapes[196:199] == [Shape(4, heads, 1024, 768, 1024) for heads in (4, 8, 16)]
    assert len(shapes) == 300


def test_parameters_come_first_then_time_then_the_shape():
    twin = made(Shape(4), 10, 0.001)
    tie = made(Shape(1), 10, 0.001)
    assert candidates.by_size([LARGE, SMALL, FAST, twin, tie]) == [tie, twin, SMALL, FAST, LARGE]


@pytest.mark.parametrize(
    ("stride", "offset", "tried"), [(1, 0, 300), (2, 0, 150), (2, 1, 150), (7, 0, 43), (300, 0, 1)]
)
def test_a_stride_takes_one_of_so_many(stride, offset, tried):
    found = candidates.every(planted.CANDIDATES, stride, offset)
    assert len(found) == tried
    assert found[0] == planted.CANDIDATES[offset]


def test_from_the_start_only_the_strides_1_and_197_reach_bort():
    """197 is a prime."""

    def reaches(stride: int) -> bool:
        return planted.BORT in [each.shape for each in candidates.every(planted.CANDIDATES, stride)]

    assert [stride for stride in range(1, 301) if reaches(stride)] == [1, 197]


def test_a_stride_longer_than_the_space_and_a_space_without_shapes_are_refused():
    with pytest.raises(UserError, match=r"method.stride = 301 exceeds the 300 shapes"):
        candidates.every(planted.CANDIDATES, 301)
    with pytest.raises(UserError, match="no shape"):
        candidates.every([], 1)


def test_the_maximum_point_of_the_published_search_exceeds_the_whole_space():
    candidates.check_maximum(planted.CANDIDATES, planted.MAXIMUM)


def test_a_maximum_point_that_is_not_larger_and_slower_is_refused():
    candidates.check_maximum([SMALL, FAST], LARGE)
    with pytest.raises(UserError, match=r"^config: maximum = <4,16,1024,4096> has 20 parameters, and <6,.* has 30"):
        candidates.check_maximum([LARGE], FAST)
    slow = dataclasses.replace(LARGE, cost=Cost(25, 0.003, 1))
    with pytest.raises(UserError, match=r"takes 3 ms, and <4,16,1024,4096> of the space 4 ms; it must be slower"):
        candidates.check_maximum([made(Shape(4), 20, 0.004)], slow)


def test_a_shape_of_the_space_is_no_maximum_point():
    """Its own score would be 0."""
    with pytest.raises(UserError, match="it must have more than all of them"):
        candidates.check_maximum([LARGE], LARGE)


def test_a_latency_leaves_those_that_meet_it():
    assert candidates.fast_enough([SMALL, FAST, LARGE], 0.002) == [SMALL, FAST]
    assert candidates.fast_enough([SMALL, FAST, LARGE], 0) == [SMALL, FAST, LARGE]


def test_a_latency_that_nothing_meets_names_the_fastest():
    with pytest.raises(UserError, match=r"most_seconds = 0.0005 is met by no shape; the fastest, <4,.*>, takes 1 ms"):
        candidates.fast_enough([SMALL, FAST, LARGE], 0.0005)
