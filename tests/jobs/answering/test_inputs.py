"""What `predict` and `embed` read: every form that `finetune` reads, and lines; odd bytes are told with their line."""

import gzip
import io
import json
import pathlib
import sys
from collections import Counter

import pytest

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import inputs, span_inputs

CLASSES = Head(labels=("neg", "pos"))
TAGS = Head(kind="tag", labels=("O", "B-LOC", "I-LOC"))
CHOICES = Head(kind="choose", labels=())
SEVERAL = Head(labels=("food", "room"), problem="multi_label")
SCORE = Head(labels=("score",), problem="regression")


class Reading:
    """Writes files and reads them; `notes` are those of the last one."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.notes = folder, inputs.Notes()

    def __call__(self, content: str | bytes, name: str, head: Head = CLASSES, **options: str) -> list[Example]:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.notes = inputs.Notes()
        said = OwnOptions(**options)  # type: ignore[arg-type]
        return list(inputs.read(str(path), head, said, self.notes))


@pytest.fixture
def read(tmp_path) -> Reading:
    return Reading(tmp_path)


def texts(examples) -> list[tuple]:
    return [(example.text, example.pair, example.label) for example in examples]


# --- Forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label,source\nit was good,pos,x\nbad,neg,y\n"),
        ("a.csv", "Text;Label\r\nit was good;pos\r\nbad;neg\r\n"),
        ("a.tsv", "sentence\tlabel\nit was good\tpos\nbad\tneg\n"),
        ("a.txt", "text|label\nit was good|pos\nbad|neg\n"),
        ("a.csv", '\ufefftext,label\n"it was good",pos\nbad,neg\n'),
        ("a.csv", "text,label\rit was good,pos\rbad,neg\r"),
        ("a.jsonl", '{"text1": "it was good", "label": "pos", "date": 3}\n\n{"text1": "bad", "label": "neg"}\n'),
        ("a.json", '[\n {"sentence": "it was good", "label": "pos"},\n {"sentence": "bad", "label": "neg"}\n]\n'),
        ("a.json", '\ufeff{"data": [{"text": "it was good", "label": "pos"}, {"text": "bad", "label": "neg"}]}'),
    ],
)
def test_what_finetune_reads(read, name, content):
    assert texts(read(content, name)) == [("it was good", None, 1), ("bad", None, 0)]


def test_columns_of_the_training_data_or_of_this_file_or_the_usual_ones(read):
    rows = "review,stars\nfine,pos\n"
    assert texts(read(rows, "a.csv", text="review", label="stars")) == [("fine", None, 1)]
    assert texts(read('{"review": "fine", "x": [1]}\n', "a.jsonl", text="review")) == [("fine", None, None)]
    assert texts(read("text,label\nfine,pos\n", "a.csv", text="review", label="stars")) == [("fine", None, 1)]
    with pytest.raises(UserError, match=r"predict: .*a.csv:1: which column is the text\? .*pass --text-column review"):
        read(rows, "a.csv")
    with pytest.raises(UserError, match=r"a.jsonl:2: which column is the text\? It has: txt"):
        read('{"text": "a"}\n{"txt": "a"}\n', "a.jsonl")
    with pytest.raises(UserError, match=r"a.jsonl:1: which .* It has: review, stars; pass --text-column review"):
        read('{"review": "fine", "stars": 3}\n', "a.jsonl")


def test_a_field_of_labels_that_is_empty_everywhere_is_named_though_the_first_object_lacks_it(read):
    read('[{"text": "a"}, {"text": "b", "stars": null}]', "a.json", label="stars")
    assert read.notes.unscored().startswith("nothing is scored: 'stars' is empty")
    read('[{"text": "a", "lang": "en"}]', "a.json")
    assert "no column or field holds labels; if one of 'lang' does, pass --label-column NAME" in read.notes.unscored()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"words": ["in", "Rome"], "tags": "O B-LOC"}', "'tags' holds 'O B-LOC', which is no list of tags such as"),
        ('{"words": "in Rome", "tags": "O B-LOC"}', "'words' is a text, and the tags in 'tags' need a list of its"),
    ],
)
def test_tags_that_are_no_list_are_not_called_empty(read, line, problem):
    for name, content in (("a.jsonl", line), ("a.json", f"[{line}]")):
        (example,) = read(content, name, TAGS)
        assert example.label is None
        assert read.notes.unscored().startswith(f"nothing is scored: {problem}")
    assert read('{"words": ["in"], "tags": ["O"]}', "a.jsonl", TAGS)[0].label == (0,)
    assert read.notes.no_tags == ""


def test_numbers_that_cannot_be_read_can_be_left_out(read):
    with pytest.raises(UserError, match=r"a.csv:2: the label 'good' is not a finite number; --no-score leaves the lab"):
        read("text,score\na,good\n", "a.csv", SCORE)
    with pytest.raises(UserError, match=r"is the label '2.540' 2540 or 2.540\? .* pass --decimal \. if .*--no-score"):
        read("text;score\na;2.540\nb;260\n", "a.csv", SCORE)
    rows = read("text;score\na;2.540\nb;260\n", "a.csv", SCORE, decimal=".")
    assert [example.label for example in rows] == [2.54, 260.0]


def test_parquet(read, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"tokens": [["in", "Rome"], ["so"]]}), tmp_path / "t.parquet")
    found = list(inputs.read(str(tmp_path / "t.parquet"), TAGS))
    assert [example.words for example in found] == [("in", "Rome"), ("so",)]


@pytest.mark.parametrize(
    ("head", "line", "expected"),
    [
        (CHOICES, {"question": "why", "choices": ["a", "b"], "label": 1}, ("why", ("a", "b"), (), 1)),
        (TAGS, {"tokens": ["in", "Rome"], "tags": ["O", "B-LOC"]}, ("in Rome", (), ("in", "Rome"), (0, 1))),
        (TAGS, {"words": ["a,b"]}, ("a,b", (), ("a,b",), None)),
        (TAGS, {"text": "in New York, ok"}, ("in New York, ok", (), ("in", "New", "York", ",", "ok"), None)),
        (SEVERAL, {"text": "x", "labels": ["room"]}, ("x", (), (), (0, 1))),
        (SCORE, {"sentence1": "x", "score": 2.5}, ("x", (), (), 2.5)),
    ],
)
def test_objects_of_every_kind_of_head(read, head, line, expected):
    (found,) = read(json.dumps(line) + "\n", "a.jsonl", head)
    assert (found.text, found.choices, found.words, found.label) == expected


def test_conll_columns_are_words_for_a_tagger_and_refused_by_a_model_of_texts(read):
    content = "New B-LOC\nYork I-LOC\n. O\n\nin O\nRome B-LOC\n"
    assert [example.words for example in read(content, "a.txt", TAGS)] == [("New", "York", "."), ("in", "Rome")]
    for name in ("a.txt", "a.conll"):
        with pytest.raises(
            UserError, match=r"^predict: .*: CoNLL columns have words with tags.*; pass --input a file of"
        ):
            read(content, name, CLASSES)


def test_plain_text_is_split_into_words_as_the_training_data_were(read):
    text = "New York, on Monday.\n"
    assert read(text, "a.txt", TAGS)[0].words == ("New", "York", ",", "on", "Monday", ".")
    spaces = Head(kind="tag", labels=TAGS.labels, splits=())
    assert read(text, "a.txt", spaces)[0].words == ("New", "York,", "on", "Monday.")
    assert [example.words for example in read("\nok\n", "a.txt", TAGS)] == [(), ("ok",)]


@pytest.mark.parametrize("line", [{"words": []}, {"words": [], "tags": []}, {"text": " "}, {"tokens": "[]"}])
def test_a_sentence_without_words_is_one(read, line):
    lines = [line, {next(iter(line)): ["ok"]}]
    found = read("".join(json.dumps(each) + "\n" for each in lines), "a.jsonl", TAGS)
    assert [(example.words, example.label) for example in found] == [((), None), (("ok",), None)]


# --- Labels ----------------------------------------------------------------------------------------------------------


def test_a_label_that_the_model_does_not_know_is_counted_by_name(read):
    found = read("text,label\na,pos\nb,good\nc,good\nd,\n", "a.csv")
    assert [example.label for example in found] == [1, 2, 2, None]
    (line,) = read.notes.lines(CLASSES.labels)
    assert line == "2 labels are none of the model's (neg, pos) and count as errors: good (2)"


def test_labels_are_not_looked_at_where_none_are_wanted(tmp_path):
    for name, content in (("a.csv", "text,label\na,x\n"), ("a.jsonl", '{"text": "a", "label": {"odd": 1}}\n')):
        (tmp_path / name).write_text(content)
        (found,) = inputs.read(str(tmp_path / name), CLASSES, labelled=False)
        assert (found.text, found.label) == ("a", None)
    (found,) = inputs.read(str(tmp_path / "a.csv"), CLASSES, OwnOptions(text="label"), labelled=False)
    assert (found.text, found.label) == ("x", None)


# --- Lines and bytes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0c", "\x0b", "\x1c", "\r"])
def test_only_a_line_feed_ends_a_line(read, sign):
    """huggingface/datasets #3729: lines that other programs see would move all answers by one."""
    assert [example.text for example in read(f"a{sign}b\nc\n", "a.txt")] == [f"a{sign}b", "c"]
    assert [example.text for example in read(json.dumps({"text": f"a{sign}b"}) + "\n", "a.jsonl")] == [f"a{sign}b"]
    assert [example.text for example in read(f"text\tlabel\na{sign}b\tpos\n", "a.tsv")] == [f"a{sign}b"]


def test_marks_and_compression(read):
    assert [example.text for example in read(b"\xef\xbb\xbfa\r\nb\r\n", "a.txt")] == ["a", "b"]
    assert [example.text for example in read(b'\xef\xbb\xbf{"text": "a"}\r\n', "a.jsonl")] == ["a"]
    assert [example.text for example in read(gzip.compress(b"text,label\na,pos\n"), "a.csv.gz")] == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "fine\n".encode("utf-16"), "a.txt:?1?: this is UTF-16, not UTF-8; convert it: iconv"),
        ("a.csv", "text,label\na,b\n".encode("utf-16"), "this is UTF-16, not UTF-8; convert it: iconv"),
        ("a.txt", b"fine\nbad \xff\n", r"a.txt:2: invalid UTF-8 \(byte 0xff\)"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "a", "id": ' + b"9" * 5000 + b"}\n", "a.jsonl:2: .*thousands of digits"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ' + b"[" * 200_000 + b"\n", "a.jsonl:2: .*nested too deeply"),
        ("a.jsonl", b'{"text": "a"}\n["a"]\n', "a.jsonl:2: a JSON object is expected"),
        ("a.jsonl", b'{"text": 3}\n', "a.jsonl:1: 'text' holds int, not a string"),
        ("a.jsonl", b'{"text": null}\n', "a.jsonl:1: 'text' holds null, not a string"),
        ("a.txt", b'fine\n{"text": "a"}\n', "a.txt:2: a JSON object among plain texts"),
        ("a.csv", b"text,label\na,b,c\n", "a.csv:2: 3 fields, and the header has 2"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(read, name, content, message):
    with pytest.raises(UserError, match=f"predict: .*{message}"):
        read(content, name)


def test_halves_of_surrogate_pairs_are_replaced_and_counted(read):
    line = r'{"text": "a \ud800 b", "id": "\udc00"}' + "\n" + r'{"text": "\ud83d\ude00 \\ud800"}' + "\n"
    first, second = read(line, "a.jsonl")
    assert (first.text, first.id) == ("a \ufffd b", "\ufffd")
    assert second.text == "\U0001f600 \\ud800"
    assert read.notes.lines(()) == ["1 inputs with half of a surrogate pair, which is now U+FFFD"]


def test_standard_input_and_a_missing_file(monkeypatch, tmp_path):
    def given(content: bytes) -> list:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return list(inputs.read("-", CLASSES))

    assert [example.text for example in given(b"a\n\nb")] == ["a", "", "b"]
    assert texts(given(b'{"sentence": "a", "label": "pos", "more": 1}\n')) == [("a", None, 1)]
    with pytest.raises(UserError, match="predict: standard input:1: this is one JSON list"):
        given(b'[\n{"text": "a"}]')
    with pytest.raises(UserError, match=r"predict: .*none.txt: cannot be read: No such file"):
        list(inputs.read(str(tmp_path / "none.txt"), CLASSES))
    with pytest.raises(UserError, match="embed: "):
        list(inputs.read(str(tmp_path / "none.txt"), CLASSES, job="embed"))


def test_lines_are_read_as_they_are_wanted(tmp_path):
    """A file larger than memory is answered batch by batch."""
    for name, line in (("a.txt", "text"), ("a.jsonl", '{"text": "text"}'), ("a.csv", "text")):
        path = tmp_path / name
        path.write_text(f"{line}\n" * 50_000 + "\xff")
        stream = inputs.read(str(path), CLASSES)
        assert next(stream).text == "text"


# --- Questions -------------------------------------------------------------------------------------------------------


def questions(path: pathlib.Path, content: str) -> list[tuple]:
    path.write_text(content)
    return [(each.id, each.text, each.pair, each.answers) for each in span_inputs.read(str(path), Counter())]


def test_questions_from_lines_tables_and_lists(tmp_path):
    known = (("Bonn", 13),)
    line = {"question": "Where?", "context": "Ann lives in Bonn.", "source": "x"}
    answers = {"text": ["Bonn"], "answer_start": [13]}
    assert questions(tmp_path / "a.jsonl", json.dumps(line)) == [("1", "Where?", "Ann lives in Bonn.", ())]
    assert questions(tmp_path / "b.jsonl", json.dumps(line | {"answers": answers}))[0][3] == known
    short = {"text": "Where?", "pair": "Ann lives in Bonn.", "id": "q"}
    assert questions(tmp_path / "c.jsonl", json.dumps(short))[0][:3] == ("q", "Where?", "Ann lives in Bonn.")
    assert questions(tmp_path / "d.csv", "id,question,context\n7,Where?,In Bonn.\n")[0][:3] == (
        "7",
        "Where?",
        "In Bonn.",
    )
    rows = [line | {"answers": answers}, line]
    for content in (json.dumps(rows), json.dumps({"data": rows}, indent=1)):
        assert [each[3] for each in questions(tmp_path / "f.json", content)] == [known, ()]
    nested = [{"title": "t", "paragraphs": [{"context": "In Bonn.", "qas": [{"id": "q", "question": "Where?"}]}]}]
    assert questions(tmp_path / "g.json", json.dumps({"data": nested}))[0][:3] == ("q", "Where?", "In Bonn.")
    (tmp_path / "h.csv").write_text("q;doc;n\nWhere?;In Bonn.;7\n")
    named = OwnOptions(text="q", pair="doc", id="n", delimiter=";")
    (found,) = span_inputs.read(str(tmp_path / "h.csv"), Counter(), named)
    assert (found.id, found.text, found.pair) == ("7", "Where?", "In Bonn.")
    for content, message in (
        ('{"question": "Where?"}', ":1: no field 'context' or 'pair'"),
        ("Where?", ":1: this model answers questions about texts, so each line must be"),
        (json.dumps(short) + "\n" + json.dumps(short), ":2: the id 'q' occurs before"),
        ('{"question": "Where?", "context": 5}', ":1.*context"),
    ):
        with pytest.raises(UserError, match=f"predict: .*{message}"):
            questions(tmp_path / "e.jsonl", content)
