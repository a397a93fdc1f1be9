"""Batches and rows that change on the way: which rows a step has; none of an epoch comes twice or is left out."""

import functools

import numpy as np
import pytest
import synthetic_corpus

from bertlite_jax.config.pretrain import Data, Pretrain, Run
from bertlite_jax.data.rows import batches, buckets, source, stages
from bertlite_jax.errors import UserError

ROWS, STEPS = 8, 60
RAMP = ((2, 5), (4, 21))
"""Two rows at the steps 1 to 5, four at 6 to 21, then ROWS."""


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> tuple[str, str]:
    """For rows of 32 and of 64 tokens."""
    folder = tmp_path_factory.mktemp("corpora")
    for length in (32, 64):
        synthetic_corpus.build(folder / str(length), 40, length, length=length)
    return str(folder / "32"), str(folder / "64")


def config(corpora: tuple[str, ...], data: dict | None = None, **run) -> Pretrain:
    """A run of 60 steps that ramps its batch, with these changes of `data` and `run`."""
    values: dict = {"corpus": corpora, "length": 64, "batch_rows": ROWS} | (data or {})
    return Pretrain(data=Data(**values), run=Run(**{"steps": STEPS, "batches": RAMP} | run))


BUCKETS = {"pack": False, "buckets": (16, 32)}


def opened(values: Pretrain) -> stages.Stages:
    return stages.open_stages(values, functools.partial(source.open_source, split="train", seed=0))


def taken(values: Pretrain) -> dict[int, list[int]]:
    """The numbers of all rows of the run in the order of its steps, by their length."""
    rows = opened(values)
    found: dict[int, list[int]] = {}
    for step in range(1, values.run.steps + 1):
        drawn, numbers = stages.rows_of(rows, step)
        found.setdefault(drawn.data.length, []).extend(numbers.tolist())
    return found


def test_a_batch_that_grows_takes_the_rows_that_follow(corpora):
    """5 x 2 + 16 x 4 + 39 x 8 rows, over more than one epoch; each number once and in order."""
    found = taken(config(corpora[1:]))
    assert found == {64: list(range(10 + 64 + 312))}
    assert source.rows_per_epoch(opened(config(corpora[1:]))[0].source) < 386


def test_steps_have_the_rows_of_their_numbers(corpora):
    rows = opened(config(corpora[1:]))
    for step, numbers in ((5, [8, 9]), (6, [10, 11, 12, 13]), (22, list(range(74, 82)))):
        batch = stages.batch_at(rows, step)
        wanted = batches.rows_at(rows[0].source, np.array(numbers))
        np.testing.assert_array_equal(batch["tokens"], wanted["tokens"])
        assert batch["rows"].tolist() == list(range(len(numbers)))


def test_a_growing_batch_takes_every_row_of_every_bucket_once(corpora):
    """The lengths of an epoch's steps are shuffled anew where the batch changes; the rows of each go on."""
    values = config(corpora[1:], BUCKETS)
    found = taken(values)
    assert sorted(found) == [16, 32, 64]
    for numbers in found.values():
        assert numbers == list(range(len(numbers)))


def test_every_step_has_the_slots_of_its_batch(corpora):
    """One choice of lengths for the whole run, made with its largest batch."""
    rows = opened(config(corpora[1:], BUCKETS))
    assert len({tuple(part.data.length for part in stage.buckets.sources) for stage in rows}) == 1
    for step in range(1, STEPS + 1):
        wanted = 2 if step <= 5 else 4 if step <= 21 else ROWS
        assert stages.batch_at(rows, step)["tokens"].size == wanted * 64


def test_longer_rows_come_from_their_own_corpus(corpora):
    """Rows of 32 up to step 30, then of 64, then of 32 again, which go on where they were left."""
    values = config(corpora, {"length": 32}, lengths=((32, 30), (64, 40)))
    rows = opened(values)
    assert [stages.data_at(rows, step).corpus for step in (1, 30, 31, 41)] == [
        corpora[:1], corpora[:1], corpora[1:], corpora[:1]
    ]  # fmt: skip
    found = taken(values)
    assert found[64] == list(range(10 * ROWS))
    assert found[32] == list(range(10 + 64 + 9 * ROWS + 20 * ROWS))


def test_a_step_does_not_depend_on_those_before_and_processes_share_it(corpora):
    first, other = (opened(config(corpora, lengths=((32, 10),))) for _ in range(2))
    for step in (60, 22, 11, 10, 6, 1):
        whole = stages.batch_at(first, step)
        halves = [stages.batch_at(other, step, process, 2) for process in range(2)]
        for name, value in whole.items():
            np.testing.assert_array_equal(value, np.concatenate([half[name] for half in halves]), name)


def test_without_schedules_it_is_the_source_itself(corpora):
    values = config(corpora[1:], batches=())
    rows = opened(values)
    assert len(rows) == 1
    for step in (1, 8, 1001):
        wanted = buckets.batch_at(buckets.open_buckets(rows[0].source), step)
        for name, value in stages.batch_at(rows, step).items():
            np.testing.assert_array_equal(value, wanted[name])


def test_layers_alone_make_no_other_rows(corpora):
    assert len(opened(config(corpora[1:], batches=(), depths=((3, 10),)))) == 1


def test_weights_go_with_their_corpora(corpora):
    values = config(corpora, {"weights": (2.0, 3.0)}, lengths=((32, 10),))
    assert stages.of_length(values).weights == (3.0,)
    assert stages.of_length(values).corpus == corpora[1:]


def test_a_length_without_a_corpus_is_named_with_the_command(corpora):
    with pytest.raises(UserError) as refused:
        opened(config(corpora, lengths=((48, 10), (32, 20))))
    assert str(refused.value) == (
        f"corpus: run.lengths needs a corpus for rows of 48 tokens, and none of {corpora[0]}, {corpora[1]} is one; "
        "build it with `bertlite corpus --length 48` and add it to data.corpus"
    )


def test_a_corpus_without_steps_is_named(corpora):
    values = config(corpora, lengths=((48, 10),))
    with pytest.raises(UserError, match="was built for rows of 32 tokens, and the run has rows of 48 and 64; leave it"):
        opened(values)
