"""An output may have a name of 255 bytes, as many as most file systems allow: temporary names beside it fit as well."""

import os
import pathlib

import pytest

from bertlite_jax.host import whole_files

LONGEST = "é" * 127 + "x"
OTHER = "é" * 127 + "y"


def folder_of(path: pathlib.Path, word: str) -> pathlib.Path:
    path.mkdir()
    (path / "word").write_text(word)
    return path


def test_files_and_folders_are_written(tmp_path):
    with whole_files.new_folder(tmp_path / LONGEST, False, "mark") as folder:
        (folder / "mark").touch()
    with whole_files.new_file(tmp_path / OTHER, False) as path:
        path.write_text("whole")
    whole_files.write_text(tmp_path / OTHER, "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == [LONGEST, OTHER]


def test_the_only_copy_of_a_folder_comes_back(tmp_path, monkeypatch):
    """Of a `put_folder` that was killed between its renames."""
    rename, new = os.rename, folder_of(tmp_path / "new", "second")

    def stop_at_the_second(source, target):
        if source == new:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        whole_files.put_folder(new, folder_of(tmp_path / LONGEST, "first"), replace=True)
    whole_files.remove_leftovers(tmp_path)
    whole_files.put_back_former(tmp_path / OTHER)
    assert not (tmp_path / OTHER).exists()
    whole_files.put_back_former(tmp_path / LONGEST)
    assert (tmp_path / LONGEST / "word").read_text() == "first"


def test_leftovers_go_by_the_name_of_what_they_were_to_be(tmp_path):
    whole_files.temporary_beside(tmp_path / LONGEST).touch()
    whole_files.remove_leftovers(tmp_path, [OTHER])
    assert len(list(tmp_path.iterdir())) == 1
    whole_files.remove_leftovers(tmp_path, [LONGEST])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_removed(tmp_path):
    whole_files.remove_folder(folder_of(tmp_path / LONGEST, "first"))
    assert list(tmp_path.iterdir()) == []
