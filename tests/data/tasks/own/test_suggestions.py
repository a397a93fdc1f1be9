"""Which columns are suggested for the text and the label, and what is said where none can be."""

import json
import shlex

import pytest
from task_files import own, put

from bertlite_jax.errors import UserError


def refused(path: str, **settings) -> str:
    with pytest.raises(UserError) as caught:
        own(path, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def reviews(folder, **fields) -> str:
    """Thirty objects with a comment and further fields, each made from its number."""
    rows = [
        {"comment": f"a comment of some length {number}", **{name: made(number) for name, made in fields.items()}}
        for number in range(30)
    ]
    return put(folder, "own.jsonl", *rows)


def test_a_usual_name_goes_before_a_column_with_fewer_values(tmp_path):
    path = reviews(tmp_path, verified=lambda n: bool(n % 2), lang=lambda n: ["en", "de"][n % 2], stars=lambda n: n % 5)
    assert refused(path).endswith("; pass --data.text-column comment --data.label-column stars")


@pytest.mark.parametrize("name", ["Kategorie", "star_rating", "Class", "Bewertung (1-5)"])
def test_usual_names_are_words_of_a_name(tmp_path, name):
    path = reviews(tmp_path, shop=lambda n: "ab"[n % 2], **{name: lambda n: n % 7})
    assert f"--data.label-column {name}" in refused(path).replace("'", "")


@pytest.mark.parametrize("name", ["l'étiquette", "label (1-5)", "note;stars", 'a "label"', "$label", "cost&label"])
def test_a_suggested_column_can_be_pasted_into_a_shell(tmp_path, name):
    said = refused(reviews(tmp_path, **{name: lambda n: n % 3}))
    assert shlex.split(said.partition("; pass ")[2]) == ["--data.text-column", "comment", "--data.label-column", name]


def test_truth_values_come_after_other_columns_and_before_none(tmp_path):
    assert "--data.label-column shop" in refused(
        reviews(tmp_path, verified=lambda n: n % 2 == 0, shop=lambda n: "abc"[n % 3])
    )
    assert "--data.label-column verified" in refused(reviews(tmp_path, verified=lambda n: n % 2 == 0))


@pytest.mark.parametrize("made", [lambda n: f"r{n:04}", lambda n: n, lambda n: f"2024-{n:05}"])
@pytest.mark.parametrize("name", ["Vorgang", "review_id", "label text"])
def test_a_column_whose_values_are_all_different_is_never_the_label(tmp_path, name, made):
    message = refused(reviews(tmp_path, **{name: made}))
    assert "--data.label-column" not in message
    assert message.endswith("no column looks like labels, which are 2 to about 20 values that repeat")


def test_numbers_with_fractions_may_differ_for_a_regression(tmp_path):
    path = reviews(tmp_path, length=lambda n: n, price=lambda n: n + 0.5)
    assert refused(path, kind="regression").endswith("--data.label-column price")
    assert "--data.label-column" not in refused(path)


def test_fields_of_objects_are_told_to_be_unread(tmp_path):
    rows = [
        {"review_id": f"r{n}", "review": {"comment": f"some text {n}"}, "rating": {"stars": n % 5}} for n in range(30)
    ]
    message = refused(put(tmp_path, "own.json", json.dumps(rows)))
    assert "which column is the text? It has: review_id, review, rating; no column looks like labels" in message
    assert message.endswith(
        "; fields within 'review' are not read: write them beside the others, such as 'review.comment', as "
        "pandas.json_normalize does"
    )


def test_a_field_that_the_first_object_of_a_list_lacks_is_a_field_of_the_file(tmp_path):
    rows = [{"text": "a"}, {"text": "b", "stars": 1}, {"text": "c", "stars": 2}]
    path = put(tmp_path, "own.json", json.dumps(rows))
    assert own(path, label="stars", skip_unlabelled=True).head.labels == ("1", "2")
    assert refused(path, label="stars").endswith(":1: no column or field 'stars'; it has: text")


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("regression", "the label 'pos' is not a finite number; names are learnt as classes with --data.kind classify"),
        ("tag", "'label' is not a list of tags; one label for a whole text is learnt with --data.kind classify"),
    ],
)
def test_a_kind_that_does_not_fit_names_the_one_that_does(tmp_path, kind, advice):
    path = put(tmp_path, "own.csv", "text,words,label", '"a","[""a""]",pos', '"b","[""b""]",neg')
    assert refused(path, kind=kind, text="words" if kind == "tag" else "text", label="label").endswith(advice)
