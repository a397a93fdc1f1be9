"""A work directory is one job's, whatever its path and however full the disk; its record is that of one run."""

import contextlib
import os
import pathlib
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
import pytest
import tiny
from run_files import caching_environment, lines_of, losses_of

from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining import evaluate, pretrain
from bertlite_jax.jobs.runs import signals
from bertlite_jax.train import checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture
def after_step(monkeypatch) -> Callable[[Callable[[int], None]], None]:
    """Has a function called after each step of a run in this process, which no signal stops."""

    def call(function: Callable[[int], None]) -> None:
        @contextlib.contextmanager
        def stop_signals() -> Iterator[Callable[[int], bool]]:
            yield lambda step: bool(function(step))

        monkeypatch.setattr(signals, "stop_signals", stop_signals)

    return call


@pytest.mark.thorough
@pytest.mark.usefixtures("compiled_once")
def test_a_second_start_touches_nothing_and_an_odd_path_loses_nothing(prepared, tmp_path, trained, after_step):
    """In `lr[1e-3]`, which is a pattern to Orbax; with --overwrite and without it, in mid-run."""
    run, said = tmp_path / "lr[1e-3]" / r"a\b", []

    def second(overwrite: bool) -> None:
        try:
            pretrain.pretrain(tiny.pretrain(prepared), str(run), overwrite=overwrite)
        except UserError as error:
            said.append(str(error))

    def start_again(step: int) -> None:
        if step in (3, 9):
            thread = threading.Thread(target=second, args=(step == 9,))
            thread.start()
            thread.join()

    after_step(start_again)
    summary = pretrain.pretrain(tiny.pretrain(prepared), str(run))
    assert (
        said
        == [
            f"workdir: {run} is in use by another job of this process; wait until it ends, stop it, or name another "
            "--workdir"
        ]
        * 2
    )
    assert losses_of(run) == losses_of(trained)
    assert checkpoint.verified_steps(run / "checkpoints") == [4, 8, 12]
    assert [line["step"] for line in lines_of(run)] == [line["step"] for line in lines_of(trained)]
    assert evaluate.evaluate(str(run), (), None, 8)["valid_mlm_loss"] == summary["valid_mlm_loss"]
    assert not list(run.glob(".*"))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.thorough
@pytest.mark.usefixtures("compiled_once")
def test_a_full_disk_ends_in_a_line_and_the_run_resumes(prepared, tmp_path, trained, after_step):
    """A limit on the size of files stands for the disk; the second checkpoint does not fit."""
    run, before = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step: int) -> None:
        if step == 5:  # The first checkpoint is committed, and sealed after step 6.
            wait_until((run / "checkpoints/4").is_dir)
        if step == 7:
            wait_until((run / "checkpoints/4/SHA256SUMS").is_file)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

    after_step(fill)
    try:
        with pytest.raises(UserError) as error:
            pretrain.pretrain(tiny.pretrain(prepared), str(run))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(error.value).startswith(f"checkpoint: {run}/checkpoints/8 cannot be written: File too large; ")
    assert str(error.value).endswith("whole: 4; the same command resumes from 4")
    assert os.listdir(run / "checkpoints") == ["4"]
    after_step(lambda step: None)
    pretrain.pretrain(tiny.pretrain(prepared), str(run))
    assert losses_of(run) == losses_of(trained)


@pytest.mark.slow
def test_of_twelve_starts_at_random_distances_the_record_is_that_of_one_run(prepared, compiled, tmp_path):
    """Two jobs, every third start with --overwrite, which takes effect only where no other job is at work."""
    config = tiny.pretrain(prepared, steps=60, checkpoint_every=3, eval_every=0, log_every=1)
    file, run, rng = tmp_path / "config.py", tmp_path / "run", random.Random(2)
    file.write_text(f"from bertlite_jax.config import *\nconfig = {config!r}\n")

    def start(folder: pathlib.Path, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "bertlite_jax", "pretrain", str(file), "--workdir", str(folder), *more],
            env=caching_environment(compiled, devices=1),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    alone = start(tmp_path / "alone")
    told = alone.communicate(timeout=300)[0]
    assert alone.returncode == 0, told
    codes = []
    for number in range(6):
        pair = [start(run, *(["--overwrite"] if number % 3 == 2 else []))]
        time.sleep(rng.choice((0.0, rng.uniform(0, 1), rng.uniform(1, 8))))
        pair.append(start(run, *(["--overwrite"] if rng.random() < 0.5 else [])))
        outputs = [process.communicate(timeout=300)[0] for process in pair]
        codes.append([process.returncode for process in pair])
        for code, output in zip(codes[-1], outputs, strict=True):
            assert code in (0, 2), output
            assert "Traceback" not in output
            assert (code == 2) == ("is in use by process" in output), output
        assert 0 in codes[-1]
        steps = [line["step"] for line in lines_of(run) if "loss" in line]
        assert steps == sorted(set(steps))
        assert losses_of(run) == losses_of(tmp_path / "alone")
        assert checkpoint.verified_steps(run / "checkpoints")[-1] == 60
    assert any(2 in pair for pair in codes)
    ours, wanted = (checkpoint.restore_params(folder / "checkpoints")[0] for folder in (run, tmp_path / "alone"))
    jax.tree.map(np.testing.assert_array_equal, ours, wanted)
