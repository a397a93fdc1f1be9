"""A checkpoint is restored exactly, the right ones are kept, and sealing never holds up the loop."""

import logging
import shutil
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import thorough
from checkpoint_examples import assert_holds, assert_same_bits, opt_at, params_at, write

from bertlite_jax.train import checkpoint, checkpoint_sums

# --- Write and read back -------------------------------------------------------------------------------------------


def test_everything_comes_back_bit_for_bit(one_step):
    assert_holds(one_step, 7)


def test_an_opened_folder_is_cleared_of_what_older_code_left(tmp_path):
    (tmp_path / "50.removing" / "params").mkdir(parents=True)
    (tmp_path / "50.SHA256SUMS.tmp").touch()
    (tmp_path / "notes.removing").mkdir()
    checkpoint.finish(checkpoint.open_checkpoints(tmp_path, 1, 0))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.removing"]


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
    thorough.but([(2, 4, [4, 8, 9, 10])], [(1, 0, [10]), (3, 0, [8, 9, 10]), (2, 4, [4, 8, 9, 10]), (1, 5, [5, 10])]),
)
def test_the_newest_are_kept_and_the_multiples(tmp_path, keep_last, keep_every, left):
    write(tmp_path / "c", range(1, 11), keep_last, keep_every)
    assert sorted(int(entry.name) for entry in (tmp_path / "c").iterdir()) == left
    assert checkpoint.verified_steps(tmp_path / "c") == left


def test_an_old_checkpoint_stays_until_the_next_is_sealed(tmp_path, monkeypatch):
    """With keep_last = 1 a kill before the seal must leave the old one."""
    write(tmp_path / "c", [1], keep_last=1)

    def stop(folder, sums):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint_sums, "write_sums", stop)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path / "c", [2], keep_last=1)
    assert checkpoint.verified_steps(tmp_path / "c") == [1]
    lines = []
    assert checkpoint.newest_good(tmp_path / "c", lines.append) == 1
    assert lines == [
        f"checkpoint: {tmp_path}/c/2 was unfinished when the run was stopped and is removed; resuming from 1"
    ]


# --- Sealing in the background ---------------------------------------------------------------------------------------


def test_maybe_seal_never_waits(tmp_path, monkeypatch):
    """While the sums are computed, a call costs next to nothing; the seal is there in the end."""
    real = checkpoint_sums.write_sums

    def slow(folder, sums):
        time.sleep(0.5)
        real(folder, sums)

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
    def stop(folder, sums):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint_sums, "write_sums", stop)
    checkpoints = checkpoint.open_checkpoints(tmp_path / "c", 1, 0)
    checkpoint.save(checkpoints, 1, params_at(1), opt_at(1), {})

    def loop():
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            checkpoint.maybe_seal(checkpoints)
            time.sleep(0.005)

    with pytest.raises(OSError, match="no space left"):
        loop()
    checkpoint.finish(checkpoints)


def test_a_failed_write_is_raised_and_never_sealed(tmp_path, monkeypatch):
    """Orbax raises what went wrong in its thread only once, and then calls the step finished."""
    checkpoints = checkpoint.open_checkpoints(tmp_path / "c", 1, 0)

    def stop(step):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoints.manager(), "_finalize_checkpoint", stop)
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
