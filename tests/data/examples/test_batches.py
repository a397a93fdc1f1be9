"""Every example once an epoch, every batch of one size and shape, every row as full as it can be."""

import tracemalloc

import numpy as np
import pytest

from bertlite_jax.config.model import Head
from bertlite_jax.data.examples import batches
from bertlite_jax.data.examples.features import Encoded

TWO = Head(labels=("bad", "good"))
CHOOSE = Head(kind="choose", labels=())
TAGS = Head(kind="tag", labels=("O", "B", "I"))


def made(sizes, choices: int = 1) -> Encoded:
    """Examples of so many tokens; token t of the split has id 10 + t, so that each can be told."""
    sizes = np.asarray(sizes)
    offsets = np.r_[0, np.cumsum(np.repeat(sizes, choices))]
    total = int(offsets[-1])
    return Encoded(
        tokens=np.arange(total, dtype=np.int32) + 10,
        types=np.zeros(total, np.int8),
        words=np.zeros(0, np.int32),
        offsets=offsets,
        firsts=np.arange(len(sizes) + 1) * choices,
        labels=np.arange(len(sizes), dtype=np.int32) % 2,
        counts={"examples": len(sizes), "tokens": total},
    )


def lengths(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(4, 40, count)


@pytest.mark.parametrize(("examples", "batch"), [(100, 32), (96, 32), (5, 32), (1, 4), (67, 8)])
def test_an_epoch_holds_every_example_once_in_batches_of_one_size(examples: int, batch: int):
    dealt = batches.deal(lengths(examples), batch, seed=3, epoch=1)
    assert len(dealt) == batches.batches_in_epoch(examples, batch) == -(-examples // batch)
    assert sorted(dealt[dealt >= 0].tolist()) == list(range(examples))
    filled = (dealt >= 0).sum(axis=1)
    assert filled.max() <= batch
    assert filled.max() - filled.min() <= 1


def test_epochs_and_seeds_differ_and_repeat():
    sizes = lengths(200)
    first = batches.deal(sizes, 16, 0, 0)
    np.testing.assert_array_equal(first, batches.deal(sizes, 16, 0, 0))
    assert (first != batches.deal(sizes, 16, 0, 1)).any()
    assert (first != batches.deal(sizes, 16, 1, 0)).any()


def test_batches_have_nearly_the_same_number_of_tokens():
    """Dealt by size their totals spread far less than those of a plain shuffle."""
    sizes = np.random.default_rng(1).geometric(0.08, 3200) + 4
    dealt = batches.deal(sizes, 32, 0, 0)
    plain = np.random.default_rng(2).permutation(3200).reshape(-1, 32)
    assert np.std(sizes[dealt].sum(1)) < np.std(sizes[plain].sum(1)) / 3


def test_rows_hold_every_item_and_never_more_than_their_length():
    sizes = lengths(64)
    rows = batches.fit(sizes, 48)
    assert sorted(item for row in rows for item in row) == list(range(64))
    assert all(sizes[row].sum() <= 48 for row in rows)
    assert len(rows) <= 11 / 9 * -(-sizes.sum() // 48) + 1  # First-fit decreasing; Johnson 1973.


@pytest.mark.parametrize("pack", [True, False])
def test_every_batch_of_every_epoch_fits_the_planned_shape(pack: bool):
    split = made(lengths(150))
    shape = batches.plan(split, 16, pack, 0, 3, seed=5)
    for epoch in range(3):
        dealt = batches.deal(split.sizes, 16, 5, epoch)
        for index in range(len(dealt)):
            layout = batches.batch_at(split, dealt, index, shape, TWO, pack, 0)
            assert layout.batch["tokens"].shape == shape[:2]
            assert set(layout.windows[layout.windows >= 0]) == set(dealt[index][dealt[index] >= 0])
            assert layout.batch["weights"].sum() == (dealt[index] >= 0).sum()


def test_packed_batches_are_nearly_without_padding():
    split = made(np.random.default_rng(1).geometric(0.08, 3200).clip(max=60) + 4)
    shape = batches.plan(split, 32, True, 0, 1, seed=0)
    slots = shape.rows * shape.length * batches.batches_in_epoch(3200, 32)
    assert split.counts["tokens"] / slots > 0.85
    padded = batches.plan(split, 32, False, 0, 1, seed=0)
    assert padded.rows == 32
    assert padded.windows == 1
    assert split.counts["tokens"] / (padded.rows * padded.length * 100) < 0.35


@pytest.mark.parametrize("seed", range(4))
def test_the_length_of_rows_is_that_of_the_fullest_batch(seed: int):
    """99 batches of 31 tens and a 30, which would fit 6 rows of 64, and one with a 60, which wants 7: 448 slots.

    5 rows of 80 hold all of them: 30 + 5 tens or 60 + 2 tens, and 8 tens in each of the others.
    """
    sizes = np.full(3200, 10)
    sizes[:99], sizes[99] = 30, 60
    shape = batches.plan(made(sizes), 32, True, 0, 1, seed)
    assert shape[:2] == (5, 80)


def test_a_plan_of_many_epochs_takes_the_memory_of_one():
    split = made(lengths(2000))

    def peak(epochs: int) -> int:
        tracemalloc.start()
        batches.plan(split, 500, False, 0, epochs, seed=0)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(30) < 2 * peak(2)


def test_windows_lie_in_rows_with_their_own_segments_positions_and_labels():
    """Three windows of 3, 4 and 5 tokens; two of them share a row of 9."""
    split = made([3, 4, 5])
    layout = batches.lay_out(split, [[2, 1], [0]], batches.Shape(3, 9, 2), TWO, pad_id=7)
    batch = layout.batch
    assert batch["tokens"].tolist() == [[17, 18, 19, 20, 21, 13, 14, 15, 16], [10, 11, 12] + [7] * 6, [7] * 9]
    assert batch["segments"].tolist() == [[1] * 5 + [2] * 4, [1] * 3 + [0] * 6, [0] * 9]
    assert batch["positions"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3], [0, 1, 2] + [0] * 6, [0] * 9]
    assert batch["cls"].tolist() == [[0, 5], [0, 0], [0, 0]]
    assert batch["labels"].tolist() == [[0, 1], [0, 0], [0, 0]]
    assert batch["weights"].tolist() == [[1, 1], [1, 0], [0, 0]]
    assert layout.windows.tolist() == [[2, 1], [0, -1], [-1, -1]]


def test_the_choices_of_an_example_share_a_row_and_a_number():
    split = made([3, 4], choices=2)
    layout = batches.lay_out(split, [[0, 1]], batches.Shape(1, 14, 5), CHOOSE, pad_id=0)
    assert layout.batch["choices"].tolist() == [[1, 1, 2, 2, 0]]
    assert layout.batch["weights"].tolist() == layout.batch["labels"].tolist() == [[1, 0, 0, 1, 0]]
    assert split.sizes.tolist() == [6, 8]


def test_unlabelled_examples_and_pieces_weigh_nothing():
    split = made([3, 4])
    split.labels[:] = (-1, 1)
    layout = batches.lay_out(split, [[0, 1]], batches.Shape(1, 8, 2), TWO, pad_id=0)
    assert layout.batch["weights"].tolist() == [[0, 1]]
    tags = Encoded(**{**vars(split), "labels": np.array([-1, 2, -1, -1, 0, 1, -1], np.int32)})
    layout = batches.lay_out(tags, [[0, 1]], batches.Shape(1, 8, 2), TAGS, pad_id=0)
    assert layout.batch["weights"].tolist() == [[0, 1, 0, 0, 1, 1, 0, 0]]
    assert layout.batch["labels"].tolist() == [[0, 2, 0, 0, 0, 1, 0, 0]]


@pytest.mark.parametrize("pack", [True, False])
def test_an_evaluation_holds_every_window_once_in_batches_of_one_shape(pack: bool):
    split = made(lengths(101), choices=2)
    layouts = list(batches.evaluation_batches(split, 64, pack, 8, CHOOSE, 0, slots=1024))
    assert len({layout.batch["tokens"].shape for layout in layouts}) == 1
    assert layouts[0].batch["tokens"].shape[0] % 8 == 0
    found = np.concatenate([layout.windows[layout.windows >= 0] for layout in layouts])
    assert sorted(found.tolist()) == list(range(202))
