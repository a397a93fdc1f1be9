"""Labels as people write them: vectors, numbers, two spellings of one, scores, gaps.

Cases B03 (huggingface/setfit #337, #499), B04 (yahoojapan/JGLUE #3), B05 (appvision-ai/fast-bert #225), B16
(turkish-lm-tuner #59, deepsparse #742), B60 (huggingface/datasets #7222) of public trackers.
"""

from collections import Counter

import pytest
from task_files import counted, examples, own, put, refusal

from bertlite_jax.config.model import Head
from bertlite_jax.data.scores import task_metrics
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import reader
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError


def refused(*files: str, **settings) -> str:
    with pytest.raises(UserError) as caught:
        examples(own(*files, **settings), "")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def labels(path: str, **settings) -> list:
    return [example.label for example in examples(own(path, **settings), "")]


def texts_with(tmp_path, *values: str, name: str = "own.csv") -> str:
    return put(tmp_path, name, "text,label", *(f"text {place},{value}" for place, value in enumerate(values)))


# --- Several labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["auto", "multi_label"])
def test_a_list_of_0_and_1_says_which_labels_apply(tmp_path, kind):
    path = put(tmp_path, "own.jsonl", {"text": "a", "label": [1, 0, 0]}, {"text": "b", "label": [0, 1, 1]})
    task = own(path, kind=kind)
    assert task.head == Head(labels=("0", "1", "2"), problem="multi_label")
    assert [example.label for example in examples(task, "")] == [(1, 0, 0), (0, 1, 1)]
    named = own(path, kind=kind, label_names=("food", "room", "staff"))
    assert named.head.labels == ("food", "room", "staff")
    assert named.survey
    assert named.survey.counts == {"food": 1, "room": 1, "staff": 1}
    assert "a list of 3 numbers 0 and 1, and --data.label-names lists 2" in refused(path, label_names=("a", "b"))


@pytest.mark.parametrize("cells", ['"[1, 0]","[0, 0]"', '"[1.0, 0.0]","[0.0, 0.0]"', "[1 0],[0 0]", "1|0,0|0"])
def test_a_vector_may_be_written_in_a_cell(tmp_path, cells):
    first, second = cells.split('","') if '","' in cells else cells.split(",")
    rows = [
        f'a,{first}"' if first.startswith('"') else f"a,{first}",
        f'b,"{second}' if '"' in second else f"b,{second}",
    ]
    assert labels(put(tmp_path, "own.csv", "text,label", *rows), kind="multi_label") == [(1, 0), (0, 0)]


def test_names_in_a_list_are_names_and_so_are_numbers_that_are_no_vector(tmp_path):
    path = put(tmp_path, "own.csv", "text,label", "\"a\",\"['red', 'big']\"", 'b,"[""big""]"', "c,[]")
    assert own(path).head.labels == ("big", "red")
    assert labels(path) == [(1, 1), (1, 0), (0, 0)]
    path = put(tmp_path, "own.jsonl", {"text": "a", "label": [0, 4]}, {"text": "b", "label": [1]})
    assert own(path).head.labels == ("0", "1", "4")


def test_a_column_for_each_label_is_several_labels(tmp_path):
    path = put(tmp_path, "own.csv", "text,toxic,rude", "a,1,0", "b,0,0", "c,1,1")
    task = own(path, label="toxic,rude")
    assert task.head == Head(labels=("toxic", "rude"), problem="multi_label")
    assert [example.label for example in examples(task, "")] == [(1, 0), (0, 0), (1, 1)]
    bad = put(tmp_path, "own.csv", "text,toxic,rude", "a,1,2")
    assert f"{bad}:2: rude: '2' where 0 or 1 is expected" in refused(bad, label="toxic,rude")


# --- One label, spelled in several ways ------------------------------------------------------------------------------


def test_1_and_1_0_are_one_label_within_a_file_and_across_files(tmp_path):
    path = texts_with(tmp_path, "1.0", "0.0", "1", "0")
    assert own(path).head.labels == ("0", "1")
    assert labels(path) == [1, 0, 1, 0]
    whole, decimal = texts_with(tmp_path, "1", "0"), texts_with(tmp_path, "0.0", "1.0", name="dev.csv")
    task = own(whole, decimal)
    assert [example.label for example in examples(task, "", "validation")] == [0, 1]
    assert task.unknown == {}


def test_a_file_of_one_spelling_keeps_it(tmp_path):
    assert own(texts_with(tmp_path, "1.0", "0.0")).head.labels == ("0.0", "1.0")
    assert own(texts_with(tmp_path, "01", "1", "1.1"), kind="classify").head.labels == ("01", "1", "1.1")


def test_labels_that_differ_only_in_case_are_asked_about(tmp_path):
    path = texts_with(tmp_path, "pos", "POS", "neg", "NEG", "pos")
    message = refused(path)
    assert "labels that differ only in case or spaces: 'POS' (1) and 'pos' (2); 'NEG' (1) and 'neg' (1)" in message
    assert message.endswith("or pass --data.label-names neg pos")
    assert labels(path, label_names=("neg", "pos")) == [1, 1, 0, 0, 1]
    assert labels(path, label_names=("neg", "pos", "NEG", "POS")) == [1, 3, 0, 2, 1]


def test_another_case_in_another_file_is_the_same_label_and_counted(tmp_path):
    task = own(texts_with(tmp_path, "pos", "neg"), texts_with(tmp_path, "Pos", "neg", name="dev.csv"))
    assert [example.label for example in examples(task, "", "validation")] == [1, 0]
    assert counted(task, "", "validation") == {"examples": 2, "other_spellings": 1}


# --- Numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 10, 80])
@pytest.mark.parametrize("comma", [False, True])
def test_numbers_with_fractions_are_asked_about(tmp_path, count, comma):
    values = [str(place % count / 2) for place in range(160)]
    cells = [f'"{value.replace(".", ",")}"' if comma else value for value in values]
    path = texts_with(tmp_path, *cells)
    message = refused(path)
    assert f"{path}: labels are numbers with fractions (0{',' if comma else '.'}5" in message
    assert "; --data.kind regression learns them as numbers, --data.kind classify keeps them as classes" in message
    assert len(own(path, kind="classify").head.labels) == count
    if not comma:
        assert own(path, kind="regression").head.problem == "regression"


def test_fractions_beside_names_are_names(tmp_path):
    assert own(texts_with(tmp_path, "1.5", "2.5", "unsure")).head.labels == ("1.5", "2.5", "unsure")


@pytest.mark.parametrize("values", [range(1, 6), range(26), [float(stars) for stars in range(1, 6)]])
def test_stars_and_whole_numbers_are_classes(tmp_path, values):
    path = texts_with(tmp_path, *(str(value) for value in values for _ in range(5)))
    assert len(own(path).head.labels) == len(values)


def test_a_decimal_comma_is_a_point_where_semicolons_divide_columns(tmp_path):
    path = put(tmp_path, "own.csv", "text;score", "a;3,5", "b;-1", "c;2.25")
    assert labels(path, kind="regression") == [3.5, -1.0, 2.25]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("own.csv", ["text,score", 'a,"3,5"', "b,-1", 'c,"0,125"']),
        ("own.tsv", ["text\tscore", "a\t3,5", "b\t-1", "c\t0,125"]),
        ("own.jsonl", [{"text": "a", "score": "3,5"}, {"text": "b", "score": -1}, {"text": "c", "score": "0,125"}]),
    ],
)
def test_a_decimal_comma_is_a_point_where_the_whole_column_has_commas(tmp_path, name, lines):
    assert labels(put(tmp_path, name, *lines), kind="regression") == [3.5, -1.0, 0.125]


@pytest.mark.parametrize(
    ("lines", "shown"),
    [(['"3,5"', "1.5"], "3,5"), (['"1.204,5"', '"3,5"'], "1.204,5")],
    ids=["points too", "both in one"],
)
def test_commas_that_may_be_meant_otherwise_are_refused_as_they_are_written(tmp_path, lines, shown):
    path = put(tmp_path, "own.csv", "text,score", *(f"a,{line}" for line in lines))
    message = refused(path, kind="regression")
    assert f":2: the label {shown!r} is not a finite number; " in message
    assert f"write a decimal point instead of the comma: {shown.replace('.', '').replace(',', '.')}" in message
    semicolons = put(tmp_path, "own.csv", "text;score", "a;1.204,5")
    assert "the label '1.204,5' is not a finite number" in refused(semicolons, kind="regression")


def test_numbers_have_the_names_that_are_given(tmp_path):
    path = texts_with(tmp_path, "1", "0", "1.0")
    task = own(path, label_names=("F", "T", "unsure"))
    assert task.head.labels == ("F", "T", "unsure")
    assert labels(path, label_names=("F", "T", "unsure")) == [1, 0, 1]
    assert task.survey
    assert task.survey.counts == {"F": 1, "T": 2, "unsure": 0}
    message = refused(texts_with(tmp_path, "1", "7"), label_names=("F", "T"))
    assert ":3: unknown label '7'; known are: F, T; numbers count from 0, so these are 0 to 1" in message


def test_numbers_from_1_are_told_that_they_count_from_0(tmp_path):
    names = ("Gut", "Mittel", "Schlecht")
    path = texts_with(tmp_path, "1", "2", "3", "1")
    message = refused(path, label_names=names)
    assert message.endswith(
        f"{path}:4: unknown label '3'; known are: Gut, Mittel, Schlecht; numbers count from 0, so these are 0 to 2, "
        "and the file has 1 to 3"
    )
    found = own(texts_with(tmp_path, "1", "2.0", "1"), label_names=names).survey
    assert found
    assert found.in_words()[-1] == "no example has the number 0, which is Gut: numbers of labels count from 0"
    for values in (("0", "1", "2"), ("Mittel", "Schlecht")):
        found = own(texts_with(tmp_path, *values), label_names=names).survey
        assert found
        assert found.notes == ()
    assert own(texts_with(tmp_path, "1", "2"), label_names=("1", "2")).head.labels == ("1", "2")


def test_tags_may_be_numbers_whose_names_are_given(tmp_path):
    path = put(
        tmp_path, "own.jsonl", {"tokens": ["EU", "said"], "ner_tags": [3, 0]}, {"tokens": ["b"], "ner_tags": [1]}
    )
    assert f"{path}:1: the tags in 'ner_tags' are numbers; name them from 0: --data.label-names" in refused(path)
    task = own(path, label_names=("O", "B-PER", "I-PER", "B-ORG"))
    assert task.head == Head(kind="tag", labels=("O", "B-PER", "I-PER", "B-ORG"))
    assert task.metrics[0] == "span_f1"
    assert [example.label for example in examples(task, "")] == [(3, 0), (1,)]


@pytest.mark.parametrize("content", ["O\nB-PER\n\n", '["O", "B-PER"]'])
def test_names_may_stand_in_a_file(tmp_path, content):
    path = put(tmp_path, "own.jsonl", {"tokens": ["EU", "said"], "ner_tags": [1, 0]})
    named = put(tmp_path, "names.txt", content)
    assert own(path, label_names=(named,)).head.labels == ("O", "B-PER")
    assert "the label 'a' is named twice" in refused(path, label_names=("a", "b", "a"))


def test_minus_1_is_no_label_in_a_test_file(tmp_path):
    """`datasets` writes it where labels are kept secret."""
    task = own(texts_with(tmp_path, "1", "0"), test=texts_with(tmp_path, "-1", "-1", name="test.csv"))
    assert counted(task, "", "test") == {"examples": 2, "unlabelled": 2}


# --- No label --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", ["", "nan", "NaN", "<NA>", "  "])
def test_a_cell_that_stands_for_none_is_refused_with_its_line(tmp_path, gap):
    path = texts_with(tmp_path, "x", "y", gap)
    assert f"{path}:4: no label" in refused(path)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "null", '""'])
def test_a_field_that_stands_for_none_is_refused_with_its_line(tmp_path, value):
    path = put(tmp_path, "own.jsonl", {"text": "a", "label": "x"}, f'{{"text": "b", "label": {value}}}')
    assert f"{path}:2: no label" in refused(path)


def test_none_and_na_are_names(tmp_path):
    """They are said to be, since other programs write them for no value."""
    task = own(texts_with(tmp_path, "None", "NA", "true"))
    assert task.head.labels == ("NA", "None", "true")
    assert task.survey
    line = "taken as names of labels: 'NA', 'None'; leave out examples that have no label"
    assert task.survey.in_words()[-1] == line


def test_a_missing_text_or_field_is_refused_with_its_line(tmp_path):
    path = put(tmp_path, "own.jsonl", *[{"text": "a", "label": "x"}] * 999, {"text": None, "label": "y"})
    assert f"{path}:1000: 'text' holds null, not a string" in refused(path)
    path = put(tmp_path, "own.jsonl", {"text": "a", "label": "x"}, {"label": "y"})
    assert f"{path}:2: no column or field 'text'" in refused(path)


# --- Choices ---------------------------------------------------------------------------------------------------------


def test_choices_are_asked_about(tmp_path):
    path = put(tmp_path, "own.jsonl", {"question": "q", "choices": ["a", "b"], "label": 1})
    assert "it has a column 'choices'; pass --data.kind choose" in refused(path)
    assert own(path, kind="choose").head.kind == "choose"
    assert own(path, kind="classify").head.kind == "classify"


@pytest.mark.parametrize("label", [1, "1", 1.0, "B", "the second"])
def test_the_right_choice_is_a_number_a_letter_or_its_text(tmp_path, label):
    path = put(tmp_path, "own.jsonl", {"question": "q", "choices": ["the first", "the second"], "label": label})
    assert labels(path, kind="choose") == [1]


def test_choices_may_be_objects_with_letters(tmp_path):
    """As in ARC and OpenBookQA, both as `datasets` has them and as they were published."""
    flat = {"question_stem": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}
    published = {
        "question": "q",
        "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}],
        "answerKey": "B",
    }
    for record in (flat, published):
        (example,) = examples(own(put(tmp_path, "own.jsonl", record), kind="choose"), "")
        assert (example.text, example.choices, example.label) == ("q", ("a", "b"), 1)


def test_what_annotators_did_not_agree_on_is_left_out_and_counted(tmp_path):
    """SNLI: `-` in gold_label, -1 where `datasets` has numbers. -1 is a label where it may be one."""
    header = "sentence1,sentence2,gold_label"
    path = put(tmp_path, "snli.csv", header, "a,b,entailment", "a,c,-", "a,d,neutral")
    task = own(path)
    assert task.head.labels == ("entailment", "neutral")
    assert counted(task, "") == {"examples": 2, "no_label": 1}
    numbers = texts_with(tmp_path, "0", "-1", "1")
    assert own(numbers).head.labels == ("-1", "0", "1")
    task = own(numbers, label_names=("entailment", "neutral"))
    assert counted(task, "") == {"examples": 2, "no_label": 1}


# --- Labels that a model lacks ---------------------------------------------------------------------------------------


def test_a_label_that_training_lacks_is_an_error_whatever_is_answered(tmp_path):
    """ATIS's official test file has six such labels."""
    task = own(texts_with(tmp_path, "x", "y"), texts_with(tmp_path, "x", "z", "w", "y", name="dev.csv"))
    read = examples(task, "", "validation")
    assert [example.label for example in read] == [0, 2, 3, 1]
    assert task.unknown == {"z": 1, "w": 1}
    assert reader.unknown_in_words(task.unknown) == "z (1), w (1)"
    scores = task_metrics.score(task, read, [0, 0, 0, 1])
    # F1 of x is 1/2 (one of three), of y 1, of z and w 0.
    assert scores == {"accuracy": 0.5, "f1_macro": pytest.approx((0.5 + 1) / 4)}
    assert [reader.within(example, task.head).label for example in read] == [0, None, None, 1]


def test_of_several_labels_the_one_that_training_lacks_is_missed(tmp_path):
    train = put(tmp_path, "own.jsonl", {"text": "a", "labels": ["x", "y"]})
    task = own(train, put(tmp_path, "dev.jsonl", {"text": "b", "labels": ["x", "z"]}, {"text": "c", "labels": ["y"]}))
    read = examples(task, "", "validation")
    assert [example.label for example in read] == [(1, 0, 1), (0, 1)]
    scores = task_metrics.score(task, read, [(1, 0), (0, 1)])
    # Two of three labels are found, and nothing else: F1 = 2 * 2 / (2 + 3).
    assert (scores["f1_micro"], scores["exact"]) == (pytest.approx(4 / 5), 0.5)
    assert [reader.within(example, task.head).label for example in read] == [(1, 0), (0, 1)]


def test_a_tag_that_training_lacks_is_a_span_that_is_missed(tmp_path):
    train = put(tmp_path, "own.conll", "a B-X", "b O")
    task = own(train, put(tmp_path, "dev.conll", "a B-X", "b B-Y"))
    (example,) = examples(task, "", "validation")
    assert example.label == (0, 2)
    scores = task_metrics.score(task, [example], [(0, 1)])
    assert scores["span_f1"] == pytest.approx(2 / 3)
    assert reader.within(example, task.head).label == (0, reader.UNKNOWN)


def test_a_test_file_is_read_for_a_trained_model(tmp_path):
    head = Head(labels=("neg", "pos"))
    path = put(tmp_path, "test.csv", "date;Text;label", "1;good;pos", "2;bad;", "3;odd;new")
    unknown: dict[str, int] = {}
    read = list(reader.examples(path, head, OwnOptions(text="review"), Counter(), unknown))
    assert [(line, example.text, example.label) for line, example in read] == [
        (2, "good", 1),
        (3, "bad", None),
        (4, "odd", 2),
    ]
    assert unknown == {"new": 1}
    bare = list(reader.examples(path, head, OwnOptions(), Counter(), {}, labelled=False))
    assert [example.label for _, example in bare] == [None] * 3


def test_an_unknown_label_of_the_training_file_is_refused(tmp_path):
    task = own(texts_with(tmp_path, "x", "y"), label_names=("x", "y"))
    texts_with(tmp_path, "x", "q")
    assert ":3: unknown label 'q'; known are: x, y" in refusal(task, "")


def test_an_example_keeps_its_label_within_its_head():
    assert reader.within(Example("1", "a", label=2.5), Head(labels=("score",), problem="regression")).label == 2.5
