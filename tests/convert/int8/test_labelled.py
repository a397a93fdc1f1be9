"""Labelled examples: what is read, and errors that name the line and what would be right."""

import pytest

from bertlite_jax.config.model import Head
from bertlite_jax.convert.int8.labelled import read_labelled
from bertlite_jax.errors import UserError

HEAD = Head(labels=("no", "yes"))
NUMBERED = Head(labels=("0", "1"))


def write(folder, content: str | bytes, name: str = "data.jsonl") -> str:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder / name)


def test_texts_pairs_and_ids_are_read_and_blank_lines_passed_over(tmp_path):
    path = write(tmp_path, '\n{"text": "a", "label": "no", "id": 7}\r\n\n{"text": "b", "pair": "c", "label": "yes"}\n')
    first, second = read_labelled(path, HEAD)
    assert (first["text"], first["label"]) == ("a", "no")
    assert (second["text"], second["pair"], second["label"]) == ("b", "c", "yes")


def test_a_label_can_be_a_number_and_a_missing_pair_null(tmp_path):
    path = write(tmp_path, '{"text": "a", "pair": null, "label": 1}\n')
    assert [example["label"] for example in read_labelled(path, NUMBERED)] == [1]


def test_a_tsv_has_the_columns_of_its_header_and_no_quotes(tmp_path):
    path = write(tmp_path, '\ufefflabel\ttext\nyes\t"so" she said\n', "data.tsv")
    assert read_labelled(path, HEAD) == [{"label": "yes", "text": '"so" she said'}]


@pytest.mark.parametrize(
    ("content", "line", "message_part"),
    [
        ("", 1, 'no example; {"text": "...", "label": "no"} is a valid line'),
        ('\n\n{"text": "a", "label": "no"}\n{"text": \n', 4, "not JSON"),
        ("[1]\n", 1, "list, not an object"),
        ('{"text": 3, "label": "no"}\n', 1, "text is int, not a string"),
        ('{"text": null, "label": "no"}\n', 1, "text is NoneType, not a string"),
        ('{"text": "a", "pair": ["b"], "label": "no"}\n', 1, "pair is list, not a string"),
        ('{"text": "a", "text2": "b", "label": "no"}\n', 1, "unknown 'text2'; known: text, pair, label, id"),
        ('{"text": "a"}\n', 1, "label missing"),
        ('{"text": "a", "label": "maybe"}\n', 1, '"maybe"; the model\'s labels are: no, yes'),
        ('{"text": "a", "label": ["no"]}\n', 1, "the model's labels are: no, yes"),
        (b'{"text": "a", "label": "no"}\n{"text": "caf\xe9", "label": "no"}\n', 2, "not UTF-8 (byte 0xe9)"),
    ],
    ids=["empty", "broken", "array", "number", "null", "list", "key", "no label", "label", "label list", "latin-1"],
)
def test_what_is_wrong_is_one_line_with_file_and_line(content, line, message_part, tmp_path):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as raised:
        read_labelled(path, HEAD)
    message = str(raised.value)
    assert message.startswith(f"convert: {path}:{line}: ")
    assert message_part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "line", "message_part"),
    [
        ("", 1, "no example"),
        ("text\tlabel\n", 1, "no example"),
        ("the lamp\tno\n", 1, "the first line must name the columns: text, label"),
        ("text\ttext2\tlabel\na\tb\tno\n", 1, "the first line must name the columns"),
        ("text\tlabel\n\na\tno\tmore\n", 3, "3 columns, and the header has 2"),
    ],
    ids=["empty", "header alone", "no header", "unknown column", "too many cells"],
)
def test_what_is_wrong_in_a_tsv_is_one_line_with_file_and_line(content, line, message_part, tmp_path):
    path = write(tmp_path, content, "data.tsv")
    with pytest.raises(UserError) as raised:
        read_labelled(path, HEAD)
    message = str(raised.value)
    assert message.startswith(f"convert: {path}:{line}: ")
    assert message_part in message


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing.jsonl does not exist; --data takes"):
        read_labelled(str(tmp_path / "nothing.jsonl"), HEAD)
    with pytest.raises(UserError, match="cannot be read: Is a directory; --data takes a file"):
        read_labelled(str(tmp_path), HEAD)
