"""One process of several fails or dies: the others end within seconds, with a line that says why."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from bertlite_jax.train import processes

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = """
import os, pathlib, signal, sys, time
from bertlite_jax.config import Data, Optim, Pretrain
from bertlite_jax.train import process_failures, processes

process_failures.BEAT_SECONDS, process_failures.SILENT_SECONDS = 0.2, 4.0
folder = pathlib.Path(sys.argv[1])
with processes.joined(False):
    import jax
    from jax.experimental import multihost_utils
    here = jax.process_index()
    multihost_utils.sync_global_devices("all have started")
    {body}
"""


def run(body: str, folder: pathlib.Path, count: int = 3) -> list[tuple[int, str]]:
    """(exit code, what we print to stderr) of each process that runs `body`; they end by themselves."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    names = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count), "JAX_NUM_CPU_DEVICES": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(body=body), str(folder)],
            env=os.environ | names | {"JAX_PROCESS_ID": str(index)},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    found = [process.communicate(timeout=60)[1] for process in started]
    return [(process.returncode, error) for process, error in zip(started, found, strict=True)]


WAIT_FOR_ALL = "multihost_utils.sync_global_devices('the next step')"


def test_a_users_mistake_that_one_process_finds_ends_all(tmp_path):
    """Here another learning rate. The others wait in a collective; each prints the line, with the code of bad input."""
    body = f"""
    config = Pretrain(optim=Optim(learning_rate=2e-3 if here == 1 else 1e-3), data=Data(read_threads=1 + here))
    processes.check_same_config(config)
    {WAIT_FOR_ALL}"""
    first, second, third = run(body, tmp_path)
    line = (
        "config: not that of the first process: optim.learning_rate: 0.001 -> 0.002; start all with the same command\n"
    )
    assert second == (2, line)
    assert first == third == (2, f"process 1 of 3 failed: {line}")


@pytest.mark.thorough
def test_a_bug_in_the_first_process_is_told_before_it_ends(tmp_path):
    """It keeps the store where the others read the reason. Only its own output has the traceback."""
    body = f"""
    if here == 0:
        [][1]
    {WAIT_FOR_ALL}"""
    first, second, third = run(body, tmp_path)
    assert first[0] == 1
    assert "Traceback" in first[1]
    assert "IndexError" in first[1]
    assert second == third == (1, "process 0 of 3 failed: IndexError: list index out of range\n")


@pytest.mark.thorough
def test_a_killed_process_is_missed(tmp_path):
    body = f"""
    if here == 2:
        (folder / "killed").write_text(str(time.time()))
        os.kill(os.getpid(), signal.SIGKILL)
    {WAIT_FOR_ALL}"""
    first, second, third = run(body, tmp_path)
    assert time.time() - float((tmp_path / "killed").read_text()) < 30
    assert third[0] == -signal.SIGKILL
    for code, error in (first, second):
        assert code == 1
        assert error.startswith(
            "process 2 of 3 has not been heard of for 4 seconds: it was killed, or its host is gone"
        )
        assert error.count("\n") == 1


@pytest.mark.thorough
def test_without_the_first_process_jax_ends_the_others(tmp_path):
    """It is the one that all of them talk to; JAX sees at once that it is gone."""
    body = f"""
    if here == 0:
        (folder / "killed").write_text(str(time.time()))
        os.kill(os.getpid(), signal.SIGKILL)
    {WAIT_FOR_ALL}"""
    _, *others = run(body, tmp_path)
    assert time.time() - float((tmp_path / "killed").read_text()) < 30
    for code, error in others:
        assert code != 0
        assert "the JAX distributed service detected fatal errors" in error


@pytest.mark.thorough
def test_all_leave_together(tmp_path):
    """Nobody is gone before the first process has written its last file."""
    body = """
    if here == 0:
        time.sleep(2)
        (folder / "summary.json").write_text("{{}}")
assert (folder / "summary.json").is_file()"""
    assert run(body.replace("{{}}", "{}"), tmp_path) == [(0, "")] * 3


@pytest.mark.parametrize(
    ("environment", "called_for"),
    [
        ({}, False),
        ({"JAX_COORDINATOR_ADDRESS": "10.0.0.2:1234"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),  # One host with all of its chips.
        ({"TPU_WORKER_HOSTNAMES": "t1k-0,t1k-1,t1k-2,t1k-3"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "SLURM_JOB_ID": "7"}, False),  # Perhaps a notebook there.
    ],
)
def test_the_environment_says_whether_there_are_others(environment, called_for):
    assert processes.is_called_for(environment) is called_for
