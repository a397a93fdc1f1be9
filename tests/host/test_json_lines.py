"""Lines of JSON that are appended: whole or absent, and a torn one is no error."""

import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.host import json_lines


def test_objects_are_read_as_they_were_written_with_their_places(tmp_path):
    path = tmp_path / "lines.jsonl"
    assert list(json_lines.read(path, "job")) == []
    json_lines.append(path, [{"a": 1}, {"b": "é\n"}])
    json_lines.append(path, [{}])
    assert list(json_lines.read(path, "job")) == [
        (f"{path}:1", {"a": 1}),
        (f"{path}:2", {"b": "é\n"}),
        (f"{path}:3", {}),
    ]


def test_a_torn_line_is_left_out_and_goes_with_the_next_write(tmp_path):
    path = tmp_path / "lines.jsonl"
    json_lines.append(path, [{"a": 1}])
    path.write_bytes(path.read_bytes() + b'{"a": ')
    assert [values for _, values in json_lines.read(path, "job")] == [{"a": 1}]
    json_lines.append(path, [{"a": 2}])
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n'


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n[]\n')
    with pytest.raises(UserError, match=r"job: .*lines\.jsonl:2: a JSON object is expected"):
        list(json_lines.read(path, "job"))


def test_what_is_no_number_in_json_is_our_mistake(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_lines.append(tmp_path / "lines.jsonl", [{"a": float("nan")}])
    assert not (tmp_path / "lines.jsonl").exists()
