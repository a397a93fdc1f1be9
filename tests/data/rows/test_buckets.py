"""Steps with rows of one of several lengths: which windows they hold, and that nothing depends on the steps before."""

import numpy as np
import pytest
import synthetic_corpus

from bertlite_jax.config.pretrain import Data
from bertlite_jax.data.rows import batches, buckets, source

LENGTH, ROWS = 64, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    place = tmp_path_factory.mktemp("corpora") / "mixed"
    synthetic_corpus.build(place, 150, 0)
    return str(place)


def opened(folder: str, lengths: tuple[int, ...] = (16, 32), rows: int = ROWS) -> buckets.Buckets:
    data = Data(corpus=(folder,), length=LENGTH, batch_rows=rows, pack=False, buckets=lengths)
    return buckets.open_buckets(source.open_source(data, "train", 0))


def test_every_step_has_as_many_slots_in_rows_of_one_length(folder):
    rows = opened(folder)
    shapes = [buckets.batch_at(rows, step)["tokens"].shape for step in range(1, rows.steps_per_epoch + 1)]
    assert set(shapes) == {(32, 16), (16, 32), (8, 64)}
    assert tuple(shapes.count(shape) for shape in ((32, 16), (16, 32), (8, 64))) == rows.steps
    assert shapes != sorted(shapes), "steps of all lengths are mixed"


def test_a_window_stands_in_the_shortest_rows_that_hold_it(folder):
    rows = opened(folder)
    for step in range(1, rows.steps_per_epoch + 1):
        batch = buckets.batch_at(rows, step)
        used = (batch["segments"] > 0).sum(axis=1)
        length = batch["tokens"].shape[1]
        assert (used <= length).all()
        assert batch["segments"].max() == 1
        assert (used > {16: 0, 32: 16, 64: 32}[length]).all()


def test_passes_hold_every_part_as_often(folder):
    """After n whole passes each part of a window was there n times.

    Rounding gives an epoch a few rows more or less than there are; a length's own rows follow each other all the same.
    """
    rows = opened(folder)
    whole = source.open_source(Data(corpus=(folder,), length=LENGTH, pack=False), "train", 0)
    for of_length in rows.sources:
        count = source.rows_per_epoch(of_length)
        _, parts, _ = source.parts_of(of_length, np.arange(3 * count))
        found, times = np.unique(parts, return_counts=True)
        assert (times == 3).all()
        assert len(found) == count
        slots = whole.corpora[0].slots[found]
        assert slots.max() <= of_length.data.length
    assert sum(source.rows_per_epoch(part) for part in rows.sources) == len(whole.corpora[0].slots)


def test_a_step_does_not_depend_on_those_before_and_processes_share_it(folder):
    first, other = opened(folder), opened(folder)
    steps = [1, 2, 3, first.steps_per_epoch + 1, 3 * first.steps_per_epoch + 2]
    for step in reversed(steps):
        whole = buckets.batch_at(first, step)
        halves = [buckets.batch_at(other, step, process, 2) for process in range(2)]
        for name, value in whole.items():
            np.testing.assert_array_equal(value, np.concatenate([half[name] for half in halves]), name)


def test_epochs_are_shuffled_anew(folder):
    rows = opened(folder)
    count = rows.steps_per_epoch
    lengths = [buckets.rows_of(rows, step)[0].data.length for step in range(1, 2 * count + 1)]
    first, second = lengths[:count], lengths[count:]
    assert first != second
    assert sorted(first) == sorted(second)


def test_a_length_that_fills_no_batch_is_joined_with_the_next(folder):
    """With 4096 rows of 16 in a step none is filled; all windows up to 32 stand in rows of 32, and so on."""
    rows = opened(folder, rows=1024)
    assert [part.data.length for part in rows.sources] == [LENGTH]
    batch = buckets.batch_at(rows, 1)
    assert ((batch["segments"] > 0).sum(axis=1) <= 16).any()


def test_without_buckets_a_step_is_that_of_the_source(folder):
    rows = opened(folder, ())
    for step in (1, 8, 1001):
        wanted = batches.batch_at(rows.sources[0], step, ROWS)
        for name, value in buckets.batch_at(rows, step).items():
            np.testing.assert_array_equal(value, wanted[name])


def test_there_is_no_step_0(folder):
    with pytest.raises(ValueError, match="steps count from 1"):
        buckets.find(opened(folder), 0)
