"""Rows are planned from lengths alone: every window once, nothing over the edge, hardly a gap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlite_jax.data.rows import packing


def rows_of(slots: np.ndarray, length: int, windows_per_row: int, *key: int) -> np.ndarray:
    plan = packing.plan_rows(slots, length, windows_per_row)
    return packing.windows_of_rows(plan, packing.order_windows(slots, *key), np.arange(plan.rows))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    length=st.integers(8, 64),
    windows_per_row=st.integers(1, 8),
    fractions=st.lists(st.floats(0, 1), min_size=1, max_size=200),
    seed=st.integers(0, 2**32),
)
def test_every_window_stands_in_exactly_one_row_and_no_row_is_too_long(length, windows_per_row, fractions, seed):
    slots = np.asarray([1 + round(fraction * (length - 1)) for fraction in fractions], np.uint16)
    rows = rows_of(slots, length, windows_per_row, seed, 0, 0)
    assert sorted(rows[rows >= 0].tolist()) == list(range(len(slots)))
    filled = np.where(rows >= 0, slots[rows].astype(int), 0)
    assert filled.sum(axis=1).max() <= length
    assert (rows[:, 0] >= 0).all()


def test_a_perfect_fit_is_found():
    """Thirds, halves and a whole: 3 x 4 = 2 x 6 = 12 slots fill three rows to the last one."""
    slots = np.asarray([4, 6, 12, 4, 6, 4], np.uint16)
    assert packing.plan_rows(slots, 12, 8).rows == 3


def test_one_window_a_row_is_one_window_a_row():
    slots = np.asarray([3, 5, 3, 9], np.uint16)
    rows = rows_of(slots, 12, 1, 0)
    assert sorted(rows[:, 0].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("length", [128, 512])
def test_windows_like_those_of_long_documents_fill_98_percent(length):
    """Half the windows are full, a third ends where its document ends, the rest aims at a random shorter length."""
    rng = np.random.default_rng(0)
    kind = rng.random(20_000)
    slots = np.where(kind < 0.5, length - rng.integers(0, 3, kind.size), rng.integers(5, length + 1, kind.size))
    rows = packing.plan_rows(slots.astype(np.uint16), length, 8).rows
    assert slots.sum() / (rows * length) >= 0.98


@pytest.mark.parametrize("length", [128, 512])
def test_many_short_windows_do_not_end_up_in_rows_of_their_own(length):
    """A fifth of the windows is tiny: eight of them fill a fraction of a row, so they must lie beside longer ones."""
    rng = np.random.default_rng(1)
    kind = rng.random(20_000)
    slots = np.where(kind < 0.4, length - rng.integers(0, 3, kind.size), rng.integers(5, length + 1, kind.size))
    slots = np.where(kind > 0.8, rng.integers(3, length // 16 + 1, kind.size), slots)
    rows = packing.plan_rows(slots.astype(np.uint16), length, 8).rows
    assert slots.sum() / (rows * length) >= 0.98


def test_the_plan_knows_nothing_of_the_order_of_the_windows():
    rng = np.random.default_rng(2)
    slots = rng.integers(3, 129, 5000).astype(np.uint16)
    first, second = packing.plan_rows(slots, 128, 8), packing.plan_rows(rng.permutation(slots), 128, 8)
    for field in ("pattern_ends", "patterns", "first_ranks"):
        assert np.array_equal(getattr(first, field), getattr(second, field))


def test_passes_shuffle_windows_of_one_length_among_themselves():
    slots = np.repeat(np.asarray([7, 3, 5], np.uint16), 100)
    orders = [packing.order_windows(slots, 0, 0, number) for number in (0, 0, 1)]
    assert np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    for order in orders:
        assert np.array_equal(slots[order], np.sort(slots))
        assert np.array_equal(np.sort(order), np.arange(300))


def test_another_seed_gives_another_order_of_rows():
    first, second = packing.order_rows(100, 0, 0), packing.order_rows(100, 1, 0)
    assert np.array_equal(np.sort(first), np.arange(100))
    assert np.array_equal(np.sort(second), np.arange(100))
    assert not np.array_equal(first, second)


def test_numbers_of_windows_do_not_wrap_around():
    """numpy.arange(2**31 + 1, dtype=numpy.int32) ends in -2**31, and says nothing."""
    assert np.arange(2**31 - 1, 2**31).astype(packing.index_type(2**31))[0] == 2**31 - 1
    assert np.arange(2**31, 2**31 + 1).astype(packing.index_type(2**31 + 1))[0] == 2**31
    assert packing.index_type(1000) is np.int32  # Half the memory, as long as it will do.
