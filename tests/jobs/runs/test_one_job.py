"""Two jobs never write into one work directory; the second one is refused before it has touched anything."""

import os
import pathlib
import threading

import pytest

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.errors import UserError
from bertlite_jax.host import folder_lock
from bertlite_jax.jobs.runs import one_job, workdir


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def in_another_thread(folder: pathlib.Path, of_runs: bool = False) -> str:
    """What a second job is told; empty if it may work there."""
    said = []

    def start():
        try:
            with one_job.alone_in(folder, of_runs):
                said.append("")
        except UserError as error:
            said.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    return said[0]


@pytest.mark.parametrize("of_runs", [False, True])
def test_a_second_job_is_refused_until_the_first_has_ended(tmp_path, of_runs):
    run = tmp_path / "a" / "run"
    with one_job.alone_in(run, of_runs), one_job.alone_in(run, of_runs):
        (run / "config.json").write_text('{"run": {}, "data": {}}')
        before = contents(run)
        line = in_another_thread(run, of_runs)
        assert line.startswith(f"workdir: {run} is in use by another job of this process; wait")
        assert "\n" not in line
        assert contents(run) == before
    assert in_another_thread(run, of_runs) == ""
    assert os.listdir(run) == ["config.json"]


def test_a_directory_in_which_nothing_was_written_goes_again(tmp_path):
    with one_job.alone_in(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert os.listdir(tmp_path) == []
    (tmp_path / "old").mkdir()
    with one_job.alone_in(tmp_path / "old"):
        pass
    assert os.listdir(tmp_path) == ["old"]


def test_what_a_killed_job_leaves_is_no_obstacle(tmp_path):
    (tmp_path / folder_lock.FILE).write_text("{")
    with one_job.alone_in(tmp_path):
        assert workdir.open_workdir(tmp_path, Pretrain(), False, {}, pytest.fail) is False
    (tmp_path / folder_lock.FILE).write_text("{}")
    with one_job.alone_in(tmp_path):
        assert workdir.open_workdir(tmp_path, Pretrain(), True, {}, pytest.fail) is False
        assert (tmp_path / folder_lock.FILE).is_file()  # --overwrite clears the run, and not the lock.
    assert sorted(os.listdir(tmp_path)) == ["config.json", "environment.json"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [("thesis.tex", "mine", "is not empty"), ("config.json", "{}", "is not the config of a run")],
)
def test_somebody_elses_directory_is_not_even_locked(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    times = os.stat(tmp_path).st_mtime_ns
    with pytest.raises(UserError, match=says), one_job.alone_in(tmp_path):
        pass
    assert os.stat(tmp_path).st_mtime_ns == times
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("file", "is a file; name a directory"),
        ("file/run", "cannot be written: Not a directory"),
        ("n" * 300, "cannot be written: File name too long"),
        ("gs://mine/run", "lies in object storage"),
    ],
)
def test_a_place_that_is_none_is_one_line(tmp_path, place, says, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("file").touch()
    with pytest.raises(UserError, match=says) as error, one_job.alone_in(place):
        pass
    assert "\n" not in str(error.value)
    assert os.listdir() == ["file"]
