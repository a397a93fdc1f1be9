"""An output is complete or absent, and a place that cannot be written is named in one line."""

import pathlib

import pytest

from bertlite_jax.config import UserError
from bertlite_jax.convert import folders


def make_folder(out: pathlib.Path) -> None:
    with folders.new_folder(out, False, "mark") as folder:
        (folder / "mark").touch()


def make_file(out: pathlib.Path) -> None:
    with folders.new_file(out, False) as path:
        path.write_text("whole")


@pytest.mark.parametrize("make", [make_folder, make_file])
def test_parents_are_made(make, tmp_path):
    make(tmp_path / "a" / "b" / "out")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["out"]


@pytest.mark.parametrize("make", [make_folder, make_file])
def test_a_place_below_a_file_is_refused(make, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="convert: .*/file/out cannot be written: (File exists|Not a directory)"):
        make(tmp_path / "file" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_fails_half_way_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), folders.new_file(tmp_path / "out", False) as path:
        path.write_text(str(1 / 0))
    with pytest.raises(ZeroDivisionError), folders.new_folder(tmp_path / "out", False, "mark") as folder:
        (folder / "half").write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == []
