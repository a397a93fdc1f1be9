"""A pretraining run that is killed, stopped or damaged ends with the same bits as one that is left alone."""

import pathlib
import random
import signal
import time

import jax
import numpy as np
import pytest
import tiny
from run_files import Start, lines_of, losses_of, start_with, wait_for

from bertlite_jax.train import checkpoint

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def start(prepared, compiled) -> Start:
    config = tiny.pretrain(prepared, steps=60, checkpoint_every=3, eval_every=0, log_every=1)
    return start_with(config, compiled)


@pytest.fixture(scope="module")
def start_scheduled(prepared, shorter, compiled) -> Start:
    """Everything that a run may change on its way: at 14, 24, 9 and 33, and the mask rate up to step 45."""
    config = tiny.pretrain(prepared, steps=60, checkpoint_every=3, eval_every=0, log_every=1)
    schedules = {"depths": ((1, 14),), "lengths": ((32, 24),), "batches": ((4, 9), (16, 33))}
    return start_with(tiny.scheduled(config, shorter, **schedules), compiled)


def params_of(run: pathlib.Path) -> tuple[dict, dict]:
    return checkpoint.restore_params(run / "checkpoints")


@pytest.fixture(scope="module")
def uninterrupted(start: Start, tmp_path_factory) -> pathlib.Path:
    return run_whole(start, tmp_path_factory.mktemp("whole") / "run")


def run_whole(start: Start, run: pathlib.Path) -> pathlib.Path:
    process = start(run)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return run


def assert_same_run(run: pathlib.Path, whole: pathlib.Path) -> None:
    assert losses_of(run) == losses_of(whole)
    steps = [line["step"] for line in lines_of(run) if "loss" in line]
    assert steps == sorted(set(steps))
    (ours, meta), (wanted, _) = params_of(run), params_of(whole)
    assert meta["step"] == 60
    jax.tree.map(np.testing.assert_array_equal, ours, wanted)


@pytest.mark.parametrize("scheduled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "scheduled"])
def test_killed_three_times_it_ends_with_the_same_bits(scheduled, tmp_path, request):
    """Kill -9 while a checkpoint is being written, and at two random steps: losses and weights are the same."""
    start: Start = request.getfixturevalue("start_scheduled" if scheduled else "start")
    whole = run_whole(start, tmp_path / "whole") if scheduled else request.getfixturevalue("uninterrupted")
    run, rng = tmp_path / "run", random.Random(1)

    def writing() -> bool:
        return any((run / "checkpoints").glob("*.orbax-checkpoint-tmp"))

    def reached(step: int):
        return lambda: max(losses_of(run), default=0) >= step

    for moment in (writing, reached(rng.randint(10, 20)), reached(rng.randint(25, 50))):
        process = start(run)
        wait_for(moment, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(run)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "resuming from step" in output
    assert_same_run(run, whole)


def test_sigterm_saves_and_ends_cleanly(start: Start, tmp_path, uninterrupted):
    """Exit code 0, a line that says so, a checkpoint of that very step, and the same bits in the end."""
    run = tmp_path / "run"
    process = start(run)
    wait_for(lambda: len(losses_of(run)) > 4, process)
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "stopped by a signal after step" in output
    step = int(output.split("after step ")[1].split(",")[0])
    assert checkpoint.verified_steps(run / "checkpoints")[-1] == step < 60
    output, _ = start(run).communicate(timeout=300)
    assert f"resuming from step {step}" in output
    assert_same_run(run, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("apart", [0.0, 0.02, 0.1, 0.5])
def test_two_ctrl_c_end_it_without_a_traceback(start: Start, tmp_path, uninterrupted, apart):
    """The first asks for a checkpoint and the end; whether the second comes in time to interrupt that, or not."""
    run = tmp_path / "run"
    process = start(run)
    wait_for(lambda: len(losses_of(run)) > 4, process)
    process.send_signal(signal.SIGINT)
    time.sleep(apart)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert "Traceback" not in output
    assert "Exception ignored" not in output
    assert (process.returncode, "interrupted" in output) in ((0, False), (130, True)), output
    output, _ = start(run).communicate(timeout=300)
    assert_same_run(run, uninterrupted)


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(start: Start, tmp_path, uninterrupted):
    """One flipped bit; the other kinds of damage are in test_checkpoint.py."""
    run = tmp_path / "run"
    process = start(run)
    wait_for(lambda: checkpoint_is_sealed(run, 9), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    newest = checkpoint.verified_steps(run / "checkpoints")[-1]
    victim = max(
        (run / "checkpoints" / str(newest) / "params").rglob("*"), key=lambda p: p.stat().st_size * p.is_file()
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    output, _ = start(run).communicate(timeout=300)
    assert f"{newest} is damaged" in output
    assert "resuming from step" in output
    assert_same_run(run, uninterrupted)


def checkpoint_is_sealed(run: pathlib.Path, at_least: int) -> bool:
    sums = (run / "checkpoints").glob("*/SHA256SUMS")
    return any(path.parent.name.isdigit() and int(path.parent.name) >= at_least for path in sums)
