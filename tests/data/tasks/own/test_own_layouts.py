"""Columns and choices as other programs write them."""

import json

import pytest
from task_files import examples, own, put

from bertlite_jax.errors import UserError

ROWS = [("A good film", "pos"), ("A bad one", "neg")]


def refused(path: str, **settings) -> str:
    with pytest.raises(UserError) as caught:
        examples(own(path, **settings), "")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(path: str, **settings) -> list[tuple[str, str]]:
    task = own(path, **settings)
    return [(example.text, task.head.labels[example.label]) for example in examples(task, "")]  # type: ignore[index]


# --- Names of columns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["text\u200b,label", "\ufeff\ufefftext,label", "text,\u2060Label", "\uff54ext,label\u00ad"]
)
def test_what_cannot_be_seen_in_a_name_does_not_count(tmp_path, header):
    assert read(put(tmp_path, "own.csv", header, *(",".join(row) for row in ROWS))) == ROWS


@pytest.mark.parametrize(("first", "second"), [("text_a", "text_b"), ("question1", "question2"), ("Text_A", "Text_B")])
def test_the_pairs_of_berts_and_quoras_files_are_found(tmp_path, first, second):
    """One of two texts would be left out without a word."""
    (example,) = examples(own(put(tmp_path, "own.csv", f"{first},{second},label", "a,b,x")), "")
    assert (example.text, example.pair) == ("a", "b")


def test_a_second_text_is_not_suggested_as_the_label(tmp_path):
    path = put(tmp_path, "own.csv", "question1,question2,is_duplicate", "a,b,1", "c,d,0")
    assert refused(path).endswith("pass --data.label-column is_duplicate")


@pytest.mark.parametrize("settings", [{"label": "text"}, {"pair": "text"}, {"pair": "b", "label": "b"}])
def test_one_column_cannot_be_two_things(tmp_path, settings):
    path = put(tmp_path, "own.csv", "text,b,label", "a,x,u", "b,y,v")
    name = next(iter(settings.values()))
    assert f"{path}:1: the column {name!r} is named for two things" in refused(path, **settings)


def test_an_object_without_fields_is_said_to_have_none(tmp_path):
    assert "which column is the text? It has: none" in refused(
        put(tmp_path, "own.jsonl", {}, {"text": "a", "label": "x"})
    )


# --- What other programs write ---------------------------------------------------------------------------------------

OBJECTS = [{"text": text, "label": label} for text, label in ROWS]
PANDAS = {
    "split": {"columns": ["text", "label"], "index": [0, 1], "data": [list(row) for row in ROWS]},
    "index": {str(place): each for place, each in enumerate(OBJECTS)},
    "columns": {name: {str(place): each[name] for place, each in enumerate(OBJECTS)} for name in ("text", "label")},
    "records": OBJECTS,
    "table": {"schema": {"fields": [{"name": "text", "type": "string"}], "pandas_version": "1.4.0"}, "data": OBJECTS},
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("orient", PANDAS)
def test_every_orientation_of_pandas_is_read(tmp_path, orient, indent):
    assert read(put(tmp_path, "own.json", json.dumps(PANDAS[orient], indent=indent))) == ROWS


def test_a_list_of_data_that_is_no_squad_is_not_taken_for_it(tmp_path):
    path = put(tmp_path, "own.json", json.dumps({"data": {"train": OBJECTS}}))
    assert "SQuAD" not in refused(path)


@pytest.mark.parametrize("name", ["own.csv", "own.tsv", "own.json", "own.jsonl"])
def test_a_web_page_in_place_of_a_file_is_named(tmp_path, name):
    """What is left of a download that needed a login."""
    path = put(tmp_path, name, "<!DOCTYPE html>", "<html><head><title>Sign in, please</title></head></html>")
    assert refused(path) == f"task: {path}: this is a web page, perhaps in place of the file that it speaks of"


# --- Choices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marks", "answer", "place"),
    [("1234", "1", 0), ("1234", "4", 3), ("ABCD", "B", 1), ("abcd", "b", 1), ("4321", 4, 0)],
)
@pytest.mark.parametrize("form", ["columns", "objects"])
def test_the_marks_of_choices_go_before_their_numbers(tmp_path, marks, answer, place, form):
    """A quarter of ARC marks its choices 1 to 4, and the answer 1 is the first of them."""
    texts = ["rain", "snow", "hail", "fog"]
    columns = {"text": texts, "label": list(marks)}
    objects = [{"text": text, "label": mark} for text, mark in zip(texts, marks, strict=True)]
    record = {"question": "What falls?", "choices": columns if form == "columns" else objects, "answerKey": answer}
    (example,) = examples(own(put(tmp_path, "own.jsonl", record), kind="choose"), "")
    assert (example.choices, example.label) == (tuple(texts), place)


def test_a_small_letter_is_a_letter(tmp_path):
    path = put(tmp_path, "own.jsonl", {"question": "q", "choices": ["x", "y"], "label": "b"})
    assert examples(own(path, kind="choose"), "")[0].label == 1
    path = put(tmp_path, "own.jsonl", {"question": "q", "choices": ["b", "a"], "label": "b"})
    assert examples(own(path, kind="choose"), "")[0].label == 0  # Its text goes before.
