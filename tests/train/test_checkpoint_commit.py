"""What Orbax has committed is opened again before it is sealed; a disk that refuses ends in one line."""

import gc
import os
import pathlib
import resource
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import thorough
from checkpoint_examples import assert_holds, opt_at, params_at, write
from etils import epath

from bertlite_jax.errors import UserError
from bertlite_jax.train import checkpoint, checkpoint_sums


@pytest.fixture(scope="module")
def committed(tmp_path_factory) -> tuple[pathlib.Path, object]:
    """A folder with step 7 as Orbax commits it, without its seal, and what it should hold."""
    folder = tmp_path_factory.mktemp("committed")
    checkpoints = checkpoint.open_checkpoints(folder / "c", 1, 0)
    checkpoint.save(checkpoints, 7, params_at(7), opt_at(7), {"step": 7})
    checkpoints.manager().wait_until_finished()
    ((_, content),) = checkpoints.waiting
    checkpoints.waiting.clear()
    checkpoint.finish(checkpoints)
    return folder / "c", content


def files_of(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def why_not_sealed(folder: pathlib.Path, content: object) -> str | None:
    try:
        checkpoint._seal(folder / "7", content)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("change", thorough.but(["halved"], ["deleted", "emptied", "halved"]))
def test_nothing_that_cannot_be_restored_is_ever_sealed(committed, tmp_path, change):
    """Each file of a commit in turn: the step is not sealed, or it is restored bit for bit."""
    folder, content = committed
    files, sealed = files_of(folder), []
    assert len(files) > 15
    for number, name in enumerate(files):
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        if change == "deleted":
            (copy / name).unlink()
        else:
            size = (copy / name).stat().st_size
            os.truncate(copy / name, size // 2 if change == "halved" else 0)
        if refusal := why_not_sealed(copy, content):
            assert "7 was written but cannot be opened again (" in refusal
            assert refusal.endswith("no checkpoint is whole yet, so the same command starts at step 0")
            assert "\n" not in refusal
            assert not checkpoint_sums.is_sealed(copy / "7"), name
            continue
        sealed.append(name)
        assert_holds(copy, 7)
    refused = {name.as_posix() for name in files} - {name.as_posix() for name in sealed}
    needed = {"7/meta/metadata", *(f"7/{item}/{name}" for item in ("params", "opt") for name in NEEDED)}
    assert needed <= refused
    assert sum("/ocdbt.process_0/d/" in name for name in refused) >= 2  # The numbers themselves.


NEEDED = ("manifest.ocdbt", "_METADATA")


def test_an_untouched_commit_is_sealed(committed, tmp_path):
    folder, content = committed
    shutil.copytree(folder, tmp_path / "c")
    checkpoint._seal(tmp_path / "c/7", content)
    assert checkpoint.verified_steps(tmp_path / "c") == [7]
    assert_holds(tmp_path / "c", 7)


def test_other_arrays_than_were_to_be_saved_are_not_sealed(committed, tmp_path):
    from bertlite_jax.train import checkpoint_arrays

    folder, _ = committed
    shutil.copytree(folder, tmp_path / "c")
    wide = params_at(7) | {"half": jnp.zeros(9, jnp.bfloat16)}
    for params, opt, meta, says in (
        (wide, opt_at(7), {"step": 7}, r"params/half is bfloat16 \[8\] in the file instead of bfloat16 \[9\]"),
        (params_at(7) | {"more": jnp.zeros(1)}, opt_at(7), {"step": 7}, "params/more is absent in the file"),
        (params_at(7), params_at(7), {"step": 7}, "opt/.* in the file instead of absent|opt/.* is absent"),
        (params_at(7), opt_at(7), {"step": 8}, "meta is not what was saved"),
    ):
        with pytest.raises(UserError, match=says):
            checkpoint._seal(tmp_path / "c/7", checkpoint_arrays.content_of(params, opt, meta))
    assert checkpoint.verified_steps(tmp_path / "c") == []


def test_a_merge_that_found_nothing_stops_the_run(tmp_path, monkeypatch):
    """Orbax looks for the files of each process with a pattern. Where it finds none it says nothing and commits."""
    write(tmp_path / "c", [1])
    monkeypatch.setattr(epath.Path, "glob", lambda path, pattern: iter(()))
    monkeypatch.setattr(type(epath.Path(tmp_path)), "glob", lambda path, pattern: iter(()))
    with pytest.raises(UserError, match=r"2 was written but .*params/manifest.ocdbt is missing.* resumes from 1"):
        write(tmp_path / "c", [2])
    assert not (tmp_path / "c/2/SHA256SUMS").exists()


# --- Paths with a meaning --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", thorough.but(["lr[1e-3]", "bad\udcffw"], ["lr[1e-3]", r"a\b", "what?", "all*", "bad\udcffw"])
)
def test_a_path_with_a_meaning_is_written_and_read(tmp_path, name):
    folder = tmp_path / name / "checkpoints"
    write(folder, [1, 2])
    assert checkpoint.newest_good(folder, pytest.fail) == 2
    assert_holds(folder, 2)
    params, meta = checkpoint.restore_params(folder)
    np.testing.assert_array_equal(params["half"], params_at(2)["half"])
    assert meta == {"step": 2}
    write(folder, [3])
    os.rename(tmp_path / name, tmp_path / "plain")
    assert_holds(tmp_path / "plain/checkpoints", 3)
    assert checkpoint.verified_steps(tmp_path / "plain/checkpoints") == [1, 2, 3]


def test_a_run_that_was_written_elsewhere_is_read_there(tmp_path):
    write(tmp_path / "plain", [1])
    (tmp_path / "[1]").mkdir()
    os.rename(tmp_path / "plain", tmp_path / "[1]/c[a-z]")
    assert_holds(tmp_path / "[1]/c[a-z]", 1)


# --- No room ---------------------------------------------------------------------------------------------------------


def test_no_room_for_a_checkpoint_is_one_line_that_names_the_whole_ones(tmp_path, capfd):
    """A limit on the size of files stands for a full disk. What there is of the step goes, as it takes up room."""
    folder = tmp_path / "c"
    write(folder, [1, 2])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    values = np.random.default_rng(0).normal(size=(20, 100, 100)).astype(np.float32)
    params = {f"w{number}": jnp.asarray(array) for number, array in enumerate(values)}
    checkpoints = checkpoint.open_checkpoints(folder, 9, 0)

    def save_and_seal():
        checkpoint.save(checkpoints, 3, params, {"mu": params, "nu": params}, {"step": 3})
        checkpoint.seal(checkpoints)

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(UserError) as error:
            save_and_seal()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        checkpoint.finish(checkpoints)
    line = str(error.value)
    assert line.startswith(f"checkpoint: {folder}/3 cannot be written: File too large; ")
    assert line.endswith("whole: 1, 2; the same command resumes from 2")
    assert "\n" not in line
    assert sorted(os.listdir(folder)) == ["1", "2"]
    gc.collect()  # asyncio tells of a failure that nobody has asked for when it is forgotten.
    assert capfd.readouterr() == ("", "")


def test_other_writes_of_a_run_name_the_whole_ones_too(tmp_path):
    write(tmp_path / "c", [4])
    says = r"run cannot be written: No space left on device; .*resumes from 4"
    with pytest.raises(UserError, match=says), checkpoint.naming_good_ones(tmp_path / "c", "run"):
        raise OSError(28, "No space left on device")
    with pytest.raises(ZeroDivisionError), checkpoint.naming_good_ones(tmp_path / "c", "run"):
        print(1 / 0)
