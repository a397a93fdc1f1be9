"""What a model is calibrated on where the file is a table, JSON or CoNLL: the texts of its examples, nothing else."""

import json

import pytest
from int8_examples import MODEL, trained_like, write_text

from bertlite_jax.config.model import Head
from bertlite_jax.convert.int8 import example_texts, measuring_text
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError

ONE = Head(labels=("no", "yes"))
TAGS = Head(kind="tag", labels=("O", "B-PER"))
SPAN = Head(kind="span", labels=())
CONLL = "-DOCSTART- -X- O\n\nAnna NNP B-PER\nwent VBD O\n\nPeter NNP B-PER\nslept VBD O\n"
SQUAD = {"data": [{"paragraphs": [{"context": "Anna went.", "qas": [{"id": "1", "question": "Who went?"}]}]}]}
OWN = OwnOptions(text="review", pair="title", label="stars")

CASES = [
    ("a.csv", "\ufeffID;TEXT;LABEL;PRICE;;\n1;it was dark;no;9,5;;\n2;\"a; b\";yes;3;;\n", ONE, None,
     [["it was dark"], ["a; b"]]),
    ("b.csv", "stars,review,title,text\n5,so good,Warm,x\n", ONE, OWN, [["so good", "Warm"]]),
    ("c.json", json.dumps([{"id": 7, "text": "it was dark", "label": 0}], indent=2), ONE, None, [["it was dark"]]),
    ("d.json", json.dumps({"data": [{"text": "a", "label": 0}, {"text": "b"}]}, indent=2), ONE, None, [["a"], ["b"]]),
    ("e.jsonl", '{"review": "so good", "stars": 5}\n', ONE, OWN, [["so good"]]),
    ("f.conll", CONLL, TAGS, None, [["Anna went"], ["Peter slept"]]),
    ("g.txt", CONLL, TAGS, None, [["Anna went"], ["Peter slept"]]),
    ("h.json", json.dumps([{"tokens": ["Anna", "went"], "ner_tags": ["B-PER", "O"]}]), TAGS, None, [["Anna went"]]),
    ("i.json", json.dumps(SQUAD), SPAN, None, [["Who went?", "Anna went."]]),
    ("j.csv", "question,context\nWho?,Anna went.\n", SPAN, None, [["Who?", "Anna went."]]),
    ("k.jsonl", '{"text": "It", "choices": ["fell", "rose"]}\n', Head(kind="choose", labels=()), None,
     [["It", "fell", "rose"]]),
    ("l.csv", "id,sentence\n1,it was dark\n", None, None, [["it was dark"]]),
    ("m.conll", CONLL, None, None, [["Anna went"], ["Peter slept"]]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "head", "columns", "texts"), CASES, ids=[case[0] for case in CASES])
def test_only_the_texts_of_the_examples_are_read(name, content, head, columns, texts, tmp_path):
    path = str(tmp_path / name)
    (tmp_path / name).write_text(content, encoding="utf-8")
    columns = columns or OwnOptions()
    form = example_texts.form_of(path, head, columns)
    assert form != "text"
    assert list(example_texts.read(path, form, head, columns)) == texts


@pytest.mark.parametrize(
    ("name", "content", "head"),
    [
        ("a.txt", "The lamp, the desk and the hall.\n\nIt was dark.\n", ONE),
        ("b.txt", "He said\tthat it was dark.\nShe slept.\n", ONE),
        ("c.jsonl", '{"text": "It was dark."}\n', None),
    ],
)
def test_text_stays_text(name, content, head, tmp_path):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert example_texts.form_of(str(tmp_path / name), head, OwnOptions()) == "text"
    assert example_texts.form_of(str(tmp_path), head, OwnOptions()) == "text"


@pytest.mark.parametrize("head", [ONE, None])
def test_a_table_without_a_text_is_refused_in_one_line(head, tmp_path):
    (tmp_path / "prices.csv").write_text("day,price\nMonday,3\n", encoding="utf-8")
    form = example_texts.form_of(str(tmp_path / "prices.csv"), head, OwnOptions())
    with pytest.raises(UserError) as raised:
        list(example_texts.read(str(tmp_path / "prices.csv"), form, head, OwnOptions()))
    wanted = f"convert: {tmp_path}/prices.csv:1: which column is the text? It has: day, price"
    assert str(raised.value) == wanted


def test_each_example_is_a_window_however_short(tmp_path):
    weights = trained_like(tmp_path, MODEL, ONE)
    (tmp_path / "data.csv").write_text("text;label;n\nthe lamp;no;1\nthe desk;yes;2\n", encoding="utf-8")
    rows = measuring_text.windows(weights, [str(tmp_path / "data.csv")], 8, 16)
    assert weights.tokenizer is not None
    assert [weights.tokenizer.decode(list(map(int, row[1:-1]))) for row in rows] == ["the lamp", "the desk"]
    both = measuring_text.windows(weights, [str(tmp_path / "data.csv"), write_text(tmp_path)], 1_000, 16)
    assert len(both) > 100
