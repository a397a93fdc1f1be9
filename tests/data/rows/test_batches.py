"""Batches are functions of (seed, step, global row)."""

import dataclasses
import itertools
import threading

import numpy as np
import pytest
import synthetic_corpus
from corpus_rows import CLS, LENGTH, ROWS, SEP, opened, same, segments_of

from bertlite_jax.config.batch import BATCH, batch_shapes
from bertlite_jax.data.rows import batches, source

# --- The layout of a row ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["sop", "nsp", "three_way", "none"])
def test_a_batch_has_the_shapes_and_the_layout_of_the_contract(corpus, task):
    batch = batches.batch_at(opened(corpus, pair_task=task), 4, ROWS)
    assert {name: value.shape for name, value in batch.items()} == batch_shapes(ROWS, LENGTH, windows=8)
    assert all(value.dtype == BATCH[name].dtype for name, value in batch.items())
    assert np.array_equal(batch["rows"], np.arange(ROWS))
    padding = batch["segments"] == 0
    for name in ("tokens", "positions", "token_types", "word_starts"):
        assert not batch[name][padding].any()
    for row in range(ROWS):
        segments = batch["segments"][row]
        used = int((segments > 0).sum())
        assert not segments[used:].any()
        assert (np.diff(segments[:used]) >= 0).all()
        opens = np.flatnonzero(np.diff(segments[:used], prepend=0) > 0)
        assert (np.diff(np.append(opens, used)) >= 3).all()
        assert batch["cls"][row, : len(opens)].tolist() == opens.tolist()
        assert not batch["cls"][row, len(opens) :].any()
        assert not batch["pair_weights"][row, len(opens) :].any()
        for start, stop in itertools.pairwise([*opens.tolist(), used]):
            assert batch["positions"][row, start:stop].tolist() == list(range(stop - start))
            assert batch["tokens"][row, start] == CLS
            assert batch["tokens"][row, stop - 1] == SEP
            paired = batch["token_types"][row, start:stop].any()
            assert (batch["tokens"][row, start:stop] == SEP).sum() == (2 if paired else 1)


def test_word_starts_are_those_of_the_corpus(corpus):
    """In the synthetic corpus a word starts at each token from 300 on."""
    batch = batches.batch_at(opened(corpus), 1, ROWS)
    ordinary = batch["tokens"] > 4
    assert np.array_equal(batch["word_starts"][ordinary], (batch["tokens"][ordinary] >= 300).astype(int))
    assert not batch["word_starts"][~ordinary].any()


def test_without_packing_each_row_holds_one_window(corpus):
    batch = batches.batch_at(opened(corpus, pack=False), 1, ROWS)
    assert batch["cls"].shape == (ROWS, 1)
    assert batch["segments"].max(axis=1).tolist() == [1] * ROWS


# --- Purity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["sop", "three_way"])
def test_a_batch_is_a_function_of_seed_and_step(corpus, task):
    one, other = opened(corpus, pair_task=task), opened(corpus, pair_task=task)
    forwards = [batches.batch_at(one, step, ROWS) for step in (1, 2, 41, 91)]
    backwards = [batches.batch_at(other, step, ROWS) for step in (91, 41, 2, 1)]
    assert all(same(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    assert not same(forwards[0], forwards[1])
    assert not same(forwards[0], batches.batch_at(opened(corpus, seed=1, pair_task=task), 1, ROWS))


def test_sources_cannot_be_changed(corpus):
    with pytest.raises(dataclasses.FrozenInstanceError):
        opened(corpus).seed = 1  # pyright: ignore[reportAttributeAccessIssue] what is tested


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("task", ["sop", "nsp"])
def test_processes_share_the_rows_that_one_would_make(corpus, task, processes):
    opened_source = opened(corpus, pair_task=task)
    alone = batches.batch_at(opened_source, 5, ROWS)
    parts = [batches.batch_at(opened(corpus, pair_task=task), 5, ROWS, i, processes) for i in range(processes)]
    assert all(len(part["rows"]) == ROWS // processes for part in parts)
    assert same(alone, {name: np.concatenate([part[name] for part in parts]) for name in alone})


def test_the_rows_of_the_sequence_do_not_depend_on_the_batch_size(corpus):
    opened_source = opened(corpus)
    small = [batches.batch_at(opened_source, step, 8)["tokens"] for step in range(1, 5)]
    assert np.array_equal(np.concatenate(small), batches.batch_at(opened_source, 1, 32)["tokens"])


@pytest.mark.parametrize("threads", [1, 3])
def test_the_feed_starts_anywhere_and_keeps_order_with_any_number_of_threads(corpus, threads):
    opened_source = opened(corpus)
    steps = source.rows_per_epoch(opened_source) // ROWS  # so that the feed goes on into the second epoch
    fed = list(batches.feed(lambda step: batches.batch_at(opened_source, step, ROWS), steps - 2, steps + 4, threads))
    assert len(fed) == 7
    assert all(same(a, batches.batch_at(opened(corpus), steps - 2 + i, ROWS)) for i, a in enumerate(fed))


def test_threads_do_not_disturb_each_other(corpus):
    shared_source = opened(corpus, pair_task="nsp")
    expected = [batches.batch_at(opened(corpus, pair_task="nsp"), step, ROWS) for step in range(1, 25)]
    made = {}

    def work(first: int) -> None:
        for step in range(first, 25, 4):
            made[step] = batches.batch_at(shared_source, step, ROWS)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(expected[step - 1], made[step]) for step in range(1, 25))


# --- Evaluation ------------------------------------------------------------------------------------------------------


def test_an_evaluation_reads_each_window_once_and_pads_the_last_batch(corpus):
    held_out = opened(corpus, split="validation", pair_task="none")
    found = list(batches.evaluation_rows(held_out, 0, 20))
    total = source.rows_per_epoch(held_out)
    assert {len(batch["rows"]) for batch in found} == {20}
    assert total % 20
    assert np.concatenate([batch["rows"] for batch in found])[:total].tolist() == list(range(total))
    empty = {name: value[total % 20 :] for name, value in found[-1].items()}
    assert not empty["segments"].any()
    assert not empty["pair_weights"].any()
    assert not empty["tokens"].any()
    expected = synthetic_corpus.windows_of_documents(LENGTH, 6, 1000)
    assert sorted(a for batch in found for a, _ in segments_of(batch)) == sorted(w["tokens"].tolist() for w in expected)


def test_an_evaluation_does_not_depend_on_batch_size_or_processes(corpus):
    held_out = opened(corpus, split="validation")
    large = list(batches.evaluation_rows(held_out, 20, 32))
    small = list(batches.evaluation_rows(held_out, 20, 8))
    halves = [list(batches.evaluation_rows(held_out, 20, 8, i, 2)) for i in range(2)]
    assert len(large) == 1
    assert len(small) == 3
    for name in large[0]:
        assert np.array_equal(np.concatenate([batch[name] for batch in small])[:20], large[0][name][:20])
        for step, batch in enumerate(small):
            assert np.array_equal(np.concatenate([half[step][name] for half in halves]), batch[name])


def test_there_is_no_step_0(corpus):
    with pytest.raises(ValueError, match="steps count from 1"):
        batches.batch_at(opened(corpus), 0, ROWS)
