"""A checkpoint is restored exactly or not at all, wherever the run was killed and whatever happened to the files."""

import json
import logging
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.train import checkpoint, checkpoint_sums


def params_at(step: int) -> dict:
    """Parameters whose every value tells the step. No two arrays are alike, and none is constant."""
    keys = jax.random.split(jax.random.key(step), 2)
    return {
        "embeddings": {"word": {"embedding": jax.random.normal(keys[0], (64, 16))}},
        "layers": {"ffn": {"up": {"bias": jax.random.normal(keys[1], (1, 32))}}},
        "half": jnp.arange(8, dtype=jnp.bfloat16) + step,
    }


def optimiser() -> optax.GradientTransformation:
    """Nested states, empty states and masked leaves, as a real chain has them."""

    def decays(params):
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.masked(optax.adam(1e-3), decays),
        optax.scale_by_schedule(optax.linear_schedule(1.0, 0.0, 10)),
    )


def opt_at(step: int) -> optax.OptState:
    params = params_at(step)
    return optimiser().update(params, optimiser().init(params), params)[1]


def like(tree, sharding=None):
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def assert_same_bits(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def write(folder, steps, keep_last=100, keep_every=0):
    checkpoints = checkpoint.open_checkpoints(folder, keep_last, keep_every)
    for step in steps:
        checkpoint.save(checkpoints, step, params_at(step), opt_at(step), {"step": step})
    checkpoint.finish(checkpoints)


def assert_holds(folder, step):
    params, opt, meta = checkpoint.restore(folder, step, like(params_at(0)), like(opt_at(0)))
    assert_same_bits(params, params_at(step))
    assert_same_bits(opt, opt_at(step))
    assert meta == {"step": step}


def with_flipped_bit(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(changed)


def flip_a_bit(path: pathlib.Path, bit: int) -> None:
    path.write_bytes(with_flipped_bit(path.read_bytes(), bit))


def array_file(step_folder: pathlib.Path) -> pathlib.Path:
    """The largest file below `params`: one with the numbers in it."""
    return max((p for p in (step_folder / "params").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.fixture(scope="module")
def one_step(tmp_path_factory) -> pathlib.Path:
    """A folder with the sealed step 7; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("one") / "checkpoints"
    write(folder, [7])
    return folder


# --- Write and read back -------------------------------------------------------------------------------------------


def test_everything_comes_back_bit_for_bit(one_step):
    assert_holds(one_step, 7)


def test_from_one_device_to_eight_and_back(tmp_path, one_step):
    """Rows over eight devices where they divide, the rest replicated; then again on one."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def spread(leaf):
        spec = jax.P("data") if leaf.ndim == 2 and leaf.shape[0] % 8 == 0 else jax.P()
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=jax.sharding.NamedSharding(mesh, spec))

    wide = jax.tree.map(spread, (params_at(7), opt_at(7)))
    params, opt, _ = checkpoint.restore(one_step, 7, *wide)
    assert len(params["embeddings"]["word"]["embedding"].sharding.device_set) == 8
    assert params["embeddings"]["word"]["embedding"].addressable_shards[0].data.shape == (8, 16)
    assert_same_bits((params, opt), (params_at(7), opt_at(7)))

    checkpoints = checkpoint.open_checkpoints(tmp_path / "wide", 1, 0)
    checkpoint.save(checkpoints, 7, params, opt, {"step": 7})
    checkpoint.finish(checkpoints)
    assert_holds(tmp_path / "wide", 7)


def test_arrays_may_be_donated_as_soon_as_save_returns(tmp_path):
    """The next step writes into the same memory, while Orbax is still writing the file."""
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0 - 1, tree), donate_argnums=0)
    values = np.random.default_rng(0).normal(size=(2000, 1000)).astype(np.float32)
    params = {"w": jnp.array(values)}
    overwrite({"w": jnp.array(values)})  # Compiled before, so that it runs at once.
    checkpoints = checkpoint.open_checkpoints(tmp_path / "c", 1, 0)
    checkpoint.save(checkpoints, 1, params, {"n": jnp.int32(0)}, {})
    jax.block_until_ready(overwrite(params))
    checkpoint.finish(checkpoints)
    restored, _ = checkpoint.restore_params(tmp_path / "c")
    np.testing.assert_array_equal(restored["w"], values)


def test_parameters_are_read_without_a_model(one_step):
    params, meta = checkpoint.restore_params(one_step)
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(params))
    assert_same_bits(params, params_at(7))
    assert meta == {"step": 7}


def test_the_sums_are_those_of_coreutils(one_step):
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum on this machine")
    done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=one_step / "7", capture_output=True)
    assert done.returncode == 0, done.stderr


def test_nothing_is_printed(tmp_path, capfd):
    write(tmp_path / "c", [1, 2])
    assert_holds(tmp_path / "c", 2)
    checkpoint.restore_params(tmp_path / "c")
    assert capfd.readouterr() == ("", "")


# --- Which are kept ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep_last", "keep_every", "left"),
    [(1, 0, [10]), (3, 0, [8, 9, 10]), (2, 4, [4, 8, 9, 10]), (1, 5, [5, 10])],
)
def test_the_newest_are_kept_and_the_multiples(tmp_path, keep_last, keep_every, left):
    write(tmp_path / "c", range(1, 11), keep_last, keep_every)
    assert sorted(int(entry.name) for entry in (tmp_path / "c").iterdir()) == left
    assert checkpoint.verified_steps(tmp_path / "c") == left


def test_an_old_checkpoint_stays_until_the_next_is_sealed(tmp_path, monkeypatch):
    """With keep_last = 1 a kill before the seal must leave the old one."""
    write(tmp_path / "c", [1], keep_last=1)

    def stop(folder):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint_sums, "write_sums", stop)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path / "c", [2], keep_last=1)
    assert checkpoint.verified_steps(tmp_path / "c") == [1]
    lines = []
    assert checkpoint.newest_good(tmp_path / "c", lines.append) == 1
    assert "2 is damaged (no SHA256SUMS" in lines[0]


# --- Sealing in the background ---------------------------------------------------------------------------------------


def test_maybe_seal_never_waits(tmp_path, monkeypatch):
    """While the sums are computed, a call costs next to nothing; the seal is there in the end."""
    real = checkpoint_sums.write_sums

    def slow(folder):
        time.sleep(0.5)
        real(folder)

    monkeypatch.setattr(checkpoint_sums, "write_sums", slow)
    checkpoints = checkpoint.open_checkpoints(tmp_path / "c", 1, 0)
    checkpoint.save(checkpoints, 1, params_at(1), opt_at(1), {})
    longest, deadline = 0.0, time.monotonic() + 30
    while not (tmp_path / "c/1/SHA256SUMS").exists() and time.monotonic() < deadline:
        began = time.monotonic()
        checkpoint.maybe_seal(checkpoints)
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.005)
    assert checkpoint.verified_steps(tmp_path / "c") == [1]
    assert longest < 0.4
    checkpoint.finish(checkpoints)


def test_what_goes_wrong_in_the_background_is_raised_in_the_loop(tmp_path, monkeypatch):
    def stop(folder):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint_sums, "write_sums", stop)
    checkpoints = checkpoint.open_checkpoints(tmp_path / "c", 1, 0)
    checkpoint.save(checkpoints, 1, params_at(1), opt_at(1), {})
    deadline = time.monotonic() + 30
    with pytest.raises(OSError, match="no space left"):
        while time.monotonic() < deadline:
            checkpoint.maybe_seal(checkpoints)
            time.sleep(0.005)
    checkpoint.finish(checkpoints)


def test_a_failed_write_is_raised_and_never_sealed(tmp_path, monkeypatch):
    """Orbax raises what went wrong in its thread only once, and then calls the step finished."""
    checkpoints = checkpoint.open_checkpoints(tmp_path / "c", 1, 0)

    def stop(step):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoints.manager, "_finalize_checkpoint", stop)
    monkeypatch.setattr(logging.getLogger("absl"), "disabled", True)  # It also prints the traceback.
    checkpoint.save(checkpoints, 1, params_at(1), opt_at(1), {})
    with pytest.raises(OSError, match="no space left"):
        checkpoint.seal(checkpoints)
    checkpoint.finish(checkpoints)
    assert checkpoint.verified_steps(tmp_path / "c") == []


def test_saving_a_step_again_raises(tmp_path):
    """Orbax returns False and saves nothing."""
    checkpoints = checkpoint.open_checkpoints(tmp_path / "c", 3, 0)
    checkpoint.save(checkpoints, 5, params_at(5), opt_at(5), {})
    with pytest.raises(RuntimeError, match=r"step 4 was not saved.*already has step 5"):
        checkpoint.save(checkpoints, 4, params_at(4), opt_at(4), {})
    checkpoint.finish(checkpoints)


# --- Damage ----------------------------------------------------------------------------------------------------------


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
    elif kind == "sums":
        (step_folder / "SHA256SUMS").unlink()
    elif kind == "bare":
        shutil.rmtree(step_folder)
        step_folder.mkdir()
    elif kind == "extra":
        (step_folder / "params/d/zero").write_bytes(b"")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("bit", r"params/.*: SHA-256 differs"),
        ("truncated", r"params/.*: SHA-256 differs"),
        ("file", r"params/.* is missing"),
        ("item", "no params"),
        ("sums", "no SHA256SUMS"),
        ("bare", "no params"),
        ("extra", "params/d/zero is not listed"),
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
    assert lines[0].endswith("going on from 20")
    assert re.search(says, lines[0])
    assert (folder / "30.damaged").is_dir()
    assert_holds(folder, 20)
    write(folder, [25, 30])
    assert checkpoint.verified_steps(folder) == [10, 20, 25, 30]
    assert_holds(folder, 30)


def test_two_roll_backs_of_the_same_step_keep_both_damaged_folders(tmp_path):
    folder = tmp_path / "c"
    write(folder, [10, 20, 30])
    for expected in ("30.damaged", "30.damaged-2", "30.damaged-3"):
        flip_a_bit(array_file(folder / "30"), 99)
        assert checkpoint.newest_good(folder, lambda line: None) == 20
        assert (folder / expected).is_dir()
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
    assert all(line.endswith("going on from 10") for line in lines)


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


# --- Kill ------------------------------------------------------------------------------------------------------------

LOOP = """
import os, pathlib, random, shutil, signal, sys, threading, time
import numpy as np
from bertlite_jax.train import checkpoint

folder, moment, seed = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)

def state(step):
    values = np.random.default_rng(step).normal(size=(4, 50_000)).astype(np.float32)
    return {"w": values}, {"mu": values * 2, "count": np.int32(step)}

step = checkpoint.newest_good(folder, print)
if step is not None:
    params, meta = checkpoint.restore_params(folder, step)
    assert meta == {"step": step} and np.array_equal(params["w"], state(step)[0]["w"])
print("from", step, flush=True)
checkpoints = checkpoint.open_checkpoints(folder, 2, 0)
first = step or 0
if moment == "random":
    threading.Timer(random.Random(seed).uniform(0.2, 0.7), die).start()
for step in range(first + 1, first + 1000):
    if step == first + 3:  # Two checkpoints of this process are whole by now.
        if moment == "write":  # Some files of the step are there, and its folder still has Orbax's temporary name.
            def watch():
                while not any(p.is_file() for p in folder.glob("*tmp/params*/**/*")):
                    pass
                die()
            threading.Thread(target=watch).start()
        if moment == "seal":  # The step is committed and its sums lie beside it.
            os.replace = die
        if moment == "prune":  # The oldest is being removed, half of it is gone.
            shutil.rmtree = lambda path: (os.rename(path / "params", path / "gone"), die())
    params, opt = state(step)
    checkpoint.save(checkpoints, step, params, opt, {"step": step})
    while checkpoints.waiting or checkpoints.sealing:
        checkpoint.maybe_seal(checkpoints)
        time.sleep(0.001)
"""


def test_kill_at_any_moment_and_go_on(tmp_path):
    """SIGKILL during a write, between commit and seal, while an old one is removed, and at random moments.

    The next process finds a step whose content is right and goes on from it, and never loses more than one.
    """
    folder = tmp_path / "checkpoints"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    for seed, moment in enumerate(["write", "seal", "random", "prune", "random", "random"]):
        before = checkpoint.verified_steps(folder)
        command = [sys.executable, "-W", "error", "-c", LOOP, str(folder), moment, str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert done.stderr == ""
        assert f"from {before[-1] if before else None}\n" in done.stdout
        good = checkpoint.verified_steps(folder)
        steps = sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal())
        assert good == steps or good == steps[:-1]  # Only the newest may be unfinished, never one half removed.
        if moment != "random":
            first = before[-1] if before else 0
            assert good[-1] == (first + 3 if moment == "prune" else first + 2)
    assert good[-1] > before[-1]
    assert len(good) <= 3
    lines = []
    step = checkpoint.newest_good(folder, lines.append)
    params, meta = checkpoint.restore_params(folder, step)
    expected = np.random.default_rng(step).normal(size=(4, 50_000)).astype(np.float32)
    assert meta == {"step": step}
    assert params["w"].tobytes() == expected.tobytes()
    # What the killed processes left behind is gone once a checkpoint is saved again.
    write(folder, [step + 1])
    names = {entry.name for entry in folder.iterdir()}
    assert all(name.isdecimal() or ".damaged" in name for name in names), names
    assert json.loads((folder / str(step) / "meta/metadata").read_text()) == {"step": step}
