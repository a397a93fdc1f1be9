"""What stands for no label, or for no text, is treated alike in every format."""

import json
import math

import pytest
from task_files import counted, examples, own, put

from bertlite_jax.data.tasks import fields
from bertlite_jax.errors import UserError

FORMATS = ["csv", "tsv", "jsonl", "json", "parquet"]
UNSEEN = ["\u200b", "\ufeff", " \u2060 ", "\u200d\u200c", "\u00ad", "\u3164", "\u2800", "\u3000", "\ufe0f"]
"""A zero width space, a byte order mark, a word joiner, joiners, a soft hyphen, fillers, white space."""


def file_of(tmp_path, suffix: str, rows: list[tuple], name: str = "own") -> str:
    """Texts and labels in one of the formats; None is an empty cell, null in JSON and Parquet."""
    if suffix == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        made = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
        parquet.write_table(pyarrow.table(made), tmp_path / f"{name}.parquet")
        return str(tmp_path / f"{name}.parquet")
    if suffix in ("csv", "tsv"):
        gap = "," if suffix == "csv" else "\t"
        cells = [(text, "" if label is None else str(label)) for text, label in rows]
        return put(tmp_path, f"{name}.{suffix}", f"text{gap}label", *(gap.join(row) for row in cells))
    objects = [{"text": text, "label": label} for text, label in rows]
    return put(tmp_path, f"{name}.{suffix}", *(objects if suffix == "jsonl" else [json.dumps(objects)]))


def refused(path: str, *more: str, split: str = "train", **settings) -> str:
    with pytest.raises(UserError) as caught:
        examples(own(path, *more, **settings), "", split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def named(*labels) -> list[tuple]:
    return [(f"text {place}", label) for place, label in enumerate(labels)]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("value", [None, "", " ", "nan", "NaN", "<NA>", *UNSEEN[:3]])
def test_a_cell_without_a_value_is_no_label(tmp_path, suffix, value):
    path = file_of(tmp_path, suffix, named("x", "y", value, "x"))
    said = refused(path)
    assert said.startswith(f"task: {path}:")
    assert ": no label" in said
    assert said.endswith("may lack them, and 1 of 4 examples do; --data.skip-unlabelled leaves them out")
    kept = examples(own(path, skip_unlabelled=True), "")
    assert [example.text for example in kept] == ["text 0", "text 1", "text 3"]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_a_number_that_is_none_is_no_label(tmp_path, suffix):
    path = file_of(tmp_path, suffix, named(1.0, 0.0, math.nan, 1.0))
    assert "no label ('nan')" in refused(path) or "no label (null)" in refused(path)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("value", ["None", "null", "NA", "N/A", "#N/A", "none", "nil"])
def test_a_name_that_may_say_no_label_is_pointed_out(tmp_path, suffix, value):
    survey = own(file_of(tmp_path, suffix, named("x", "y", value, "x"))).survey
    assert survey
    line = f"taken as names of labels: {value!r}; leave out examples that have no label"
    assert survey.in_words()[-1] == line


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", [int, str, float])
def test_minus_1_beside_numbers_from_0_is_asked_about(tmp_path, suffix, kind):
    labels = [kind(label) for label in (0, 1, 2, -1, 2, 1)]
    path = file_of(tmp_path, suffix, named(*labels))
    said = refused(path)
    assert "is the label -1 (1) beside 0 to 2 no label?" in said
    assert "--data.label-names 0 1 2 leaves it out; --data.label-names -1 0 1 2 makes it a class" in said
    left = own(path, label_names=("0", "1", "2"))
    assert [example.label for example in examples(left, "")] == [0, 1, 2, 2, 1]
    assert counted(left, "")["no_label"] == 1
    kept = own(path, label_names=("-1", "0", "1", "2"))
    assert [example.label for example in examples(kept, "")] == [1, 2, 3, 0, 3, 2]


@pytest.mark.parametrize("suffix", FORMATS)
def test_minus_1_beside_0_and_1_is_a_label_and_pointed_out(tmp_path, suffix):
    """Negative, neutral and positive are often numbered so."""
    task = own(file_of(tmp_path, suffix, named(0, 1, -1, 1, 0)))
    assert task.head.labels == ("-1", "0", "1")
    assert task.survey
    assert task.survey.in_words()[-1] == (
        "-1 (1) is a label like 0 and 1; --data.label-names 0 1 leaves its examples out"
    )
    assert own(file_of(tmp_path, suffix, named(1, -1))).survey.notes == ()  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", FORMATS)
def test_minus_1_in_another_file_than_the_training_file_is_no_label(tmp_path, suffix):
    """As in the test files of GLUE, and in the validation file of SNLI."""
    train = file_of(tmp_path, suffix, named(0, 1, 2, 1))
    other = file_of(tmp_path, suffix, named(2, -1, 0), name="other")
    task = own(train, other, other)
    assert [example.label for example in examples(task, "", "validation")] == [2, 0]
    assert counted(task, "", "validation")["no_label"] == 1
    assert task.unknown == {}
    assert [example.label for example in examples(task, "", "test")] == [2, None, 0]


# --- Nothing that can be seen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", UNSEEN)
def test_what_cannot_be_seen_is_blank(value):
    assert fields.is_blank(value)
    assert not fields.is_blank(f"a{value}")


@pytest.mark.parametrize("value", ["\u0301", "\N{GRINNING FACE}", "-", "\ue000", "0", "\u0e38"])
def test_what_can_be_seen_is_not(value):
    """An accent alone, a private sign and a vowel below can be seen."""
    assert not fields.is_blank(value)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("value", UNSEEN)
def test_a_text_of_nothing_that_can_be_seen_is_counted_as_empty(tmp_path, suffix, value):
    task = own(file_of(tmp_path, suffix, [("good", "x"), (value, "y")]))
    assert [example.text for example in examples(task, "")] == ["good", ""]
    assert counted(task, "") == {"examples": 2, "empty_text": 1}


def test_several_labels_and_tags_are_no_invisible_names(tmp_path):
    path = put(tmp_path, "own.jsonl", {"text": "a", "label": ["x", "\u200b"]}, {"text": "b", "label": ["y"]})
    assert own(path).head.labels == ("x", "y")
    for tag in ("\u200b", ""):
        path = put(tmp_path, "tags.jsonl", {"tokens": ["a", "b"], "tags": ["O", tag]})
        assert refused(path) == f"task: {path}:1: an empty tag in 'tags'"
    for names in (("a", "\u200b"), ("", "b")):
        path = put(tmp_path, "own.csv", "text,label", "a,a", "b,b")
        assert "one of the label names is empty" in refused(path, label_names=names)
