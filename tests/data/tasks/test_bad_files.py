"""What is wrong in a file: refused with its line, kept, or left out and counted; and files larger than memory."""

import os
import tracemalloc

import pytest
import thorough
from task_files import counted, examples, own, put, refusal, tsv

from bertlite_jax.data import tasks
from bertlite_jax.data.tasks import files
from bertlite_jax.errors import UserError

HEADER = tsv("index", "sentence1", "sentence2", "label")
GOOD = tsv("0", "It rains.", "It is wet.", "entailment")


def rte(folder, *lines: str, **more) -> str:
    return put(folder, "train.tsv", *lines, **more)


def test_an_unknown_label_is_refused(tmp_path):
    path = rte(tmp_path, HEADER, GOOD, tsv("1", "a", "b", "maybe"))
    assert refusal("rte", tmp_path) == f"task: {path}:3: unknown label 'maybe'; known are: entailment, not_entailment"


def test_a_label_of_validation_that_training_never_had_follows_on_its_labels_and_is_counted(tmp_path):
    train = put(tmp_path, "train.csv", "text,label", "a,x", "b,y")
    valid = put(tmp_path, "valid.csv", "text,label", "c,x", "d,z", "e,z")
    task = own(train, valid)
    assert [example.label for example in examples(task, "", "validation")] == [0, 2, 2]
    assert (task.head.labels, task.unknown) == (("x", "y"), {"z": 2})
    named = own(train, valid, label_names=("x", "y", "z"))
    assert [example.label for example in examples(named, "", "validation")] == [0, 2, 2]
    assert named.unknown == {}


def test_empty_texts_are_kept_and_counted(tmp_path):
    rte(tmp_path, HEADER, GOOD, tsv("1", "", "b", "entailment"), tsv("2", "a", "  ", "entailment"))
    assert [(e.text, e.pair) for e in examples("rte", tmp_path)][1:] == [("", "b"), ("a", "")]
    assert counted("rte", tmp_path) == {"examples": 3, "empty_text": 2}


@pytest.mark.parametrize("name", ["long.tsv", "long.csv", "long.jsonl"])
def test_a_text_of_many_characters_is_read_whole(tmp_path, name):
    # Beyond the 131,072 characters that the csv module takes by default.
    text = "words " * 33_333 + "end"
    lines = [{"text": text, "label": "a"}] if name.endswith("jsonl") else ["text\tlabel", f"{text}\ta"]
    if name.endswith("csv"):
        lines = ["text,label", f"{text},a"]
    (example,) = examples(own(put(tmp_path, name, *lines)), "")
    assert example.text == text


def test_a_line_beyond_the_limit_is_refused_before_it_fills_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LINE_LIMIT", 1 << 20)
    path = rte(tmp_path, HEADER, GOOD, "x" * ((1 << 20) + 1))
    assert refusal("rte", tmp_path) == f"task: {path}:3: a line longer than 1 MB"


def test_a_broken_json_line_is_refused(tmp_path):
    path = put(tmp_path, "BoolQ/train.jsonl", {"question": "q", "passage": "p", "label": True}, '{"question": "q')
    assert refusal("boolq", tmp_path).startswith(f"task: {path}:2: not JSON: ")
    put(tmp_path, "BoolQ/train.jsonl", "[1, 2]")
    assert refusal("boolq", tmp_path) == f"task: {path}:1: a JSON object is expected, not a list"
    put(tmp_path, "BoolQ/train.jsonl", '{"question": "\\ud83d", "passage": "p", "label": true}')
    assert refusal("boolq", tmp_path).startswith(f"task: {path}:1: an escape")
    put(tmp_path, "BoolQ/train.jsonl", {"question": 5, "passage": "p", "label": True})
    assert refusal("boolq", tmp_path) == f"task: {path}:1: 'question' holds int, not a string"


def test_a_stray_quote_in_a_tsv_file_is_a_character(tmp_path):
    rte(tmp_path, HEADER, tsv("0", '"Well', 'he said: "no', "entailment"), tsv("1", 'so"', "b", "not_entailment"))
    first, second = examples("rte", tmp_path)
    assert (first.text, first.pair, second.text) == ('"Well', 'he said: "no', 'so"')


def test_a_stray_quote_in_a_csv_file_is_refused(tmp_path):
    path = put(tmp_path, "own.csv", "text,label", '"a "bad" one",x', "b,y")
    with pytest.raises(UserError, match=r"own.csv:2: .*a quote inside a quoted field is written twice"):
        own(path)
    path = put(tmp_path, "own.csv", "text,label", "a,x", '"never closed,x', "b,y")
    with pytest.raises(UserError, match=r"own.csv:3: .*\(read up to line 4\)"):
        own(path)


def test_an_id_that_comes_twice_is_refused(tmp_path):
    path = rte(tmp_path, HEADER, GOOD, tsv("1", "a", "b", "entailment"), GOOD)
    assert refusal("rte", tmp_path) == f"task: {path}:4: the id '0' occurs twice, first in {path}:2"


def test_missing_columns_and_wrong_numbers_of_fields_are_refused(tmp_path):
    path = rte(tmp_path, tsv("index", "sentence1", "label"), tsv("0", "a", "entailment"))
    wanted = f"task: {path}:2: no column or field 'sentence2'; it has: index, sentence1, label"
    assert refusal("rte", tmp_path) == wanted
    rte(tmp_path, HEADER, GOOD, tsv("1", "a\tb", "c", "entailment"))
    wanted = f"task: {path}:3: 5 fields, and the header has 4: index, sentence1, sentence2, label"
    assert refusal("rte", tmp_path) == wanted
    rte(tmp_path, tsv("index", "label", "label"), "0\ta\tb")
    assert refusal("rte", tmp_path) == f"task: {path}:1: two columns are called 'label'"
    csv = put(tmp_path, "own.csv", "text,label", "a,x", "b,y,z")
    with pytest.raises(UserError, match=r"own.csv:3: 3 fields, and the header has 2: text, label"):
        own(csv)


def test_a_missing_label_is_refused_where_one_is_needed(tmp_path):
    path = rte(tmp_path, HEADER, tsv("0", "a", "b", ""))
    assert refusal("rte", tmp_path) == f"task: {path}:2: no label; only a test split may lack them"


def test_bytes_that_are_no_utf8_are_refused(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_bytes(f"{HEADER}\n{GOOD}\n1\tcaf".encode() + b"\xe9\tb\tentailment\n")
    assert refusal("rte", tmp_path).startswith(f"task: {path}:3: invalid UTF-8 (byte 0xe9); convert it")
    path.write_bytes(f"{HEADER}\n".encode("utf-16"))
    assert "this is UTF-16, not UTF-8; convert it" in refusal("rte", tmp_path)


def test_line_ends_marks_and_blank_lines_are_no_text(tmp_path):
    rte(tmp_path, "\ufeff" + HEADER, "", GOOD, "", end="\r\n")
    (example,) = examples("rte", tmp_path)
    assert (example.id, example.pair, example.label) == ("0", "It is wet.", 0)
    assert counted("rte", tmp_path) == {"examples": 1, "blank_lines": 2}


@pytest.mark.parametrize("character", ["\u2028", "\x0c", "\x1c", "\x85", "\r", "\x00"])
def test_only_a_line_feed_ends_a_line(tmp_path, character):
    rte(tmp_path, HEADER, tsv("0", f"a{character}b", "c", "entailment"))
    assert examples("rte", tmp_path)[0].text == f"a{character}b"


def test_the_last_line_needs_no_end(tmp_path):
    (tmp_path / "train.tsv").write_text(f"{HEADER}\n{GOOD}", encoding="utf-8")
    assert len(examples("rte", tmp_path)) == 1


def test_a_split_without_examples_is_refused(tmp_path):
    path = rte(tmp_path, HEADER)
    assert refusal("rte", tmp_path) == f"task: {path}: the train split of rte has no example"


def test_what_is_counted_is_there_too_when_a_file_turns_out_bad(tmp_path):
    rte(tmp_path, HEADER, GOOD, "", "too few")
    counts: dict[str, int] = {}
    with pytest.raises(UserError):
        list(tasks.read(tasks.TASKS["rte"], str(tmp_path), "train", counts))
    assert (counts["examples"], counts["blank_lines"]) == (1, 1)


def test_a_file_that_may_not_be_read_is_one_line(tmp_path):
    path = rte(tmp_path, HEADER, GOOD)
    os.chmod(path, 0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert refusal("rte", tmp_path) == f"task: {path}: cannot be read: Permission denied"


@pytest.mark.parametrize("name", ["own.tsv", "own.csv", "own.jsonl", "own.conll"])
def test_an_example_is_there_before_the_lines_behind_it_are_looked_at(tmp_path, name):
    """As the last line is broken, whoever reads ahead fails."""
    suffix = name.split(".")[1]
    good, bad = {
        "tsv": (["text\tlabel"] + ["a\tx"] * 9, "one field"),
        "csv": (["text,label"] + ["a,x"] * 9, "b,y,z"),
        "jsonl": ([{"text": "a", "label": "x"}] * 9, "{"),
        "conll": (["a x", ""] * 9, "a b c"),
    }[suffix]
    path = put(tmp_path, name, *good)
    task = own(path, kind="tag" if suffix == "conll" else "classify")
    put(tmp_path, name, *good, bad)
    stream = tasks.read(task, "", "train")
    assert [next(stream).text for _ in range(9)] == ["a"] * 9
    with pytest.raises(UserError):
        next(stream)


@pytest.mark.parametrize("name", thorough.but(["own.csv"], ["own.tsv", "own.csv", "own.jsonl", "own.conll"]))
def test_reading_takes_memory_for_a_line_and_not_for_the_file(tmp_path, name):
    text, suffix = "words " * 40, name.split(".")[1]
    line = {"tsv": f"{text}\tx", "csv": f"{text},x", "jsonl": {"text": text, "label": "x"}, "conll": "w x\n"}[suffix]
    header = {"tsv": ["text\tlabel"], "csv": ["text,label"]}.get(suffix, [])
    path = put(tmp_path, name, *header, *[line] * (40_000 if suffix == "conll" else 8_000))
    size = os.path.getsize(path)
    task = own(path, kind="tag" if suffix == "conll" else "classify")
    tracemalloc.start()
    try:
        number = sum(1 for _ in tasks.read(task, "", "train"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert number >= 8_000
    assert peak < size / 3
