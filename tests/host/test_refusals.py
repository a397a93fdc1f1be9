"""What the system refuses is one line; what could be our own mistake keeps its traceback."""

import errno
import os
import shutil

import pytest

from bertlite_jax.host import refusals


def refused(number: int, *names: str) -> OSError:
    return OSError(number, os.strerror(number), *names[:1])


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (refused(errno.EACCES, "a"), errno.EACCES),
        (Exception("No space left on device (os error 28)"), errno.ENOSPC),  # tokenizers
        (RuntimeError("Error while serializing: I/O error: File too large (os error 27)"), errno.EFBIG),  # safetensors
        (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]), errno.ENOSPC),
        (RuntimeError("UNKNOWN: write() failed: No space left on device; writing c"), errno.ENOSPC),  # array_record
        (ValueError("[OS error 122: Disk quota exceeded]"), errno.EDQUOT),
        (ValueError("no such label: 28"), None),
        (KeyError("Errno 28"), None),
    ],
)
def test_the_number_is_found_in_what_libraries_say(error, number):
    assert refusals.error_number(error) == number


@pytest.mark.parametrize("number", sorted(refusals.NO_ROOM))
def test_no_room_is_told_with_the_output(number):
    arguments = ["text.txt", "--out", "made", "--workers", "1"]
    line = refusals.line_of(refused(number), "corpus", arguments)
    assert line is not None
    assert line.startswith(f"corpus: made cannot be written: {os.strerror(number)}; ")
    line = refusals.line_of(refused(number, "/elsewhere/x"), "corpus", ["--out=made"])
    assert line is not None
    assert "/elsewhere/x cannot be written" in line
    assert refusals.line_of(refused(number), "report", ["run"]) is not None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE])
def test_what_the_system_refuses_is_told_whichever_file_it_is(number):
    line = refusals.line_of(refused(number, "/anywhere/file"), "evaluate", ["run"])
    assert line is not None
    assert line.startswith(f"evaluate: /anywhere/file: {os.strerror(number)}; ")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST])
def test_a_wrong_name_is_the_users_only_where_the_user_could_have_named_it(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "--corpus=data/c", "--out", f"{tmp_path}/deep/out.npy"]
    mine = ("run", "run/config.json", "data/c/corpus.json", "data", f"{tmp_path}/deep/.out.npy.0a1b.tmp", "run.tmp-x/y")
    for name in mine:
        line = refusals.line_of(refused(number, name), "embed", arguments)
        assert line is not None, name
        assert line.startswith(f"embed: {name}: {os.strerror(number)}; ")
    for name in ("other", "/usr/lib/python3/x.py", "deep/other.npy", ""):
        assert refusals.line_of(refused(number, *[name] * bool(name)), "embed", arguments) is None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 7.28 TiB for an array"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes.\nmore lines"),
        RuntimeError("can't start new thread"),
        refused(errno.ENOMEM),
    ],
)
def test_what_the_machine_lacks_is_told(error):
    line = refusals.line_of(error, "pretrain", [])
    assert line is not None
    assert "needs more memory than this machine has" in line
    assert "\n" not in line


def test_halves_of_pairs_and_null_bytes_come_from_users():
    with pytest.raises(UnicodeEncodeError) as half:
        "a \ud83d b".encode()
    line = refusals.line_of(half.value, "predict", [])
    assert line is not None
    assert r"\ud83d, half of a surrogate pair" in line
    with pytest.raises(ValueError, match="embedded null") as null:
        os.stat("a\0b")
    line = refusals.line_of(null.value, "predict", [])
    assert line is not None
    assert "null byte" in line


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), ValueError("shapes do not match"), RuntimeError("INTERNAL: bug"), AssertionError(), OSError()],
)
def test_our_own_faults_keep_their_traceback(error):
    assert refusals.line_of(error, "pretrain", ["run"]) is None
