"""No point may be an example that is kept out, nor have a longer text of one."""

import pytest
from toy_task import write_sst2

from bertlite_jax.data import tasks
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.jobs.agora import leaks

DEV = [
    Example("1", "The queen went down again.", "She said no.", label=0),
    Example("2", "Which way?", choices=("Left at the old door", "Right"), label=1),
]
KEPT_OUT = leaks.kept_out(DEV)


@pytest.mark.parametrize(
    "example",
    [
        DEV[0],
        Example("9", "the  QUEEN went\u00a0down again.", "She said no."),
        Example("9", "The queen went down again.", "Another second text."),  # The first text as it was.
        Example("9", "Other words.", "The queen went down again."),  # In another place.
        Example("9", "The queen, went down again", "Another second text."),
        Example("9", "Where to?", choices=("left at the old door", "Up")),
        Example("9", "Which way?", choices=("Left at the old door", "Right")),
    ],
)
def test_what_is_kept_out_is_known_in_any_spelling(example: Example):
    assert KEPT_OUT.has(example)


@pytest.mark.parametrize(
    "example",
    [
        Example("1", "The queen went down.", "She said no."),  # A word less; three words alone are anybody's.
        Example("2", "Which way?", choices=("Left at the door", "Right")),
        Example("3", "The queen went down again. She said no."),
    ],
)
def test_a_changed_example_is_not(example: Example):
    assert not KEPT_OUT.has(example)


def test_characters_are_words_where_words_have_no_spaces():
    kept_out = leaks.kept_out([Example("1", "\u5979\u4e0d\u60f3\u8d70\u3002", "\u597d\u5427")])
    assert kept_out.has(Example("9", "\u5979\u4e0d\u60f3\u8d70", "\u4e0d\u884c"))
    assert not kept_out.has(Example("9", "\u5979\u60f3\u8d70", "\u597d\u5427"))


def test_texts_of_nothing_but_punctuation_are_told_apart():
    assert leaks.row_of(Example("1", "?!")) != leaks.row_of(Example("1", "..."))


def test_the_texts_of_an_example_are_not_run_together():
    assert leaks.row_of(Example("1", "ab", "c")) != leaks.row_of(Example("1", "a", "bc"))
    assert leaks.row_of(Example("1", "ab")) != leaks.row_of(Example("1", "ab", ""))


def test_all_files_but_the_training_file_are_kept_out(tmp_path, capsys):
    place = write_sst2(tmp_path, train=5, dev=4, test=3)
    task = tasks.TASKS["sst2"]
    found = {example.text for example in leaks.other_splits(task, place)}
    of_splits = [{e.text for e in tasks.read(task, place, split)} for split in ("validation", "test")]
    assert found == of_splits[0] | of_splits[1]
    (tmp_path / "SST-2/test.tsv").unlink()
    assert {example.text for example in leaks.other_splits(task, place)} == of_splits[0]
    assert "agora: test cannot be compared with new points: " in capsys.readouterr().out
