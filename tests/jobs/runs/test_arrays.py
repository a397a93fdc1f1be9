"""Stored arrays are read as they were written, or refused in one line that names the file and what helps."""

import io
import pathlib

import numpy as np
import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.jobs.runs import arrays

STORED = {"key": np.frombuffer(b"abc", np.uint8), "x": np.arange(6.0).reshape(2, 3)}


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, **STORED)
    return file.getvalue()


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    with arrays.opened(path, "search", "remove it") as stored:
        return {name: stored[name] for name in STORED}


def test_an_archive_is_read_by_names(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(archive())
    found = read(path)
    assert all(np.array_equal(found[name], value) for name, value in STORED.items())
    with (
        pytest.raises(UserError, match=r"^search: .*a\.npz is damaged \(.*other.*\); remove it$"),
        arrays.opened(path, "search", "remove it") as stored,
    ):
        stored["other"]


def test_any_byte_that_changes_and_any_end_is_refused_in_one_line_or_changes_nothing_of_note(tmp_path):
    """Among them a place in the archive before the file, and flags of encryption and of unknown compression."""
    path, whole = tmp_path / "a.npz", archive()
    lines = []
    for place in range(len(whole)):
        changed = [whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :] for bit in (1, 8, 255)]
        for content in (*changed, whole[:place]):
            path.write_bytes(content)
            try:
                read(path)
            except UserError as error:
                lines.append(str(error))
    assert len(lines) > 2 * len(whole)
    assert not any("\n" in line for line in lines)


def test_one_array_alone_is_no_archive(tmp_path):
    path = tmp_path / "a.npz"
    with open(path, "wb") as file:
        np.save(file, STORED["x"])
    said = r"a\.npz is damaged \(it is no archive of arrays\); put back a copy, or pass"
    with pytest.raises(UserError, match=said), arrays.opened(path):
        pass


def test_a_file_that_is_not_there_is_not_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "a.npz")
