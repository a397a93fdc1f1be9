"""Lines that are suggested for a shell: they can be pasted as they are, and overwrite nothing."""

import gzip
import subprocess

import pytest

from bertlite_jax.data.tasks import files
from bertlite_jax.data.text import shell_lines
from bertlite_jax.errors import UserError

GERMAN = "text,label\nschöne Grüße,ja\n"


def pasted(line: str) -> None:
    subprocess.run(["sh", "-c", line], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["a.csv", "my files.csv", "it's $HOME.csv", "-n.csv", "a.CSV.gz"])
@pytest.mark.parametrize("encoding", ["windows-1252", "utf-16", "utf-32-le"])
def test_a_file_in_another_encoding_is_converted_by_the_line_that_is_suggested(tmp_path, name, encoding):
    content = (GERMAN * 20).encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(UserError) as refused:
        files.whole_text(str(tmp_path / name))
    before = set(tmp_path.iterdir())
    pasted("iconv" + str(refused.value).partition("iconv")[2] if "gz" not in name else _unpacked(str(refused.value)))
    (new,) = set(tmp_path.iterdir()) - before
    assert new.name == name.removesuffix(".gz").replace(".", "_utf8.")
    assert new.read_text(encoding="utf-8") == GERMAN * 20
    assert before <= set(tmp_path.iterdir())


def _unpacked(message: str) -> str:
    return "gzip -dc" + message.partition("gzip -dc")[2]


def test_a_file_that_exists_is_not_overwritten(tmp_path):
    for name in ("a.json", "a_rows.json", "a_rows2.json"):
        (tmp_path / name).write_text("{}")
    line = shell_lines.rewriting("jq .rows", str(tmp_path / "a.json"), "rows")
    assert line == f"jq .rows < {tmp_path}/a.json > {tmp_path}/a_rows3.json"


def test_what_is_no_file_has_words_in_the_place_of_names():
    assert shell_lines.rewriting("iconv -f utf-16", "standard input", "utf8") == "iconv -f utf-16 < FILE > NEW"
