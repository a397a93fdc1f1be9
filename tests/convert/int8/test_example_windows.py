"""What a model is calibrated on where the file is a table, JSON or CoNLL: what it will see of each example."""

import json
import string

import numpy as np
import pytest
from int8_examples import MODEL, trained_like, write_text

from bertlite_jax.config.model import Head
from bertlite_jax.convert.int8 import example_windows, measuring_text
from bertlite_jax.convert.int8.example_windows import Cut, Window
from bertlite_jax.data.examples import features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary
from bertlite_jax.errors import UserError

ONE = Head(labels=("no", "yes"))
TAGS = Head(kind="tag", labels=("O", "B-PER"))
SPAN = Head(kind="span", labels=())
CONLL = "-DOCSTART- -X- O\n\nAnna NNP B-PER\nwent VBD O\n\nPeter NNP B-PER\nslept VBD O\n"
SQUAD = {"data": [{"paragraphs": [{"context": "Anna went.", "qas": [{"id": "1", "question": "Who went?"}]}]}]}
OWN = OwnOptions(text="review", pair="title", label="stars")

CASES = [
    ("a.csv", "\ufeffID;TEXT;LABEL;PRICE;;\n1;it was dark;no;9,5;;\n2;\"a; b\";yes;3;;\n", ONE, None,
     ["it was dark|", "a ; b|"]),
    ("b.csv", "stars,review,title,text\n5,so good,Warm,x\n", ONE, OWN, ["so good|warm|"]),
    ("c.json", json.dumps([{"id": 7, "text": "it was dark", "label": 0}], indent=2), ONE, None, ["it was dark|"]),
    ("d.json", json.dumps({"data": [{"text": "a", "label": 0}, {"text": "b"}]}, indent=2), ONE, None, ["a|", "b|"]),
    ("e.jsonl", '{"review": "so good", "stars": 5}\n{"review": " "}\n', ONE, OWN, ["so good|"]),
    ("f.conll", CONLL, TAGS, None, ["anna went|", "peter slept|"]),
    ("g.txt", CONLL, TAGS, None, ["anna went|", "peter slept|"]),
    ("h.json", json.dumps([{"tokens": ["Anna", "went"], "ner_tags": ["B-PER", "O"]}]), TAGS, None, ["anna went|"]),
    ("h.csv", "text,score\nAnna went.,3\n", TAGS, None, ["anna went.|"]),
    ("i.json", json.dumps(SQUAD), SPAN, None, ["who went?|anna went.|"]),
    ("j.csv", "question,context\nWho?,Anna went.\n", SPAN, None, ["who?|anna went.|"]),
    ("k.jsonl", '{"text": "It", "choices": ["fell", "rose"]}\n', Head(kind="choose", labels=()), None,
     ["it|fell|", "it|rose|"]),
    ("l.csv", "id,sentence\n1,it was dark\n", None, None, ["it was dark|"]),
    ("m.conll", CONLL, None, None, ["anna went|", "peter slept|"]),
    ("n.csv", "text,pair\nso good,Warm\n", None, None, ["so good|", "warm|"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase), *"?.;"]
    place = tmp_path_factory.mktemp("letters")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    (place / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    return adopt_vocabulary(place / "vocab.txt", place / "ours")


def shown(windows: list[Window], tokenizer: Tokenizer) -> list[str]:
    """The text of each window, `|` for [SEP]; of token type 0 up to the first, of 1 behind it."""
    texts = []
    for ids, types in windows:
        assert ids[0] == tokenizer.cls_id
        ends = np.flatnonzero(ids == tokenizer.sep_id)
        assert types.tolist() == [int(place > ends[0]) for place in range(len(ids))]
        parts = [tokenizer.decode(part[part != tokenizer.sep_id]) for part in np.split(ids[1:], ends)[:-1]]
        texts.append("".join(f"{part}|" for part in parts))
    return texts


@pytest.mark.parametrize(("name", "content", "head", "columns", "texts"), CASES, ids=[case[0] for case in CASES])
def test_the_windows_are_those_of_the_examples(name, content, head, columns, texts, tokenizer, tmp_path):
    path = str(tmp_path / name)
    (tmp_path / name).write_text(content, encoding="utf-8")
    columns = columns or OwnOptions()
    form = example_windows.form_of(path, head, columns)
    assert form != "text"
    assert shown(example_windows.windows(path, form, head, columns, Cut(tokenizer, 64, head)), tokenizer) == texts


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
    assert example_windows.form_of(str(tmp_path / name), head, OwnOptions()) == "text"
    assert example_windows.form_of(str(tmp_path), head, OwnOptions()) == "text"


@pytest.mark.parametrize("head", [ONE, None])
def test_a_table_without_a_text_is_refused_in_one_line(head, tokenizer, tmp_path):
    (tmp_path / "prices.csv").write_text("day,price\nMonday,3\n", encoding="utf-8")
    form = example_windows.form_of(str(tmp_path / "prices.csv"), head, OwnOptions())
    with pytest.raises(UserError) as raised:
        example_windows.windows(str(tmp_path / "prices.csv"), form, head, OwnOptions(), Cut(tokenizer, 64, head))
    wanted = f"convert: {tmp_path}/prices.csv:1: which column is the text? It has: day, price"
    assert str(raised.value) == wanted


def test_each_example_is_a_window_however_short(tmp_path):
    weights = trained_like(tmp_path, MODEL, ONE)
    (tmp_path / "data.csv").write_text("text;label;n\nthe lamp;no;1\nthe desk;yes;2\n", encoding="utf-8")
    rows = measuring_text.windows(weights, [str(tmp_path / "data.csv")], 8, 16)
    assert weights.tokenizer is not None
    assert shown(rows, weights.tokenizer) == ["the lamp|", "the desk|"]
    both = measuring_text.windows(weights, [str(tmp_path / "data.csv"), write_text(tmp_path)], 1_000, 16)
    assert len(both) > 100


def test_pairs_are_calibrated_on_as_they_are_answered(tmp_path):
    """With their segments, and cut as in training, also where they are too long."""
    weights = trained_like(tmp_path, MODEL, ONE)
    tokenizer = weights.tokenizer
    assert tokenizer is not None
    pairs = [("the lamp on the old desk had been lit " * 3, "why"), ("it was dark", "nobody knew " * 9)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps({"text": a, "pair": b}) for a, b in pairs))
    rows = measuring_text.windows(weights, [str(tmp_path / "pairs.jsonl")], 8, 16)
    examples = [Example(str(number), *pair) for number, pair in enumerate(pairs)]
    expected = example_windows.split(features.encode(examples, tokenizer, ONE, 16, "pairs"))
    (batch,) = measuring_text.batches(weights, rows, 8, 16)
    for number, (ids, types) in enumerate(expected):
        assert len(ids) == 16
        np.testing.assert_array_equal(batch["input_ids"][number], ids)
        np.testing.assert_array_equal(batch["token_type_ids"][number], types)
        assert types.any()


def test_vectors_are_those_of_single_texts_whatever_the_head_reads(tmp_path):
    weights = trained_like(tmp_path, MODEL, ONE)
    (tmp_path / "pairs.csv").write_text("text,pair\nthe lamp,the desk\n", encoding="utf-8")
    rows = measuring_text.windows(weights, [str(tmp_path / "pairs.csv")], 8, 16, output="states")
    assert weights.tokenizer is not None
    assert shown(rows, weights.tokenizer) == ["the lamp|", "the desk|"]


def test_a_long_text_behind_a_question_is_several_windows_with_the_question(tmp_path):
    weights = trained_like(tmp_path, MODEL, SPAN)
    record = {"question": "why", "context": "the lamp on the old desk had been lit " * 4}
    (tmp_path / "questions.jsonl").write_text(json.dumps(record))
    rows = measuring_text.windows(weights, [str(tmp_path / "questions.jsonl")], 8, 16)
    assert weights.tokenizer is not None
    texts = shown(rows, weights.tokenizer)
    assert len(texts) > 2
    assert all(text.startswith("why|") for text in texts)
