"""One job at a time holds a folder; what a killed one leaves holds nobody up."""

import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from bertlite_jax.host import folder_lock

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOLD = """
import pathlib, sys
from bertlite_jax.host import folder_lock
with folder_lock.held(pathlib.Path(sys.argv[1])) as holder:
    print(holder, flush=True)
    sys.stdin.read()
"""


def in_another_thread(folder: pathlib.Path) -> str | None:
    """Who holds the folder, asked by a thread that tries to."""
    answers = []

    def ask():
        with folder_lock.held(folder) as holder:
            answers.append(holder)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return answers[0]


def without_locks(monkeypatch) -> None:
    """Like a file system that has none."""

    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock.fcntl, "flock", refuse)


def test_it_is_held_once_and_again_by_the_same_thread(tmp_path):
    with folder_lock.held(tmp_path) as holder, folder_lock.held(tmp_path) as again:
        assert holder is again is None
        assert in_another_thread(tmp_path) == "another job of this process"
        assert in_another_thread(tmp_path / ".") == "another job of this process"
    assert list(tmp_path.iterdir()) == []
    assert in_another_thread(tmp_path) is None


def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path):
    folder, copy = tmp_path / "run", tmp_path / "copy"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "None\n"
        with folder_lock.held(folder) as holder:
            assert holder is not None
            assert holder.startswith(f"process {process.pid} on ")
            assert "at work since 20" in holder
        shutil.copytree(folder, copy)
        with folder_lock.held(copy) as holder:
            assert holder is None  # A copy of a work directory is nobody's.
        process.send_signal(signal.SIGKILL)
    assert os.listdir(folder) == [folder_lock.FILE]
    with folder_lock.held(folder) as holder:
        assert holder is None
        assert json.loads((folder / folder_lock.FILE).read_text())["pid"] == os.getpid()
    assert os.listdir(folder) == os.listdir(copy) == []


def test_of_many_that_come_and_go_one_at_a_time_holds_it(tmp_path):
    """Each removes the file that the next one may have opened already. The lock itself does not care for threads."""
    inside, most, held = [], [], []

    def work():
        while len(held) < 200:
            with folder_lock.locked(tmp_path / "lock") as holder:
                if holder is None:
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.0005)
                    inside.pop()
                    held.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_or_read_only_raises(tmp_path):
    with pytest.raises(FileNotFoundError), folder_lock.held(tmp_path / "absent"):
        pass
    with pytest.raises(NotADirectoryError), folder_lock.held(pathlib.Path(__file__)):
        pass
    assert in_another_thread(tmp_path) is None  # What failed is not taken for held.


# --- A file system without locks -------------------------------------------------------------------------------------


def test_without_locks_the_holder_touches_its_file(tmp_path, monkeypatch):
    without_locks(monkeypatch)
    monkeypatch.setattr(folder_lock, "BEAT_SECONDS", 0.01)
    file = tmp_path / folder_lock.FILE
    with folder_lock.held(tmp_path) as holder:
        assert holder is None
        os.utime(file, (1.0, 1.0))
        deadline = time.monotonic() + 10
        while file.stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert file.stat().st_mtime > 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("age", "free"), [(0.0, False), (50.0, False), (70.0, True)])
def test_without_locks_a_file_counts_for_a_minute(tmp_path, monkeypatch, age, free):
    without_locks(monkeypatch)
    file = tmp_path / folder_lock.FILE
    file.write_bytes(folder_lock._signature("theirs"))
    os.utime(file, (time.time() - age,) * 2)
    with folder_lock.held(tmp_path) as holder:
        if free:
            assert holder is None
        else:
            assert holder is not None
            assert holder.startswith(f"process {os.getpid()} on ")
            assert "start again in a minute" in holder
    assert [path.name for path in tmp_path.iterdir()] == ([] if free else [folder_lock.FILE])
