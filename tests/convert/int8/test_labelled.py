"""Labelled examples of any form that `finetune` reads, and errors that name the line and what would be right."""

import json

import pytest

from bertlite_jax.config.model import Head
from bertlite_jax.convert.int8.labelled import read_labelled
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError

HEAD = Head(labels=("no", "yes"))
NUMBERED = Head(labels=("0", "1"))


def write(folder, content: str | bytes, name: str = "data.jsonl") -> str:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder / name)


def test_texts_and_pairs_are_read_and_blank_lines_passed_over(tmp_path):
    lines = ['{"text": "a", "pair": "b", "label": "no", "id": 7}\r', '{"text": "c", "pair": "d", "label": "yes"}']
    path = write(tmp_path, "\n" + "\n\n".join(lines) + "\n")
    first, second = read_labelled(path, HEAD)
    assert (first.text, first.pair, first.label) == ("a", "b", 0)
    assert (second.text, second.pair, second.label) == ("c", "d", 1)


ROWS = [("so she said", "yes"), ("it was dark", "no")]
FORMS = {
    "data.tsv": "\ufefflabel\ttext\n" + "".join(f"{label}\t{text}\n" for text, label in ROWS),
    "data.csv": "Text;Label;source\n" + "".join(f'"{text}";{label};x\n' for text, label in ROWS),
    "data.json": json.dumps([{"sentence": text, "label": label, "date": 3} for text, label in ROWS], indent=1),
    "data.jsonl": "".join(json.dumps({"text1": text, "label": label}) + "\n" for text, label in ROWS),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_file_gives_the_same_examples(name, tmp_path):
    found = read_labelled(write(tmp_path, FORMS[name], name), HEAD)
    assert [(example.text, HEAD.labels[int(str(example.label))]) for example in found] == ROWS


def test_the_columns_of_the_run_are_used(tmp_path):
    path = write(tmp_path, "review,stars\ngood,1.0\nbad,0\n", "data.csv")
    found = read_labelled(path, NUMBERED, OwnOptions(text="review", label="stars"))
    assert [(example.text, example.label) for example in found] == [("good", 1), ("bad", 0)]


@pytest.mark.parametrize(
    ("content", "line", "message_part"),
    [
        ('\n\n{"text": "a", "label": "no"}\n{"text": \n', 4, "not JSON"),
        ('{"text": 3, "label": "no"}\n', 1, "not a string"),
        ('{"text": null, "label": "no"}\n', 1, "not a string"),
        ('{"text": "a", "pair": ["b"], "label": "no"}\n', 1, "not a string"),
        ('{"text": "a", "label": "no"}\n{"text": "b"}\n', 2, 'no label; {"text": "...", "label": "no"} is'),
        ('{"text": "a", "label": "maybe"}\n', 1, 'the label is "maybe"; the model\'s labels are: no, yes'),
        (b'{"text": "a", "label": "no"}\n{"text": "caf\xe9", "label": "no"}\n', 2, "invalid UTF-8 (byte 0xe9)"),
    ],
    ids=["broken", "number", "null", "pair", "no label", "label", "latin-1"],
)
def test_what_is_wrong_is_one_line_with_file_and_line(content, line, message_part, tmp_path):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as raised:
        read_labelled(path, HEAD)
    message = str(raised.value)
    assert f": {path}:{line}: " in message
    assert message_part in message
    assert "\n" not in message


def test_an_empty_file_a_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(UserError, match=r"data.jsonl"):
        read_labelled(write(tmp_path, ""), HEAD)
    with pytest.raises(UserError, match=r"no example"):
        read_labelled(write(tmp_path, "text,label\n", "data.csv"), HEAD)
    with pytest.raises(UserError, match=r"nothing.jsonl does not exist; --data takes a file"):
        read_labelled(str(tmp_path / "nothing.jsonl"), HEAD)
    with pytest.raises(UserError, match="is a folder; --data takes a file"):
        read_labelled(str(tmp_path), HEAD)
