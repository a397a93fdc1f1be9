"""Whatever is wrong with a user's JSON becomes one line that names the place."""

import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files

WRONG = {
    "no JSON": (b'{"a": }', "Expecting value"),
    "empty": (b"", "Expecting value"),
    "cut off": (b'{"a": [1, 2', "Expecting"),
    "the second line": (b'{"a": 1,\n oops}', "line 2"),
    "too deep": (b"[" * 200_000, "nested too deeply"),
    "deep and whole": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    "thousands of digits": (b'{"a": ' + b"9" * 5_000 + b"}", "thousands of digits"),
    "Latin-1": ('{"a": "é"}'.encode("latin-1"), "not UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "UTF-16"),
    "half a pair": (b'{"a": "\\ud800"}', "other half"),
    "half a pair as a key": (b'{"\\udc00": 1}', "other half"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_in_one_line_with_the_place(name, tmp_path):
    content, said = WRONG[name]
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError) as refused:
        json_files.read(tmp_path / "x.json", "convert")
    message = str(refused.value)
    assert message.startswith(f"convert: {tmp_path / 'x.json'}: ")
    assert said in message
    assert "\n" not in message


def test_a_byte_order_mark_and_a_whole_pair_are_fine(tmp_path):
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"a": "\\ud83d\\ude00"}')
    assert json_files.read_object(tmp_path / "x.json", "convert") == {"a": "\N{GRINNING FACE}"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[1]", "a list"),
        ('"a"', "a string"),
        ("5", "a number"),
        ("1.5", "a number"),
        ("true", "true"),
        ("null", "null"),
    ],
)
def test_anything_but_an_object_is_refused_where_one_is_needed(text, kind):
    assert json_files.parse(text, "a.json:3", "predict") in ([1], "a", 5, 1.5, True, None)
    with pytest.raises(UserError, match=rf"predict: a.json:3: a JSON object is expected, not {kind}"):
        json_files.parse_object(text, "a.json:3", "predict")


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(UserError, match=r"x\.json does not exist"):
        json_files.read(tmp_path / "x.json", "convert")
    with pytest.raises(UserError, match=r"cannot be read: Is a directory"):
        json_files.read(tmp_path, "convert")
