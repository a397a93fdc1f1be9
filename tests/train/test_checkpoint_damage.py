"""A damaged checkpoint is noticed, named, and never restored."""

import hashlib
import os
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checkpoint_examples import assert_holds, assert_same_bits, like, opt_at, params_at, write

from bertlite_jax.errors import UserError
from bertlite_jax.train import checkpoint, checkpoint_sums


def with_flipped_bit(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(changed)


def flip_a_bit(path: pathlib.Path, bit: int) -> None:
    path.write_bytes(with_flipped_bit(path.read_bytes(), bit))


def array_file(step_folder: pathlib.Path) -> pathlib.Path:
    """The largest file below `params`: one with the numbers in it."""
    return max((p for p in (step_folder / "params").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_any_damage_to_any_file_is_detected(tmp_path, one_step):
    """One flipped bit, the last byte cut off, half of it cut off, deleted: each, for every file, the sums too."""
    files = sorted(p.relative_to(one_step) for p in one_step.rglob("*") if p.is_file())
    assert len(files) > 15
    folder = tmp_path / "c"
    shutil.copytree(one_step, folder)
    random = np.random.default_rng(0)
    tried = 0
    for name in files:
        good = (folder / name).read_bytes()
        damages = [None]
        if good:
            bit = int(random.integers(8 * len(good)))
            damages += [with_flipped_bit(good, bit), good[:-1], good[: len(good) // 2]]
        else:
            damages += [b"\0"]
        for content in damages:
            (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
            assert checkpoint.verified_steps(folder) == [], (name, content)
            (folder / name).write_bytes(good)
            tried += 1
    assert checkpoint.verified_steps(folder) == [7]
    assert tried > 50


@pytest.mark.thorough
def test_the_sums_themselves_cannot_be_damaged_unseen(tmp_path, one_step):
    folder = tmp_path / "c"
    shutil.copytree(one_step, folder)
    sums = folder / "7/SHA256SUMS"
    good = sums.read_bytes()
    for bit in range(0, 8 * len(good), 75):  # 75 and 8 have no common divisor: all eight bits of a byte have a turn.
        flip_a_bit(sums, bit)
        assert checkpoint.verified_steps(folder) == [], bit
        sums.write_bytes(good)
    for end in range(0, len(good), 41):
        sums.write_bytes(good[:end])
        assert checkpoint.verified_steps(folder) == [], end


def damage(kind, step_folder):
    if kind == "bit":
        flip_a_bit(array_file(step_folder), 1001)
    elif kind == "truncated":
        os.truncate(array_file(step_folder), 10)
    elif kind == "file":
        array_file(step_folder).unlink()
    elif kind == "item":
        shutil.rmtree(step_folder / "params")
    elif kind == "copied":
        shutil.rmtree(step_folder)
        shutil.copytree(step_folder.parent / "20", step_folder)
    elif kind == "bare":
        shutil.rmtree(step_folder)
        step_folder.mkdir()
    elif kind == "extra":
        (step_folder / "params/d/zero").write_bytes(b"")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("bit", r"params/.*: SHA-256 differs"),
        pytest.param("truncated", r"params/.*: SHA-256 differs", marks=pytest.mark.thorough),
        ("file", r"params/.* is missing"),
        pytest.param("item", "no params", marks=pytest.mark.thorough),
        pytest.param("copied", "it holds step 20; its folder was copied or renamed", marks=pytest.mark.thorough),
        pytest.param("bare", "no params", marks=pytest.mark.thorough),
        pytest.param("extra", "params/d/zero is not listed", marks=pytest.mark.thorough),
    ],
)
def test_a_damaged_newest_is_named_and_the_run_goes_on_from_the_one_before(tmp_path, kind, says):
    """And can save again, at the same steps: Orbax alone would return False until it is past the damaged one."""
    folder = tmp_path / "c"
    write(folder, [10, 20, 30])
    damage(kind, folder / "30")
    lines = []
    assert checkpoint.newest_good(folder, lines.append) == 20
    assert len(lines) == 1
    assert "\n" not in lines[0]
    assert lines[0].startswith(f"checkpoint: {folder}/30 is damaged (")
    assert lines[0].endswith("resuming from 20")
    assert re.search(says, lines[0])
    assert (folder / "30.damaged").is_dir()
    assert_holds(folder, 20)
    write(folder, [25, 30])
    assert checkpoint.verified_steps(folder) == [10, 20, 25, 30]
    assert_holds(folder, 30)


def test_a_step_without_its_sums_is_unfinished_and_removed(tmp_path):
    """A kill between commit and seal leaves it, of full size. However often that happens, nothing piles up."""
    folder = tmp_path / "c"
    write(folder, [10])
    for step in (11, 12, 13):
        write(folder, [step])
        (folder / str(step) / "SHA256SUMS").unlink()
        lines = []
        assert checkpoint.newest_good(folder, lines.append) == 10
        assert lines == [
            f"checkpoint: {folder}/{step} was unfinished when the run was stopped and is removed; resuming from 10"
        ]
        assert os.listdir(folder) == ["10"]
    assert_holds(folder, 10)


@pytest.mark.thorough
def test_of_damaged_ones_the_last_two_are_kept(tmp_path):
    folder = tmp_path / "c"
    write(folder, [10, 20, 30])
    (folder / "9.damaged.txt").touch()  # Not one of ours.
    aside = []
    for expected in ("30.damaged", "30.damaged-2", "30.damaged-3", "30.damaged"):
        flip_a_bit(array_file(folder / "30"), 99)
        assert checkpoint.newest_good(folder, lambda line: None) == 20
        aside = [*aside, expected][-2:]
        assert {path.name for path in folder.glob("*.damaged*")} == {*aside, "9.damaged.txt"}
        write(folder, [30])
        assert_holds(folder, 30)


def test_several_damaged_ones_are_all_named(tmp_path):
    folder = tmp_path / "c"
    write(folder, [10, 20, 30])
    flip_a_bit(array_file(folder / "30"), 5)
    shutil.rmtree(folder / "20/opt")
    lines = []
    assert checkpoint.newest_good(folder, lines.append) == 10
    assert [line.split()[1] for line in lines] == [f"{folder}/30", f"{folder}/20"]
    assert all(line.endswith("resuming from 10") for line in lines)


def test_reading_weights_renames_nothing(tmp_path):
    """Somebody may look at a run that is going on."""
    folder = tmp_path / "c"
    write(folder, [10, 20])
    flip_a_bit(array_file(folder / "20"), 5)
    lines = []
    params, meta = checkpoint.restore_params(folder, log=lines.append)
    assert meta == {"step": 10}
    assert lines[0].endswith("using 10")
    assert_same_bits(params, params_at(10))
    assert sorted(entry.name for entry in folder.iterdir()) == ["10", "20"]


# --- What a user is told ---------------------------------------------------------------------------------------------


def test_no_checkpoint_is_no_error_for_a_new_run(tmp_path):
    assert checkpoint.newest_good(tmp_path / "c", pytest.fail) is None
    assert not (tmp_path / "c").exists()


def test_a_run_killed_in_its_first_write_starts_again(tmp_path):
    write(tmp_path / "c", [1])
    (tmp_path / "c/1/SHA256SUMS").unlink()
    lines = []
    assert checkpoint.newest_good(tmp_path / "c", lines.append) is None
    assert lines[0].endswith("starting at step 0")
    write(tmp_path / "c", [1])
    assert_holds(tmp_path / "c", 1)


def test_several_without_sums_are_no_kill_and_are_left_alone(tmp_path):
    """A copy of a run that left the sums out: nothing of it may be removed."""
    folder = tmp_path / "c"
    write(folder, [1, 2])
    for step in "12":
        (folder / step / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match=r"every checkpoint is damaged: 2 \(no SHA256SUMS"):
        checkpoint.newest_good(folder, pytest.fail)
    assert sorted(os.listdir(folder)) == ["1", "2"]


def test_a_checkpoint_that_may_not_be_read_is_not_taken_for_damaged(tmp_path, monkeypatch):
    """Root reads everything, so the refusal is a pretended one."""
    write(tmp_path / "c", [1, 2])

    def refuse(stream, digest):
        raise PermissionError(13, "Permission denied", stream.name)

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    with pytest.raises(UserError, match=r"c/2/.* cannot be read: Permission denied; it may be whole"):
        checkpoint.newest_good(tmp_path / "c", pytest.fail)
    assert sorted(os.listdir(tmp_path / "c")) == ["1", "2"]


def test_a_step_that_a_live_run_removes_while_it_is_read_is_no_error(tmp_path, monkeypatch):
    write(tmp_path / "c", [1])
    real, calls = checkpoint_sums.newest_whole, []

    def and_meanwhile(folder):
        found = real(folder)
        if not calls:
            write(folder, [2], keep_last=1)
        calls.append(found[0])
        return found

    monkeypatch.setattr(checkpoint_sums, "newest_whole", and_meanwhile)
    assert checkpoint.restore_params(tmp_path / "c", log=pytest.fail)[1] == {"step": 2}
    assert calls == [1, 2]


def test_a_run_that_writes_its_first_checkpoint_has_none_yet(tmp_path):
    write(tmp_path / "c", [3])
    (tmp_path / "c/3/SHA256SUMS").unlink()
    with pytest.raises(UserError, match="c holds no finished checkpoint yet, only the unfinished 3"):
        checkpoint.restore_params(tmp_path / "c")


def test_checkpoints_on_a_disk_that_is_not_mounted_are_no_new_run(tmp_path):
    """Its record would be cut to step 0 before the first checkpoint cannot be written."""
    (tmp_path / "c").symlink_to("/unmounted/c")
    with pytest.raises(UserError, match=r"c is a link to /unmounted/c, which does not exist; put it back, or start"):
        checkpoint.newest_good(tmp_path / "c", pytest.fail)
    (tmp_path / "d").write_text("")
    with pytest.raises(UserError, match=r"d is no folder; put it back"):
        checkpoint.newest_good(tmp_path / "d", pytest.fail)


def test_all_damaged_is_refused_and_lists_them(tmp_path):
    """A long run must not silently begin at zero; asked twice, it answers the same."""
    folder = tmp_path / "c"
    write(folder, [1, 2])
    flip_a_bit(array_file(folder / "1"), 5)
    shutil.rmtree(folder / "2/meta")
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"every checkpoint is damaged: 2 \(no meta\), 1 \(params/.* differs\)"
        ) as e:
            checkpoint.newest_good(folder, pytest.fail)
        assert "\n" not in str(e.value)
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        checkpoint.restore_params(folder)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda folder: checkpoint.restore_params(folder / "absent"), "absent holds no checkpoint"),
        (lambda folder: checkpoint.restore_params(folder, 8), "8 does not exist; there are 7"),
        (lambda folder: checkpoint.restore(folder, 8, {}, {}), "8 does not exist; there are 7"),
        (lambda folder: checkpoint.restore(folder / "absent", 8, {}, {}), "8 does not exist; there is none"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_one_line(one_step, call, says):
    with pytest.raises(UserError, match=says) as e:
        call(one_step)
    assert str(e.value).startswith("checkpoint: ")
    assert "\n" not in str(e.value)


def test_a_damaged_checkpoint_is_never_restored(tmp_path, capfd):
    """And its refusal is a line, where Orbax would print hundreds."""
    write(tmp_path / "c", [7])
    flip_a_bit(array_file(tmp_path / "c/7"), 5)
    with pytest.raises(UserError, match="7 is damaged"):
        checkpoint.restore(tmp_path / "c", 7, like(params_at(7)), like(opt_at(7)))
    with pytest.raises(UserError, match="7 is damaged"):
        checkpoint.restore_params(tmp_path / "c", 7)
    assert capfd.readouterr() == ("", "")


def test_other_shapes_dtypes_and_names_are_refused(one_step):
    """Orbax alone casts float32 to bfloat16 without a word."""

    def refused(change, says):
        params = like(params_at(7))
        with pytest.raises(UserError, match=says):
            checkpoint.restore(one_step, 7, change(params), like(opt_at(7)))

    cast = jax.ShapeDtypeStruct((64, 16), jnp.bfloat16)
    short = jax.ShapeDtypeStruct((64, 8), jnp.float32)
    name = "params/embeddings/word/embedding"
    there = rf"{name} is float32 \[64, 16\] in the file"
    refused(lambda p: p | {"embeddings": {"word": {"embedding": cast}}}, rf"{there}, but bfloat16 \[64, 16\]")
    refused(lambda p: p | {"embeddings": {"word": {"embedding": short}}}, rf"{there}, but float32 \[64, 8\]")
    refused(lambda p: {k: v for k, v in p.items() if k != "embeddings"}, f"{there}, but absent")
    refused(lambda p: p | {"pooler": short}, r"params/pooler is absent in the file, but float32 \[64, 8\]")
    with pytest.raises(UserError, match=r"opt/.* is absent in the file"):
        checkpoint.restore(one_step, 7, like(params_at(7)), like(optax.adam(1e-3).init(params_at(7))))
