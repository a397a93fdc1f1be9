"""Arrays in parts: each is computed once, whatever happens in between."""

import pathlib
import types
from collections.abc import Callable

import numpy as np
import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.jobs.finetuning.few_labels import stored

SIZES = [3, 2, 4]
WHOLE = np.arange(18, dtype=np.float32).reshape(9, 2)
BOUNDS = [0, 3, 5, 9]


class Work:
    """Counts what is computed, and is killed where it is to be."""

    def __init__(self, killed_at: int = -1):
        self.killed_at, self.opened, self.computed = killed_at, 0, []

    def begin(self) -> Callable[[int], np.ndarray]:
        self.opened += 1

        def compute(number: int) -> np.ndarray:
            if number == self.killed_at:
                raise KeyboardInterrupt
            self.computed.append(number)
            return WHOLE[BOUNDS[number] : BOUNDS[number + 1]]

        return compute


def read(path: pathlib.Path, work: Work) -> np.ndarray:
    return stored.in_parts(path, SIZES, 2, work.begin, "rows")


def test_a_killed_computation_goes_on_with_the_part_that_is_missing(tmp_path):
    path, first, second, third = tmp_path / "learning/found.npy", Work(killed_at=1), Work(), Work()
    with pytest.raises(KeyboardInterrupt):
        read(path, first)
    assert [file.name for file in path.parent.rglob("*.npy")] == ["000000.npy"]
    np.testing.assert_array_equal(read(path, second), WHOLE)
    assert second.computed == [1, 2]
    assert [file.name for file in path.parent.iterdir()] == ["found.npy"]
    np.testing.assert_array_equal(read(path, third), WHOLE)
    assert not third.opened


def test_parts_do_not_stay_beside_the_whole(tmp_path, monkeypatch):
    """Killed when all is written, and before the parts are gone."""
    path = tmp_path / "found.npy"

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stored.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            read(path, Work())
    assert (tmp_path / "found.parts").is_dir()
    np.testing.assert_array_equal(read(path, Work()), WHOLE)
    assert [file.name for file in tmp_path.iterdir()] == ["found.npy"]


def test_one_part_is_the_whole_and_is_written_once(tmp_path):
    path, calls = tmp_path / "found.npy", []

    def begin() -> Callable[[int], np.ndarray]:
        return lambda number: calls.append(number) or WHOLE

    for _ in range(2):
        np.testing.assert_array_equal(stored.in_parts(path, [9], 2, begin, "rows"), WHOLE)
    assert calls == [0]
    assert [file.name for file in tmp_path.iterdir()] == ["found.npy"]


@pytest.mark.parametrize("name", ["found.npy", "found.parts/000000.npy"])
def test_a_damaged_file_is_named(tmp_path, name: str):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(UserError, match=f"finetune: {path} is damaged"):
        read(tmp_path / "found.npy", Work())


def test_progress_is_told_with_the_time_that_is_left(tmp_path, capsys, monkeypatch):
    """A clock that moves by a minute at each look: at the start, and behind each part."""
    times = iter(range(0, 6000, 60))
    monkeypatch.setattr(stored, "time", types.SimpleNamespace(monotonic=lambda: float(next(times))))
    read(tmp_path / "found.npy", Work())
    assert capsys.readouterr().out.splitlines() == [
        "finetune: 3 of 9 rows, 2:00 left",
        "finetune: 5 of 9 rows, 1:36 left",
    ]
