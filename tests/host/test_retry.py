"""What is tried again, how often, and what a user is told in the end."""

import logging
import subprocess
import sys

import numpy as np
import pytest

from bertlite_jax.config.pretrain import Data
from bertlite_jax.data.corpus import records
from bertlite_jax.data.rows import source
from bertlite_jax.errors import UserError
from bertlite_jax.host import retry


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.0)


class Failing:
    """Raises the given errors, one a call, and then answers."""

    def __init__(self, *errors: Exception):
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "content"


def test_errors_that_pass_are_waited_for(caplog):
    read = Failing(OSError(5, "Input/output error"), TimeoutError("late"), RuntimeError("read() failed: Stale handle"))
    with caplog.at_level(logging.WARNING):
        assert retry.read_with_retries(read, "a.npy") == "content"
    assert read.calls == 4
    assert [line.split(";")[-1].rsplit(" in", 1)[0] for line in caplog.messages] == [
        " attempt 2 of 6",
        " attempt 3 of 6",
        " attempt 4 of 6",
    ]
    assert all("a.npy" in line for line in caplog.messages)


def test_the_last_error_comes_out_after_six_attempts():
    read = Failing(*(OSError(5, f"number {number}") for number in range(1, 9)))
    with pytest.raises(OSError, match="number 6"):
        retry.read_with_retries(read, "a.npy")
    assert read.calls == 6


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file"),
        PermissionError(13, "Permission denied"),
        RuntimeError("Corrupted Riegeli/records file: chunk data hash mismatch"),
        RuntimeError("index 500 out of bound 50"),
        ValueError("cannot reshape"),
    ],
)
def test_errors_that_last_are_raised_at_once(error):
    read = Failing(error)
    with pytest.raises(type(error)):
        retry.read_with_retries(read, "a.npy")
    assert read.calls == 1


def test_the_waits_double(monkeypatch):
    waits = []
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 1e-3)
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    with pytest.raises(OSError, match="no"):
        retry.read_with_retries(Failing(*(OSError(5, "no") for _ in range(6))), "a.npy")
    # Each has up to one millisecond of chance on top.
    assert [int(1000 * wait + 1e-6) // base for wait, base in zip(waits, (1, 2, 4, 8, 16), strict=True)] in [
        [1, 1, 1, 1, 1],
        [2, 1, 1, 1, 1],
    ]


def test_a_disk_that_stays_away_ends_in_one_line_with_the_file(prepared, monkeypatch):
    opened = source.open_source(Data(corpus=(prepared.corpus,), length=64), "train", 0)
    held = opened.corpora[0].records

    class Gone:
        def read(self, places):
            raise RuntimeError("read() failed: Transport endpoint is not connected; reading it")

    monkeypatch.setattr(records, "ArrayRecordReader", lambda file, options: Gone())
    monkeypatch.setattr(Gone, "ok", lambda self: True, raising=False)
    held.readers[:] = [Gone()]
    with pytest.raises(UserError) as caught:
        records.read_windows(held, np.arange(3))
    assert str(caught.value).startswith(f"corpus: {held.files[0]}: cannot be read (read() failed: Transport endpoint")
    assert "\n" not in str(caught.value)


def test_a_record_file_that_cannot_be_opened_is_named(prepared, monkeypatch):
    """ArrayRecord opens whatever it is given, with no records in it; the job must not take that for the file."""
    real = records.ArrayRecordReader
    monkeypatch.setattr(records, "ArrayRecordReader", lambda file, options: real(file + ".gone", options))
    with pytest.raises(UserError, match=r"array_record-00000\S*: cannot be read \(open\(\) failed: No such file"):
        source.open_source(Data(corpus=(prepared.corpus,), length=64), "train", 0)


@pytest.mark.parametrize(
    ("soft", "hard", "says"), [(40, 4096, "opened"), (40, 60, "has 1 record files, which stay open")]
)
def test_a_corpus_of_many_files_asks_for_the_right_to_open_them(prepared, soft, hard, says):
    """In a process of its own: a limit that was lowered cannot be raised again."""
    program = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from bertlite_jax.config import Data
from bertlite_jax.data.rows import source
from bertlite_jax.errors import UserError
try:
    source.open_source(Data(corpus=({prepared.corpus!r},), length=64), "train", 0)
    print("opened", resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 512)
except UserError as error:
    print(error)
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert says in shown.stdout, shown.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:secret@host/api is away", "http://host/api is away"),
        ("postgresql://me:p@ss@host:5432/runs", "postgresql://host:5432/runs"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("mail me@host about http://host", "mail me@host about http://host"),
    ],
)
def test_passwords_of_addresses_are_not_shown(text, shown):
    assert retry.without_passwords(text) == shown
    assert retry.first_line(OSError(text)) == shown
