"""An output is complete or absent, and a place that cannot be written is named in one line."""

import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files


def make_folder(out: pathlib.Path) -> None:
    with whole_files.new_folder(out, False, "mark") as folder:
        (folder / "mark").touch()


def make_file(out: pathlib.Path) -> None:
    with whole_files.new_file(out, False) as path:
        path.write_text("whole")


@pytest.mark.parametrize("make", [make_folder, make_file])
def test_parents_are_made(make, tmp_path):
    make(tmp_path / "a" / "b" / "out")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["out"]


@pytest.mark.parametrize("make", [make_folder, make_file])
def test_a_place_below_a_file_is_refused(make, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"convert: .*/file/out cannot be written: (File exists|Not a directory|.*/file is no folder)"
    ):
        make(tmp_path / "file" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_fails_half_way_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_files.new_file(tmp_path / "out", False) as path:
        path.write_text(str(1 / 0))
    with pytest.raises(ZeroDivisionError), whole_files.new_folder(tmp_path / "out", False, "mark") as folder:
        (folder / "half").write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_permissions_that_the_user_gives_new_files(umask, mode, tmp_path):
    """The writer of safetensors makes them for the owner alone, and a server of another user could not read them."""
    former = os.umask(umask)
    try:
        with whole_files.new_folder(tmp_path / "out", False, "mark") as folder:
            safetensors.numpy.save_file({"a": np.ones(1)}, folder / "mark")
            (folder / "program").touch()
            (folder / "program").chmod(0o700)
        with whole_files.new_file(tmp_path / "file", False) as path:
            safetensors.numpy.save_file({"a": np.ones(1)}, path)
    finally:
        os.umask(former)
    modes = [os.stat(tmp_path / name).st_mode & 0o777 for name in ("out/mark", "file", "out/program")]
    assert modes == [mode, mode, mode | 0o700]


# --- No room ---------------------------------------------------------------------------------------------------------


def fill_folder(out: pathlib.Path, overwrite: bool) -> None:
    with whole_files.new_folder(out, overwrite, "mark") as folder:
        (folder / "mark").symlink_to("/dev/full")
        (folder / "mark").write_text("x" * 100_000)


def fill_file(out: pathlib.Path) -> None:
    with whole_files.new_file(out, False, job="embed") as path:
        path.unlink()
        path.symlink_to("/dev/full")
        path.write_text("x" * 100_000)


def test_a_full_device_is_named_and_nothing_is_left(tmp_path):
    """/dev/full answers every write as a full disk does."""
    with pytest.raises(UserError, match=r"convert: .*/out cannot be written: No space left on device") as caught:
        fill_folder(tmp_path / "out", overwrite=False)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"embed: .*/file cannot be written: No space left on device"):
        fill_file(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


FULL = """
import pathlib, resource, sys
import numpy as np, safetensors.numpy
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files

out, limit = pathlib.Path(sys.argv[1]), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with whole_files.new_folder(out / "a", False, "mark") as folder:
        safetensors.numpy.save_file({"a": np.ones(100_000, np.float32)}, folder / "mark")
except UserError as error:
    print(error)
try:
    with whole_files.new_file(out / "b", False) as path:
        path.write_bytes(bytes(400_000))
except UserError as error:
    print(error)
print(list(out.iterdir()))
"""


def test_a_limit_on_the_size_of_files_is_named_whoever_writes(tmp_path):
    """Python writes one file and the Rust code of safetensors the other."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path), "4096"], capture_output=True, text=True)
    first, second, left = done.stdout.splitlines()
    assert first.startswith(f"convert: {tmp_path}/a cannot be written: File too large")
    assert second.startswith(f"convert: {tmp_path}/b cannot be written: File too large")
    assert left == "[]"
    assert not done.stderr


def test_a_full_disk_is_named_whoever_writes(tmp_path):
    """A disk of 64 KiB, in a name space of its own where this system lets users have one."""
    tiny = f'mount -t tmpfs -o size=64k tmpfs "{tmp_path}" && exec "$@"'
    command = ["unshare", "-Urm", "sh", "-c", tiny, "sh"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this system does not let a test mount a small disk")
    done = subprocess.run([*command, sys.executable, "-c", FULL, str(tmp_path), "0"], capture_output=True, text=True)
    first, second, left = done.stdout.splitlines()
    assert first.startswith(f"convert: {tmp_path}/a cannot be written: No space left on device")
    assert second.startswith(f"convert: {tmp_path}/b cannot be written: No space left on device")
    assert left == "[]"
    assert not done.stderr


def test_a_full_disk_is_seen_through_a_copied_folder(tmp_path):
    """Copytree gathers what went wrong and raises an error of its own, without a number."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "large").write_bytes(bytes(8192))
    program = (
        "import pathlib, resource, shutil, sys\n"
        "from bertlite_jax.errors import UserError\n"
        "from bertlite_jax.host import whole_files\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    with whole_files.new_folder(place / 'out', False, 'mark') as folder:\n"
        "        shutil.copytree(place / 'source', folder / 'copy')\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.startswith(f"convert: {tmp_path}/out cannot be written: File too large"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_permission_is_the_outputs_only_inside_the_output(tmp_path):
    def refuse(inside: bool) -> None:
        with whole_files.new_folder(tmp_path / "out", False, "mark") as folder:
            refused = folder / "mark" if inside else tmp_path / "input"
            raise PermissionError(errno.EACCES, "Permission denied", str(refused))

    with pytest.raises(UserError, match="out cannot be written: Permission denied"):
        refuse(inside=True)
    with pytest.raises(PermissionError):
        refuse(inside=False)
    assert list(tmp_path.iterdir()) == []


def test_an_input_that_cannot_be_read_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), whole_files.new_folder(tmp_path / "out", False, "mark"):
        (tmp_path / "input").read_bytes()
    (tmp_path / "input").write_bytes(b"12345678")
    with pytest.raises(safetensors.SafetensorError), whole_files.new_file(tmp_path / "out", False):
        safetensors.numpy.load_file(tmp_path / "input")
    assert [path.name for path in tmp_path.iterdir()] == ["input"]


def test_the_earlier_output_stays_where_the_new_one_fails(tmp_path):
    make_folder(tmp_path / "out")
    (tmp_path / "out" / "mark").write_text("earlier")
    with pytest.raises(UserError, match="No space left"):
        fill_folder(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "mark").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_never_replaces_a_folder(tmp_path):
    """It is said before the block does its work."""
    (tmp_path / "out").mkdir()
    worked = []
    with pytest.raises(UserError, match=r"^embed: .*/out is a folder and is not replaced; name a file$"):  # noqa: SIM117
        with whole_files.new_file(tmp_path / "out", overwrite=True, job="embed"):
            worked.append("in vain")
    assert not worked
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# --- Files and folders of a job's own --------------------------------------------------------------------------------


def test_json_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    whole_files.write_json(path, {"loss": 1.5})

    def stop(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(OSError, match="no space left"):
        whole_files.write_json(path, {"loss": 2.5})
    assert json.loads(path.read_text()) == {"loss": 1.5}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_is_strict(value, tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        whole_files.write_json(tmp_path / "summary.json", {"loss": value})
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_its_letters_and_escapes_what_is_no_utf8(tmp_path):
    """A file name of other bytes reaches Python with half a surrogate pair for each."""
    path = tmp_path / "environment.json"
    value = {"corpora": os.fsdecode(b"W\xc3\xb6rter-\xff")}
    whole_files.write_json(path, value)
    assert path.read_bytes() == b'{\n  "corpora": "W\xc3\xb6rter-\\udcff"\n}\n'
    assert json.loads(path.read_text(encoding="utf-8")) == value


def folder_of(path: pathlib.Path, word: str) -> pathlib.Path:
    path.mkdir()
    (path / "word").write_text(word)
    return path


def test_a_folder_is_put_where_nothing_or_an_earlier_one_lies(tmp_path):
    out = tmp_path / "out"
    whole_files.put_folder(folder_of(tmp_path / "a", "first"), out)
    with pytest.raises(OSError, match="not empty"):
        whole_files.put_folder(folder_of(tmp_path / "b", "second"), out)
    assert (out / "word").read_text() == "first"
    whole_files.put_folder(tmp_path / "b", out, replace=True)
    assert (out / "word").read_text() == "second"
    assert list(tmp_path.iterdir()) == [out]


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path):
    elsewhere = folder_of(tmp_path / "elsewhere", "first")
    (tmp_path / "out").symlink_to(elsewhere)
    whole_files.put_folder(folder_of(tmp_path / "new", "second"), tmp_path / "out", replace=True)
    assert (tmp_path / "out" / "word").read_text() == "second"
    assert (elsewhere / "word").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "out"]


def test_the_earlier_folder_comes_back_where_the_new_one_cannot_be_renamed(tmp_path):
    out = folder_of(tmp_path / "out", "first")
    with pytest.raises(FileNotFoundError):
        whole_files.put_folder(tmp_path / "absent", out, replace=True)
    assert (out / "word").read_text() == "first"
    assert list(tmp_path.iterdir()) == [out]


def kill_at_rename(monkeypatch: pytest.MonkeyPatch, number: int, folder: pathlib.Path, place: pathlib.Path) -> None:
    """What is on disk when a process dies in `put_folder` before its rename of this number, counted from 1."""
    rename, calls = os.rename, []

    def stop(source, target):
        calls.append(source)
        if len(calls) == number:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", stop)
        with pytest.raises(KeyboardInterrupt):
            whole_files.put_folder(folder, place, replace=True)


def test_the_only_copy_of_a_folder_survives_a_kill_and_comes_back(tmp_path, monkeypatch):
    """Killed between the two renames: nothing lies at the place, and the earlier output is the user's only one."""
    out = folder_of(tmp_path / "out", "first")
    new = folder_of(whole_files.temporary_beside(out), "second")
    kill_at_rename(monkeypatch, 2, new, out)
    assert not out.exists()
    assert {whole_files.intended_name(path.name) for path in tmp_path.iterdir()} == {"out"}
    whole_files.remove_leftovers(tmp_path)
    with pytest.raises(UserError, match="out exists; pass --overwrite"), whole_files.new_folder(out, False, "word"):
        pass
    assert (out / "word").read_text() == "first"
    assert list(tmp_path.iterdir()) == [out]


def test_an_earlier_folder_goes_with_the_leftovers_once_the_new_one_is_in_its_place(tmp_path, monkeypatch):
    out = folder_of(tmp_path / "out", "first")
    kill_at_rename(monkeypatch, 3, folder_of(tmp_path / "new", "second"), out)
    assert len(list(tmp_path.iterdir())) == 2
    whole_files.put_back_former(out)
    whole_files.remove_leftovers(tmp_path)
    assert (out / "word").read_text() == "second"
    assert list(tmp_path.iterdir()) == [out]


def test_what_is_half_removed_is_not_put_back(tmp_path, monkeypatch):
    """Killed while the replaced folder is removed; then the user removes the new one."""
    out = folder_of(tmp_path / "out", "first")

    def stop(path, ignore_errors):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            whole_files.put_folder(folder_of(tmp_path / "new", "second"), out, replace=True)
    shutil.rmtree(out)
    whole_files.put_back_former(out)
    assert not out.exists()


def test_a_folder_beside_a_place_vanishes_unless_it_is_put_there(tmp_path):
    with whole_files.folder_beside(tmp_path / "out") as folder:
        assert folder.parent == tmp_path
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_leaves_is_recognised_and_removed(tmp_path):
    whole_files.temporary_beside(tmp_path / "config.json").touch()
    whole_files.temporary_beside(tmp_path / "tokenizer").mkdir()
    folder_of(tmp_path / ".8000.removed.tmp", "half")
    others = [
        folder_of(tmp_path / "4000", "whole"),
        tmp_path / ".hidden",
        tmp_path / "notes.tmp",
        tmp_path / ".notes.tmp",
    ]
    for path in others[1:]:
        path.touch()
    intended = {whole_files.intended_name(path.name) for path in tmp_path.iterdir()}
    assert intended == {"config.json", "tokenizer", "8000", None}
    whole_files.remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_of_the_leftovers_only_the_named_go(tmp_path):
    """Another command may be writing beside the run at this moment."""
    whole_files.temporary_beside(tmp_path / "config.json").touch()
    live = whole_files.temporary_beside(tmp_path / "vectors.npy")
    live.touch()
    whole_files.remove_leftovers(tmp_path, ["config.json"])
    assert list(tmp_path.iterdir()) == [live]


def test_a_folder_is_never_seen_half_removed(tmp_path, monkeypatch):
    """Its name goes first; a killed removal is completed by the next."""
    folder = folder_of(tmp_path / "best", "first")

    def stop(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            whole_files.remove_folder(folder)
    assert not folder.exists()
    whole_files.remove_folder(folder_of(folder, "second"))
    assert list(tmp_path.iterdir()) == []
