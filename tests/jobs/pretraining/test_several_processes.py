"""Several processes train one model: the run is that of one process, the first one writes, and all end together."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny
from run_files import caching_environment, lines_of

from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.jobs.pretraining import pretrain
from bertlite_jax.train import checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[3]


pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("compiled_once", "keep_programs")]


@pytest.fixture
def keep_programs(compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started find what those before them compiled."""
    for name, value in caching_environment(compiled, devices=1).items():
        monkeypatch.setenv(name, value)


def config(prepared, devices: int) -> Pretrain:
    """With larger batches at first, which the processes divide among them too."""
    return tiny.pretrain(
        prepared,
        steps=40,
        devices=devices,
        batches=((16, 6),),
        log_every=1,
        eval_every=20,
        checkpoint_every=10,
        tensorboard=True,
    )


def start(
    values: Pretrain, run: pathlib.Path, *extra: str, count: int = 2, devices: int = 2, of_last: tuple[str, ...] = ()
) -> list[subprocess.Popen]:
    """Starts `bertlite pretrain` in processes of `devices` devices each; `of_last`: more arguments of the last one."""
    file = run.parent / "config.py"
    file.write_text(f"from bertlite_jax.config import *\nconfig = {values!r}\n")
    command = ["-m", "bertlite_jax", "pretrain", str(file), "--workdir", str(run), *extra]
    return start_python([command] * (count - 1) + [[*command, *of_last]], devices)


def start_python(commands: list[list[str]], devices: int) -> list[subprocess.Popen]:
    """Starts a process for each command; only the environment says that they belong together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    names = {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(len(commands)),
        "JAX_NUM_CPU_DEVICES": str(devices),
    }
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | names | {"JAX_PROCESS_ID": str(index)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, command in enumerate(commands)
    ]


def wait_for(lines: int, run: pathlib.Path, processes: list[subprocess.Popen]) -> None:
    """Until that many lines are logged, or a process has ended."""
    deadline = time.monotonic() + 200
    while len(lines_of(run)) < lines and time.monotonic() < deadline and processes[0].poll() is None:
        time.sleep(0.01)


def ended(processes: list[subprocess.Popen], codes: list[int]) -> list[tuple[str, str]]:
    """Waits for the processes and checks their exit codes; (our own lines of stdout, stderr) of each."""
    found = [process.communicate(timeout=300) for process in processes]
    found = [(without_gloo(out), err) for out, err in found]
    assert [process.returncode for process in processes] == codes, found
    return found


def without_gloo(out: str) -> str:
    """XLA's library for CPUs prints lines of its own, phrase by phrase from several threads, so they are mixed."""
    phrases = r"\[Gloo\] Rank | is connected to | peer ranks\. Expected number of connected peer ranks is : "
    return "".join(line for line in re.sub(phrases, "", out).splitlines(True) if line.strip(" 0123456789\n"))


def assert_same_run(ours: list[dict], wanted: list[dict]) -> None:
    assert [line["step"] for line in ours] == [line["step"] for line in wanted]
    for name in ("loss", "valid_mlm_loss", "unigram_entropy", "valid_pair_loss"):
        found, right = ([line[name] for line in lines if name in line] for lines in (ours, wanted))
        np.testing.assert_allclose(found, right, atol=1e-5)


STEPS = """
import json, sys
import jax
from bertlite_jax.config import *
from bertlite_jax.data.rows import batches, source
from bertlite_jax.jobs.pretraining.step import make_pretraining
from bertlite_jax.train import processes, sharding, state

config = {config!r}
with processes.joined(False):
    mesh, corpus = sharding.make_mesh(), source.open_source(config.data, "train", 0)
    run = make_pretraining(config, "float32", mesh, corpus.special_ids)
    train_state = state.init_state(run.init_params, run.optimizer, 0, run.layout)
    losses, process = [], (jax.process_index(), jax.process_count())
    for step in range(1, 6):
        batch = batches.batch_at(corpus, step, config.data.batch_rows, *process)
        assert len(batch["rows"]) == config.data.batch_rows // process[1]
        train_state, metrics = run.step(train_state, sharding.put_batch(batch, mesh))
        losses.append(float(metrics["loss"]))
print(json.dumps(losses))
"""


def test_one_process_and_two_compute_the_same_losses(prepared):
    """With four devices in all, and each process building its own rows alone."""
    program = STEPS.format(config=config(prepared, devices=0))
    started = [start_python([["-c", program]] * count, 4 // count) for count in (1, 2)]
    losses = [json.loads(out) for processes in started for out, _ in ended(processes, [0] * len(processes))]
    assert len(losses) == 3
    assert len(losses[0]) == 5
    for found in losses[1:]:
        np.testing.assert_allclose(found, losses[0], atol=1e-5)


def test_two_processes_stop_together_and_end_like_one(prepared, tmp_path):
    """A SIGTERM to the second one saves and ends both; started again they give one process's losses and figures."""
    pretrain.pretrain(config(prepared, devices=4), str(tmp_path / "one"))
    run = tmp_path / "two"
    processes = start(config(prepared, devices=0), run)
    wait_for(3, run, processes)
    processes[1].send_signal(signal.SIGTERM)
    (spoken, _), (silent, _) = ended(processes, [0, 0])
    assert "stopped by a signal after step" in spoken
    assert silent == ""
    step = int(spoken.split("after step ")[1].split(",")[0])
    assert checkpoint.verified_steps(run / "checkpoints")[-1] == step < 40

    (spoken, _), (silent, _) = ended(start(config(prepared, devices=0), run), [0, 0])
    assert f"resuming from step {step}" in spoken
    assert silent == ""
    assert_same_run(lines_of(run), lines_of(tmp_path / "one"))
    assert json.loads((run / "summary.json").read_text())["steps"] == 40


@pytest.mark.slow
def test_four_processes_end_when_one_is_killed_and_resume_when_started_again(prepared, tmp_path):
    """Within a minute and with one line each; then the losses are those of one process with four devices.

    What was logged after the checkpoint and before the kill comes again bit for bit.
    """
    pretrain.pretrain(config(prepared, devices=4), str(tmp_path / "one"))
    run = tmp_path / "four"
    processes = start(config(prepared, devices=0), run, count=4, devices=1)
    wait_for(25, run, processes)
    processes[2].kill()
    killed = time.monotonic()
    said = ended(processes, [1, 1, -signal.SIGKILL, 1])
    assert time.monotonic() - killed < 60
    for number in (0, 1, 3):
        assert said[number][1].startswith("process 2 of 4 has not been heard of")
        assert said[number][1].count("\n") == 1
    before = {line["step"]: line["loss"] for line in lines_of(run) if "loss" in line}
    step = checkpoint.verified_steps(run / "checkpoints")[-1]
    assert step in (10, 20, 30)
    assert step < max(before)

    (spoken, _), *others = ended(start(config(prepared, devices=0), run, count=4, devices=1), [0] * 4)
    assert f"resuming from step {step}" in spoken
    assert others == [("", "")] * 3
    assert_same_run(lines_of(run), lines_of(tmp_path / "one"))
    after = {line["step"]: line["loss"] for line in lines_of(run) if "loss" in line}
    assert before == {number: after[number] for number in before}


def test_an_error_of_one_process_ends_both_in_mid_run(prepared, tmp_path):
    """The second one's copy of the corpus cannot be read; the first one hears of it while it waits for a gradient."""
    copy = tmp_path / "copy"
    shutil.copytree(prepared.corpus, copy)
    (file,) = copy.glob("*train.array_record*")
    content = bytearray(file.read_bytes())
    middle = slice(len(content) // 4, len(content) // 4 + 8000)
    content[middle] = bytes(255 - value for value in content[middle])
    file.write_bytes(content)
    processes = start(config(prepared, devices=0), tmp_path / "two", of_last=("--data.corpus", str(copy)))
    (_, told), (_, own) = ended(processes, [2, 2])
    assert own.startswith(f"corpus: {file}: cannot be read")
    assert "the file is damaged" in own
    assert own.count("\n") == 1
    assert told == f"process 1 of 2 failed: {own}"


@pytest.mark.slow
def test_weights_of_another_run_are_taken_by_all_processes(prepared, tmp_path):
    """`--init` with a longer table of positions, on one device of each process."""
    values = config(prepared, devices=1)
    short = dataclasses.replace(values, run=dataclasses.replace(values.run, steps=4, eval_every=0, batches=()))
    pretrain.pretrain(short, str(tmp_path / "given"))
    longer = dataclasses.replace(short, model=dataclasses.replace(short.model, max_positions=96))
    pretrain.pretrain(longer, str(tmp_path / "one"), init=str(tmp_path / "given"))
    processes = start(longer, tmp_path / "two", "--init", str(tmp_path / "given"))
    (spoken, _), _ = ended(processes, [0, 0])
    assert "rows 0 to 63 from" in spoken
    assert ", 2 x cpu," in spoken
    ours, wanted = ([line["loss"] for line in lines_of(tmp_path / run) if "loss" in line] for run in ("two", "one"))
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_what_the_first_process_refuses_ends_all_of_them(prepared, tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "thesis.tex").write_text("mine")
    found = ended(start(config(prepared, devices=0), tmp_path / "two"), [2, 2])
    assert all("is not empty (thesis.tex)" in error for _, error in found)
    assert os.listdir(tmp_path / "two") == ["thesis.tex"]
