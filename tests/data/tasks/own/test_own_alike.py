"""Labels that cannot be meant as they stand: asked about in one line, and what is then typed is understood."""

import shlex

import pytest
from task_files import counted, examples, own, put

from bertlite_jax.errors import UserError


def refused(path: str, **settings) -> str:
    with pytest.raises(UserError) as caught:
        examples(own(path, **settings), "")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def labels(path: str, **settings) -> list:
    return [example.label for example in examples(own(path, **settings), "")]


def texts_with(tmp_path, *values: str) -> str:
    return put(tmp_path, "own.tsv", "text\tlabel", *(f"text {place}\t{value}" for place, value in enumerate(values)))


def lists(tmp_path, *values) -> str:
    return put(tmp_path, "own.jsonl", *({"text": str(place), "label": value} for place, value in enumerate(values)))


# --- 0 and 1 for each label ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([[1, 0, 1], [0, 0, 1], [1, 0]], 3),
        ([[1, 0], [1, 0, 1], [0, 0, 1]], 1),
        ([[1, 0, 1], [0, 0, 1], [1]], 3),
        ([[1, 0, 1], [0, 0, 1], []], 3),
        ([[1, 0, 1], [0, 0, 1], [0, 2, 1]], 3),
    ],
)
def test_a_vector_of_another_length_is_refused_with_its_line(tmp_path, values, line):
    path = lists(tmp_path, *values)
    for settings in ({}, {"label_names": ("a", "b", "c")}):
        message = refused(path, **settings)
        assert f"{path}:{line}: the label {values[line - 1]}, and most are lists of 3 numbers 0 and 1" in message


def test_minus_1_in_a_vector_is_refused_with_its_line(tmp_path):
    path = lists(tmp_path, [0, 1], [1, -1])
    assert f"{path}:2: the label [1, -1] has -1 where 0 or 1 is expected" in refused(path)
    assert labels(path, label_names=("-1", "0", "1")) == [(0, 1, 1), (1, 0, 1)]


def test_a_vector_of_one_number_is_asked_about(tmp_path):
    path = lists(tmp_path, [1], [0])
    assert f"{path}:1: each label is a list of one number 0 or 1, such as [1]" in refused(path)
    assert labels(path, label_names=("toxic",)) == [(1,), (0,)]
    assert labels(path, label_names=("no", "yes")) == [(0, 1), (1, 0)]


def test_numbers_of_two_labels_are_no_vectors(tmp_path):
    assert labels(texts_with(tmp_path, "1", "0"), kind="multi_label") == [(0, 1), (1, 0)]
    assert labels(lists(tmp_path, [0], [0, 1], [1])) == [(1, 0), (1, 1), (0, 1)]


@pytest.mark.parametrize("separator", [",", ";", "；", "、"])
def test_another_separator_is_named(tmp_path, separator):
    path = texts_with(tmp_path, "red", f"red{separator} big")
    message = refused(path, kind="multi_label")
    assert f"{path}:3: 'red{separator} big' has no '|' between labels" in message
    assert f"--data.separator '{separator}'" in message
    assert labels(path, kind="multi_label", separator=separator) == [(0, 1), (1, 1)]
    assert labels(texts_with(tmp_path, "a, b", "a, b|c"), kind="multi_label") == [(1, 0), (1, 1)]


# --- The same label, written in two ways -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ("007", "7.0", ("7", "x")),
        ("0", "-0.0", ("0", "x")),
        ("1", "+1", ("1", "x")),
        ("1", "1e0", ("1", "x")),
        ("2.5", "2.50", ("2.5", "x")),
        ("1", "true", ("1", "x")),
        ("yes", "yes\u200b", ("x", "yes")),
        ("yes", "\ufeffyes", ("x", "yes")),
        ("yes", "y\u00ades", ("x", "yes")),
        ("yes", "yes\0", ("x", "yes")),
        ("1", "\u0661", ("1", "x")),
        ("so-so", "so\u2013so", ("so-so", "x")),
        ("very good", "very_good", ("very good", "x")),
        ("don't", "don\u2019t", ("don't", "x")),
        ("yes", 'yes"', ("x", "yes")),
        ("-1", "\u22121", ("-1", "x")),
    ],
)
def test_labels_that_are_the_same_are_asked_about(tmp_path, one, other, names):
    path = texts_with(tmp_path, one, other, "x")
    message = refused(path, kind="classify")
    assert "labels that are the same, written in two ways: " in message
    assert repr(one) in message
    assert repr(other) in message
    pasted = shlex.split(message.partition("--data.label-names ")[2])
    assert sorted(pasted) == sorted(names)
    first, second, third = labels(path, label_names=tuple(pasted))
    assert first == second != third


@pytest.mark.parametrize(
    ("one", "other"),
    [("positive", "p\u043esitive"), ("caf\u00e9", "cafe\u0301"), ("1", "\uff11"), ("Yes", "\uff39es")],
)
def test_labels_that_look_the_same_are_shown_so_that_they_differ(tmp_path, one, other):
    """A Cyrillic letter, an accent apart, wide digits and letters."""
    message = refused(texts_with(tmp_path, one, other, "x"), kind="classify")
    assert ascii(other) in message
    (name,) = {*shlex.split(message.split("--data.label-names ")[1])} - {"x"}
    first, second, third = labels(texts_with(tmp_path, one, other, "x"), label_names=(name, "x"))
    assert first == second != third


@pytest.mark.parametrize(
    "pair", [("\u043d\u0435\u0442", "\u0434\u0430"), ("_SP", "SP"), ("''", "``"), ("a-b", "a b"), ("01", "1")]
)
def test_labels_that_differ_are_left_alone(tmp_path, pair):
    """Words of one alphabet, tags of treebanks, codes."""
    assert set(own(texts_with(tmp_path, *pair)).head.labels) == set(pair)


def test_what_is_suggested_stays_in_its_own_alphabet(tmp_path):
    word = "\u0425\u043e\u0440\u043e\u0448\u043e"
    assert refused(texts_with(tmp_path, word, word.lower(), "x")).endswith(f"--data.label-names x {word.lower()}")


@pytest.mark.parametrize("separator", [";", "|", ",", " / ", "+", " & ", "；", "，", "、"])
def test_a_label_that_is_made_of_others_may_be_several(tmp_path, separator):
    path = texts_with(tmp_path, "red", f"red{separator}big", "big")
    kind = f"--data.kind multi_label --data.separator '{separator.strip()}'"
    assert f"the label 'red{separator}big' is made of others; several labels of one text? {kind}" in refused(path)
    assert labels(path, kind="multi_label", separator=separator.strip()) == [(0, 1), (1, 1), (1, 0)]
    assert len(set(labels(path, kind="classify"))) == 3
    assert len(own(texts_with(tmp_path, "red", f"red{separator}small")).head.labels) == 2


def test_a_missing_value_among_several_labels_is_refused(tmp_path):
    path = texts_with(tmp_path, "red", "red|nan")
    assert (
        refused(path, kind="multi_label")
        == f"task: {path}:3: one of several labels is 'nan', which is none; leave it out"
    )
    path = lists(tmp_path, ["red"], ["red", None])
    assert f"{path}:2: a label is null" in refused(path)
    assert "leave it out of the lists" in refused(lists(tmp_path, [0, 1], [2], [-1]))


def test_tags_in_small_letters_are_asked_about(tmp_path):
    """A scorer of spans would find none."""
    path = put(tmp_path, "own.jsonl", {"tokens": ["EU", "said"], "tags": ["b-org", "o"]})
    assert "the tags b-org, o are written small" in refused(path)
    assert labels(path, label_names=("o", "b-org")) == [(1, 0)]


def test_a_label_is_shown_in_one_line_that_is_not_endless(tmp_path):
    survey = own(put(tmp_path, "own.csv", "text,label", 'a,"x\ny"', f"b,{'z' * 5000}")).survey
    assert survey
    assert survey.in_words()[1:] == [f"2 labels: x\\ny (1), {'z' * 60}.. (1)"]


def test_what_is_to_be_typed_keeps_words(tmp_path):
    message = refused(texts_with(tmp_path, "TRUE", "true", "false", "2.50"), kind="classify")
    assert "labels that differ only in case or spaces: 'TRUE' (1) and 'true' (1); " in message
    assert message.endswith("--data.label-names 2.50 false true")


def test_true_beside_1_is_asked_about_in_json(tmp_path):
    assert "'1' (1) and 'true' (1)" in refused(lists(tmp_path, True, 1, False))
    assert labels(lists(tmp_path, True, False)) == [1, 0]


def test_numbers_of_names_count_before_other_spellings(tmp_path):
    path = texts_with(tmp_path, "1", "0")
    assert labels(path, label_names=("true", "false")) == [1, 0]
    assert labels(texts_with(tmp_path, "01", "02"), label_names=("1", "2")) == [0, 1]
    assert labels(texts_with(tmp_path, "01", "00"), label_names=("F", "T")) == [1, 0]


def test_numbers_that_a_float_cannot_tell_apart_are_two_labels(tmp_path):
    assert labels(texts_with(tmp_path, "9007199254740993", "9007199254740992")) in ([0, 1], [1, 0])


def test_the_digit_0_beside_the_letter_o_is_asked_about(tmp_path):
    path = put(tmp_path, "own.conll", "EU B-ORG", "said O", "it 0")
    assert "the digit 0 (1) and the letter O (1)" in refused(path)
    assert labels(path, label_names=("0", "B-ORG", "O")) == [(1, 2, 0)]


# --- Numbers ---------------------------------------------------------------------------------------------------------


def test_many_numbers_with_a_decimal_comma_are_scores(tmp_path):
    path = put(tmp_path, "own.csv", "text;label", *(f"t;{place},5" for place in range(30)))
    assert "labels are numbers with fractions (0,5" in refused(path)
    assert labels(path, kind="regression")[:2] == [0.5, 1.5]


def test_a_number_has_no_underscores(tmp_path):
    path = texts_with(tmp_path, "1", "1_000")
    assert f"{path}:3: the label '1_000' is not a finite number" in refused(path, kind="regression")
    names = [f"{place}_{place}.5" for place in range(30)]
    assert len(own(texts_with(tmp_path, *names)).head.labels) == 30


@pytest.mark.parametrize("values", [(0, 1, 2, -1), (0.0, 1.0, 2.0, -1.0)])
def test_minus_1_beside_numbers_from_0_is_asked_about(tmp_path, values):
    path = lists(tmp_path, *values)
    message = refused(path)
    assert "is the label -1 (1) beside 0 to 2 no label? --data.label-names 0 1 2 leaves it out" in message
    assert counted(own(path, label_names=("0", "1", "2")), "") == {"examples": 3, "no_label": 1}
    kept = own(lists(tmp_path, 0, 1, 2, -1), label_names=("-1", "0", "1", "2"))
    assert [example.label for example in examples(kept, "")] == [1, 2, 3, 0]
    assert kept.survey
    assert kept.survey.counts == {"-1": 1, "0": 1, "1": 1, "2": 1}


def test_minus_1_beside_others_is_a_label(tmp_path):
    """Negative, neutral and positive; or numbers of no names."""
    assert own(lists(tmp_path, -1, 0, 1)).head.labels == ("-1", "0", "1")
    assert own(lists(tmp_path, -2, -1, 0, 1, 2)).head.labels == ("-2", "-1", "0", "1", "2")
