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
    shapes = [buckets.batch_at(rows, step)["tokens"].shape for step in range(rows.steps_per_epoch)]
    assert set(shapes) == {(32, 16), (16, 32), (8, 64)}
    assert tuple(shapes.count(shape) for shape in ((32, 16), (16, 32), (8, 64))) == rows.steps
    assert shapes != sorted(shapes), "steps of all lengths are mixed"


def test_a_window_stands_in_the_shortest_rows_that_hold_it(folder):
    rows = opened(folder)
    for step in range(rows.steps_per_epoch):
        batch = buckets.batch_at(rows, step)
        used = (batch["segments"] > 0).sum(axis=1)
        length = batch["tokens"].shape[1]
        assert (used <= length).all()
        assert batch["segments"].max() == 1
        assert (used > {16: 0, 32: 16, 64: 32}[length]).all()


def test_passes_hold_every_unit_as_often(folder):
    """Rounding gives an epoch a few rows more or less than there are; a length's own rows follow each other all the
    same, so that after n whole passes each unit was there n times.
    """
    rows = opened(folder)
    whole = source.open_source(Data(corpus=(folder,), length=LENGTH, pack=False), "train", 0)
    for part in rows.sources:
        count = source.rows_per_epoch(part)
        _, units, _ = source.units_of(part, np.arange(3 * count))
        found, times = np.unique(units, return_counts=True)
        assert (times == 3).all()
        assert len(found) == count
        slots = whole.corpora[0].slots[found]
        assert slots.max() <= part.data.length
    assert sum(source.rows_per_epoch(part) for part in rows.sources) == len(whole.corpora[0].slots)


def test_a_step_does_not_depend_on_those_before_and_processes_share_it(folder):
    first, other = opened(folder), opened(folder)
    steps = [0, 1, 2, first.steps_per_epoch, 3 * first.steps_per_epoch + 1]
    for step in reversed(steps):
        whole = buckets.batch_at(first, step)
        halves = [buckets.batch_at(other, step, process, 2) for process in range(2)]
        for name, value in whole.items():
            np.testing.assert_array_equal(value, np.concatenate([half[name] for half in halves]), name)


def test_epochs_are_shuffled_anew(folder):
    rows = opened(folder)
    length_of = lambda step: buckets.find(rows, step)[0].data.length  # noqa: E731
    first = [length_of(step) for step in range(rows.steps_per_epoch)]
    second = [length_of(rows.steps_per_epoch + step) for step in range(rows.steps_per_epoch)]
    assert first != second
    assert sorted(first) == sorted(second)


def test_a_length_that_fills_no_batch_is_joined_with_the_next(folder):
    """With 4096 rows of 16 in a step none is filled; all windows up to 32 stand in rows of 32, and so on."""
    rows = opened(folder, rows=1024)
    assert [part.data.length for part in rows.sources] == [LENGTH]
    batch = buckets.batch_at(rows, 0)
    assert ((batch["segments"] > 0).sum(axis=1) <= 16).any()


def test_without_buckets_a_step_is_that_of_the_source(folder):
    rows = opened(folder, ())
    for step in (0, 7, 1000):
        wanted = batches.batch_at(rows.sources[0], step, ROWS)
        for name, value in buckets.batch_at(rows, step).items():
            np.testing.assert_array_equal(value, wanted[name])
