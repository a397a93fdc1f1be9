"""A path that every library takes as it stands leads to the same folder."""

import os
import pathlib

import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.host import plain_path


@pytest.mark.parametrize("name", ["lr[1e-3]", "a*b", "a?b", r"a\b", "bad\udcffw", "two\nlines"])
@pytest.mark.parametrize("below", ["", "checkpoints"])
def test_a_name_with_a_meaning_is_replaced_and_names_after_it_stay(tmp_path, name, below):
    folder = tmp_path / name / below
    folder.mkdir(parents=True)
    with plain_path.plain(folder) as other:
        assert other.is_absolute()
        assert set(str(other)).isdisjoint("*?[\\\n\udcff")
        assert other.name == below or not below
        (other / "file").write_text("x")
    assert (folder / "file").read_text() == "x"


@pytest.mark.parametrize("name", ["plain", "with space", "ümlaut 模型", "it's (a) {b} %41 #c ~", "closed]"])
def test_any_other_path_stays_as_it_is(tmp_path, name, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    with plain_path.plain(name) as same:
        assert same == tmp_path / name


def test_a_path_that_goes_up_is_told_without_its_dots(tmp_path, monkeypatch):
    """`--workdir ../run`; the folder above a linked one is that of the link's target."""
    (tmp_path / "elsewhere/inner").mkdir(parents=True)
    (tmp_path / "elsewhere/run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere/inner")
    monkeypatch.chdir(tmp_path / "elsewhere/inner")
    for name in ("../run", "../../link/../run", "../inner/../run"):
        with plain_path.plain(name) as other:
            assert other == tmp_path / "elsewhere/run"


def test_a_first_folder_that_reads_like_a_bucket_is_replaced(tmp_path, monkeypatch):
    """`/gs/runs` on the disk; here the first folder of the temporary path stands for it."""
    monkeypatch.setattr(plain_path, "_SCHEMES", (tmp_path.parts[1],))
    with plain_path.plain(tmp_path) as other:
        assert other.parts[:4] == ("/", "proc", "self", "fd")
        assert os.path.samefile(other, tmp_path)


def test_nothing_stays_open(tmp_path):
    (tmp_path / "[x]").mkdir()
    before = os.listdir("/proc/self/fd")
    with plain_path.plain(tmp_path / "[x]"):
        pass
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_system_without_such_names_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_path, "_DESCRIPTORS", pathlib.Path("/nowhere"))
    (tmp_path / "[x]").mkdir()
    with (
        pytest.raises(UserError, match=r"\[x\] has a character .* name another --workdir"),
        plain_path.plain(tmp_path / "[x]"),
    ):
        pass
    with plain_path.plain(tmp_path) as same:
        assert same == tmp_path
