"""People's own files: CSV, TSV and JSON lines, for every kind of head."""

import pytest
from task_files import counted, examples, own, put, refusal, tsv

from bertlite_jax.config.model import Head
from bertlite_jax.errors import UserError


def refused(*files: str, **settings) -> str:
    with pytest.raises(UserError) as caught:
        own(*files, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("own.csv", ["text,label", '"Good, ""very"" good",yes', "Bad,no"]),
        ("own.tsv", ["text\tlabel", 'Good, "very" good\tyes', "Bad\tno"]),
        ("own.jsonl", [{"text": 'Good, "very" good', "label": "yes"}, {"text": "Bad", "label": "no"}]),
    ],
)
def test_three_formats_hold_the_same_examples(tmp_path, name, lines):
    task = own(put(tmp_path, name, *lines))
    assert task.head == Head(labels=("no", "yes"))
    assert (task.name, task.metrics, list(task.splits)) == ("own", ("accuracy", "f1_macro"), ["train"])
    good, bad = examples(task, "")
    assert (good.text, good.pair, good.label, bad.text, bad.label) == ('Good, "very" good', None, 1, "Bad", 0)


def test_a_field_of_a_csv_file_may_go_over_several_lines(tmp_path):
    task = own(put(tmp_path, "own.csv", "text,label", '"one', 'two",a', "three,b", end="\r\n"))
    assert [(example.id, example.text) for example in examples(task, "")] == [("1", "one\ntwo"), ("2", "three")]


def test_usual_names_of_columns_are_found_and_others_are_named(tmp_path):
    usual = own(put(tmp_path, "a.tsv", tsv("idx", "premise", "hypothesis", "gold_label"), tsv("7", "p", "h", "x")))
    (example,) = examples(usual, "")
    assert (example.id, example.text, example.pair) == ("7", "p", "h")
    path = put(tmp_path, "b.tsv", tsv("review", "reply", "stars"), tsv("r", "a", "5"))
    (example,) = examples(own(path, text="review", pair="reply", label="stars"), "")
    assert (example.id, example.text, example.pair, example.label) == ("1", "r", "a", 0)
    wanted = "which column is the text? It has: review, reply, stars; pass --data.text-column review"
    assert refused(path).startswith(f"task: {path}:1: {wanted}")
    wanted = f"task: {path}:1: no column or field 'title'; it has: review, reply, stars"
    assert refused(path, text="review", pair="title") == wanted
    assert refused(path, text="review").startswith(f"task: {path}:1: no column or field 'label'")


def test_labels_are_ordered_numbers_by_size_and_names_by_alphabet(tmp_path):
    path = put(tmp_path, "a.tsv", "text\tlabel", *(f"t\t{label}" for label in ("10", "9", "b", "a", "-1")))
    assert own(path).head.labels == ("-1", "9", "10", "a", "b")
    assert own(path, label_names=("b", "a", "9", "10", "-1")).head.labels[0] == "b"


def test_true_false_and_numbers_of_json_are_labels(tmp_path):
    path = put(
        tmp_path, "a.jsonl", {"text": "x", "label": True}, {"text": "y", "label": False}, {"text": "z", "label": 3}
    )
    assert own(path).head.labels == ("3", "false", "true")


def test_several_labels_are_a_list_or_stand_between_bars(tmp_path):
    listed = put(tmp_path, "a.jsonl", {"text": "x", "labels": ["red", "big"]}, {"text": "y", "labels": []})
    barred = put(tmp_path, "a.csv", "text,labels", "x,red|big", "y,")
    for path in (listed, barred):
        task = own(path, kind="multi_label")
        assert task.head == Head(labels=("big", "red"), problem="multi_label")
        assert task.metrics == ("f1_micro", "f1_macro", "exact")
        assert [example.label for example in examples(task, "")] == [(1, 1), (0, 0)]
    comma = put(tmp_path, "b.tsv", "text\tlabels", "x\tred, big")
    assert own(comma, kind="multi_label", separator=",").head.labels == ("big", "red")


def test_a_regression_has_numbers(tmp_path):
    task = own(put(tmp_path, "a.csv", "text,score", "x,1e2", "y,-0.5"), kind="regression")
    assert task.head == Head(labels=("score",), problem="regression")
    assert task.metrics == ("pearson", "spearman")
    assert [example.label for example in examples(task, "")] == [100.0, -0.5]
    bad = put(tmp_path, "a.csv", "text,score", "x,high")
    assert "a.csv:2: the label 'high' is not a finite number" in refused(bad, kind="regression")


def test_choices_are_a_list_or_a_column_each(tmp_path):
    listed = put(tmp_path, "a.jsonl", {"premise": "p", "choices": ["a", "b", "c"], "label": 2})
    columns = put(tmp_path, "a.csv", "premise,first,second,third,label", "p,a,b,c,2")
    for path, names in ((listed, ()), (columns, ("first", "second", "third"))):
        task = own(path, kind="choose", choices=names)
        assert task.head == Head(kind="choose", labels=())
        (example,) = examples(task, "")
        assert (example.text, example.choices, example.label) == ("p", ("a", "b", "c"), 2)
    few = own(put(tmp_path, "b.jsonl", {"premise": "p", "choices": ["a"], "label": 0}), kind="choose")
    assert "b.jsonl:1: 1 choices; two or more are expected" in refusal(few, "")


def test_a_test_file_may_lack_labels_and_others_may_not(tmp_path):
    train = put(tmp_path, "train.tsv", "text\tlabel", "a\tx", "b\ty")
    bare = put(tmp_path, "bare.tsv", "text", "c")
    assert examples(own(train, test=bare), "", "test")[0].label is None
    assert f"{bare}:2: no column or field 'label'" in refusal(own(train, bare), "", "validation")
    blank = put(tmp_path, "blank.tsv", "text\tlabel", "c\t ")
    assert counted(own(train, test=blank), "", "test") == {"examples": 1, "unlabelled": 1}
    assert f"{blank}:2: no label; only a test split may lack them" in refusal(own(train, blank), "", "validation")


def test_what_cannot_become_a_task_is_refused(tmp_path):
    assert "no file is given" in refused()
    assert refused(str(tmp_path / "none.csv")) == f"task: {tmp_path}/none.csv: no such file"
    empty = put(tmp_path, "empty.csv", "text,label")
    assert refused(empty) == f"task: {empty}: the file holds no example"
    many = put(tmp_path, "many.tsv", "text\tlabel", *(f"t\t{number}" for number in range(1001)))
    assert refused(many) == f"task: {many}: more than 1000 labels; is it a regression, or another column?"
    bare = put(tmp_path, "bare.csv", "text,label", "a,", "b,")
    advice = "only a test split may lack them, and 2 of 2 examples do; --data.skip-unlabelled leaves them out"
    assert refused(bare) == f"task: {bare}:2: no label; {advice}"
    assert "name the labels; there is no training file" in refused("", "", put(tmp_path, "t.csv", "text,label", "a,b"))
    listed = put(tmp_path, "list.jsonl", {"text": "a", "label": ["x"]})
    assert refused(listed, kind="classify") == f"task: {listed}:1: a label is list; one name or number is expected"
    nothing = put(tmp_path, "null.jsonl", {"text": "a", "label": ["x", None]})
    assert refused(nothing, kind="multi_label").startswith(f"task: {nothing}:1: a label is null")


def test_files_in_a_folder_with_a_star_in_its_name_are_found(tmp_path):
    path = put(tmp_path, "odd [1]*/own.csv", "text,label", "a,x", "b,y")
    assert len(examples(own(path), "")) == 2
