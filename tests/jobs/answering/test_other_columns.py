"""CoNLL columns in another number than a tagger was trained on: their last one need not hold its tags."""

import json
import pathlib
from typing import Any

import pytest

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import scoring

TAGS = Head(kind="tag", labels=("O", "B-X"))


@pytest.fixture
def run(tmp_path) -> str:
    (tmp_path / "summary.json").write_text(json.dumps({"train_conll_columns": 4}), encoding="utf-8")
    return str(tmp_path)


def conll(folder: pathlib.Path, *rows: str) -> str:
    (folder / "words.conll").write_text("-DOCSTART- -X- O\n\n" + "\n".join(rows) + "\n\n", encoding="utf-8")
    return str(folder / "words.conll")


def scores(run: str, path: str, *tags: int) -> scoring.Scores:
    found = scoring.Scores(run, TAGS, {})
    found.other_form = scoring.other_columns(run, path, TAGS)
    examples: list[Any] = [Example("0", "", words=("a",) * len(tags), label=tags)]
    found.add(examples, [(1,) * len(tags)])
    return found


def test_a_column_of_o_in_place_of_tags_is_not_scored_and_the_line_says_why(run, tmp_path):
    path = conll(tmp_path, "what NN O", "is NN O")
    with pytest.raises(
        UserError, match=r"words.conll has 3 columns, and the training file had 4; .* nothing is scored"
    ):
        scores(run, path, 0, 0).result()


def test_tags_of_the_model_are_scored_however_many_columns_stand_before_them(run, tmp_path):
    path = conll(tmp_path, "what B-X", "is O")
    assert scores(run, path, 1, 0).result()["accuracy"] == 0.5


def test_the_form_of_the_training_file_is_scored_whatever_its_tags(run, tmp_path):
    path = conll(tmp_path, "what NN O O", "is NN O O")
    assert scores(run, path, 0, 0).result()["accuracy"] == 0.0


def test_other_files_and_runs_say_nothing(run, tmp_path):
    (tmp_path / "words.jsonl").write_text('{"words": ["a"]}\n', encoding="utf-8")
    assert scoring.other_columns(run, str(tmp_path / "words.jsonl"), TAGS) == ""
    path = conll(tmp_path, "what NN O")
    assert scoring.other_columns(run, path, Head(labels=("a", "b"))) == ""
    (tmp_path / "summary.json").unlink()
    assert scoring.other_columns(run, path, TAGS) == ""


@pytest.mark.parametrize(("tags", "answers"), [("O I-X I-X", "O B-X I-X"), ("I-X O I-X", "B-X O O")])
def test_spans_of_iob1_are_told_by_how_a_model_of_iob2_answers_them(run, tags, answers):
    """The tags are all known, and span_f1 is 1 or 2/3 in spite of an accuracy of 2/3 or 1/3."""
    head = Head(kind="tag", labels=("O", "B-X", "I-X"))
    gold, answered = ([head.labels.index(tag) for tag in row.split()] for row in (tags, answers))

    def note(label: list[int], answer: list[int]) -> str:
        found = scoring.Scores(run, head, {})
        examples: list[Any] = [Example("0", "", words=("a",) * 3, label=tuple(label))]
        found.add(examples, [tuple(answer)])
        return found.other_scheme()

    assert "1 of the 1 spans that were found begin with I- in the input and with B- in the" in note(gold, answered)
    assert "accuracy counts them as errors, span_f1, span_precision, span_recall only compare" in note(gold, answered)
    assert note(answered, answered) == note(answered, gold) == ""


def test_a_column_that_holds_no_tags_can_be_left_out(run):
    found = scoring.Scores(run, TAGS, {"B-NP": 2})
    examples: list[Any] = [Example("0", "", words=("a", "b"), label=(2, 2))]
    found.add(examples, [(1, 0)])
    with pytest.raises(UserError, match=r"it has B-NP. If another column .*, pass --no-score; otherwise pass --labels"):
        found.result()
