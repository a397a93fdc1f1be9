"""Where outputs may go: behind links to what they lead to, and never into the folder that the program runs in."""

import os

import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.host.places import check_utf8, final_place, refuse_to_replace, short_name


def test_a_link_stands_for_what_it_leads_to(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    assert final_place("corpus", tmp_path / "link") == tmp_path / "disk"
    assert final_place("corpus", tmp_path / "new" / "out") == tmp_path / "new" / "out"


@pytest.mark.parametrize("target", ["/unmounted/disk", "link"])
def test_a_link_that_leads_nowhere_is_refused(target, tmp_path):
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(UserError, match=r"^corpus: .*link") as refused:
        final_place("corpus", tmp_path / "link")
    assert "\n" not in str(refused.value)
    assert os.path.islink(tmp_path / "link")


@pytest.mark.parametrize("out", [".", "..", "../here", "/"])
def test_the_folder_that_this_runs_in_is_refused(out, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="is the folder that this runs in"):
        final_place("convert", out)


def test_an_output_without_a_name_is_refused():
    with pytest.raises(UserError, match=r"^convert: the output has an empty name; name a file or folder$"):
        final_place("convert", "")


def test_what_is_read_is_not_replaced(tmp_path):
    """By whatever name; beside it and in it there is room."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/text").write_text("years of work")
    (tmp_path / "link").symlink_to("corpus")
    for source, out in (("corpus/text", "link"), ("corpus", "link"), ("link/text", "corpus/../corpus/text")):
        with pytest.raises(UserError, match=r"^corpus: .* read; name another place to write$"):
            refuse_to_replace("corpus", tmp_path / source, tmp_path / out)
    for out in ("corpus/new", "corpora", "corpus/text2"):
        refuse_to_replace("corpus", tmp_path / "corpus/text", tmp_path / out)


def test_names_that_are_not_utf8_are_refused_and_shown():
    with pytest.raises(UserError, match=r"^workdir: bad\\xffw is not UTF-8"):
        check_utf8("workdir", os.fsdecode(b"bad\xffw"))
    check_utf8("workdir", "日本 é \N{GRINNING FACE}")


@pytest.mark.parametrize(
    "name", ["é" * 127, "a" * 255, os.fsdecode(b"\xff" * 255)], ids=["letters", "ascii", "no utf-8"]
)
def test_very_long_names_are_shortened_to_different_ones(name):
    """40 of a file system's 255 bytes are left for what a temporary name adds."""
    short = short_name(name)
    assert len(short.encode("utf-8")) <= 215
    assert short != short_name(name[:-1])
    assert short_name("a" * 215) == "a" * 215


def test_a_name_that_is_too_long_is_told_at_the_start(tmp_path):
    with pytest.raises(UserError, match=r"^embed: .* cannot be written: File name too long"):
        final_place("embed", tmp_path / ("a" * 256))
