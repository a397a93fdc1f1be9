"""RACE's folders, and sentences with tags: CoNLL columns and JSON lines."""

import json

import pytest
from task_files import counted, examples, own, put, refusal

from bertlite_jax.config.model import Head
from bertlite_jax.data import tasks


def passage(name: str = "middle1.txt", **more) -> dict:
    asked = {"questions": ["Ann likes _ .", "Who left?"], "answers": ["B", "D"], "article": "Ann left.\nBob stayed."}
    options = [["tea", "milk", "rice", "fish"], ["Bob", "Eve", "Tom", "Ann"]]
    return asked | {"options": options, "id": name} | more


def test_race_is_a_choice_of_four_for_each_question(tmp_path):
    put(tmp_path, "train_middle.jsonl", passage())
    first, second = examples("race_middle", tmp_path)
    assert (first.id, first.group, first.label, second.id, second.label) == (
        "middle1.txt-0",
        "middle",
        1,
        "middle1.txt-1",
        3,
    )
    assert first.text == second.text == "Ann left.\nBob stayed."
    assert first.choices[1] == "Ann likes milk ."
    assert second.choices[3] == "Who left? Ann"


def test_race_in_its_official_folders_is_a_file_a_passage(tmp_path):
    put(tmp_path, "RACE/dev/high/2.txt", passage("high2.txt"))
    # Some copies spread one object over several lines.
    put(tmp_path, "RACE/dev/high/10.txt", *json.dumps(passage("high10.txt"), indent=1).split("\n"))
    put(tmp_path, "RACE/dev/middle/3.txt", passage("middle3.txt"))
    high = examples("race_high", tmp_path, "validation")
    assert [example.id for example in high] == ["high10.txt-0", "high10.txt-1", "high2.txt-0", "high2.txt-1"]
    both = examples("race", tmp_path, "validation")
    assert [example.group for example in both] == ["middle"] * 2 + ["high"] * 4


def test_race_in_one_file_a_level_is_a_passage_a_line(tmp_path):
    put(tmp_path, "test/high/all.txt", passage("high1.txt"), passage("high2.txt"))
    put(tmp_path, "test/high/1.txt", passage("high1.txt"))
    assert [example.id for example in examples("race_high", tmp_path, "test")][::2] == ["high1.txt-0", "high2.txt-0"]


def test_a_race_passage_may_lack_questions_and_in_a_test_set_answers(tmp_path):
    bare = passage("high2.txt", questions=[], options=[], answers=[])
    put(tmp_path, "train_high.jsonl", passage("high1.txt"), bare)
    assert counted("race_high", tmp_path) == {"examples": 2, "passages_without_questions": 1}
    unanswered = {name: value for name, value in passage("high1.txt").items() if name != "answers"}
    put(tmp_path, "test_high.jsonl", unanswered)
    assert [example.label for example in examples("race_high", tmp_path, "test")] == [None, None]
    path = put(tmp_path, "dev_high.jsonl", unanswered)
    assert f"{path}:1: no column or field 'answers'" in refusal("race_high", tmp_path, "validation")


def test_race_refuses_what_does_not_fit_together(tmp_path):
    path = put(tmp_path, "train_middle.jsonl", passage("m1"), passage("m2", answers=["A"]))
    assert f"{path}:2: 2 questions, 2 lists of options, 1 answers" in refusal("race_middle", tmp_path)
    put(tmp_path, "train_middle.jsonl", passage("m1", answers=["A", "E"]))
    assert f"{path}:1: question 1: unknown label 'E'; known are: A, B, C, D" in refusal("race_middle", tmp_path)
    put(tmp_path, "train_middle.jsonl", passage("m1", options=[["a", "b"], ["a"]]))
    assert f"{path}:1: question 1: the options are not a list of two or more strings" in refusal(
        "race_middle", tmp_path
    )
    put(tmp_path, "train_middle.jsonl", passage("m1"))
    again = put(tmp_path, "train_middle_2.jsonl", passage("m1"))
    assert refusal("race_middle", tmp_path) == f"task: {again}:1: the id 'm1-0' occurs twice, first in {path}:1"


# --- Tags ------------------------------------------------------------------------------------------------------------

CONLL = (
    "-DOCSTART- -X- -X- O",
    "",
    "EU NNP B-NP B-ORG",
    "sues VBZ B-VP O",
    "",
    "Peter NNP B-NP B-PER",
    "Blackburn NNP I-NP I-PER",
)
LABELS = ("O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER")


def tags(example) -> list[str]:
    return [LABELS[index] for index in example.label]


def test_conll_2003_has_a_word_a_line_and_the_tag_in_the_last_column(tmp_path):
    assert tasks.TASKS["conll2003"].head.labels == LABELS
    put(tmp_path, "eng.train", *CONLL)
    first, second = examples("conll2003", tmp_path)
    assert (first.words, tags(first)) == (("EU", "sues"), ["B-ORG", "O"])
    assert (second.words, tags(second), second.text) == (("Peter", "Blackburn"), ["B-PER", "I-PER"], "Peter Blackburn")
    assert (first.id, second.id) == ("3", "6")
    assert counted("conll2003", tmp_path) == {"examples": 2, "document_marks": 1, "blank_lines": 1}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("gap", [" ", "  ", "\t"])
def test_columns_stand_between_tabs_or_spaces_and_lines_may_end_as_in_windows(tmp_path, end, gap):
    put(tmp_path, "conll2003/valid.txt", *(line.replace(" ", gap) for line in CONLL), end=end)
    read = examples("conll2003", tmp_path, "validation")
    assert [(example.words, tags(example)) for example in read] == [
        (("EU", "sues"), ["B-ORG", "O"]),
        (("Peter", "Blackburn"), ["B-PER", "I-PER"]),
    ]


def test_a_word_keeps_its_no_break_space_and_between_tabs_its_spaces(tmp_path):
    put(tmp_path, "train.txt", "10\u00a0000 O", "", "New\tB-LOC", "York City\tI-LOC")
    assert [example.words for example in examples("conll2003", tmp_path)] == [("10\u00a0000",), ("New", "York City")]


@pytest.mark.parametrize("end", ["\t", " ", " \t ", "\t\t"])
@pytest.mark.parametrize("gap", [" ", "\t"])
def test_tabs_and_spaces_at_the_end_of_a_line_are_no_column(tmp_path, gap, end):
    put(tmp_path, "train.txt", f"EU{gap}B-ORG{end}", f"10\u00a0000{gap}O")
    (example,) = examples("conll2003", tmp_path)
    assert (example.words, tags(example)) == (("EU", "10\u00a0000"), ["B-ORG", "O"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("a\tO", "b\t"), ":2: 1 columns, and the lines before have 2"),
        (("a\t", "b\tO"), ":1: an empty tag; line 2 has 2 columns"),
        (("a\tO", "b\t\u00a0"), ":2: an empty tag"),
        (("a\t", "b\t"), ":1: no tags; only a test split may lack them"),
    ],
)
def test_an_empty_tag_is_refused_with_its_line(tmp_path, lines, message):
    path = put(tmp_path, "train.txt", *lines)
    assert refusal("conll2003", tmp_path) == f"task: {path}{message}"


def test_a_mark_of_a_document_ends_a_sentence_without_a_blank_line(tmp_path):
    put(tmp_path, "train.txt", "a O", "-DOCSTART- O", "b O")
    assert [example.words for example in examples("conll2003", tmp_path)] == [("a",), ("b",)]


def test_a_file_of_one_column_has_no_tags_and_is_for_testing_only(tmp_path):
    put(tmp_path, "test.txt", "EU", "sues")
    path = put(tmp_path, "train.txt", "EU", "sues")
    assert examples("conll2003", tmp_path, "test")[0].label is None
    assert refusal("conll2003", tmp_path) == f"task: {path}:1: no tags; only a test split may lack them"


def test_an_unknown_tag_and_a_lost_column_are_refused_with_their_own_line(tmp_path):
    path = put(tmp_path, "train.txt", "a O", "", "b O", "c B-XYZ")
    assert f"{path}:4: unknown label 'B-XYZ'; known are: O, B-LOC" in refusal("conll2003", tmp_path)
    put(tmp_path, "train.txt", "a O", "b")
    assert refusal("conll2003", tmp_path) == f"task: {path}:2: 1 columns, and the lines before have 2"


def test_json_lines_have_words_and_tags_as_lists(tmp_path):
    put(tmp_path, "train.jsonl", {"tokens": ["a", "comedy", ""], "tags": ["O", "B-Genre", "O"]})
    (example,) = examples("mit_movies", tmp_path)
    assert example.words == ("a", "comedy", "")
    assert isinstance(example.label, tuple)
    assert tasks.TASKS["mit_movies"].head.labels[example.label[1]] == "B-Genre"
    assert counted("mit_movies", tmp_path) == {"examples": 1, "empty_words": 1}
    path = put(tmp_path, "train.jsonl", {"tokens": ["a", "b"], "tags": ["O"]})
    assert refusal("mit_movies", tmp_path) == f"task: {path}:1: 2 words and 1 tags"
    put(tmp_path, "train.jsonl", {"tokens": ["a", "b"], "tags": ["O", "B-Actress"]})
    assert f"{path}:1: word 2: unknown label 'B-Actress'" in refusal("mit_movies", tmp_path)
    put(tmp_path, "train.jsonl", {"tokens": ["a"], "tags": [3]})
    assert refusal("mit_movies", tmp_path) == f"task: {path}:1: 'tags' is not a list of strings"


def test_peoples_own_tags_are_found_in_the_training_file(tmp_path):
    columns = put(tmp_path, "own.conll", "x B-B", "y I-B", "", "z O")
    lists = put(tmp_path, "own.jsonl", {"words": ["x", "z"], "labels": ["B-B", "O"]})
    task = own(columns, lists, kind="tag")
    assert task.head == Head(kind="tag", labels=("B-B", "I-B", "O"))
    assert task.metrics == ("span_f1", "span_precision", "span_recall", "accuracy")
    assert examples(task, "")[0].label == (0, 1)
    assert examples(task, "", "validation")[0].label == (0, 2)
    plain = own(put(tmp_path, "pos.conll", "x NOUN"), kind="tag")
    assert plain.metrics == ("accuracy",)
