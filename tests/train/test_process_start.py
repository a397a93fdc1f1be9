"""A process that cannot find the others says why, instead of waiting in silence."""

import os
import pathlib
import socket
import subprocess
import threading
import time

import jax
import pytest
from run_files import hears_ctrl_c

from bertlite_jax.errors import UserError
from bertlite_jax.train import process_start

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def environment(monkeypatch):
    """Sets the three variables, and replaces JAX's own start, which this process must not make."""

    def set_to(address: str = "", count: str = "2", index: str = "1", initialize=lambda **given: None) -> None:
        for name, value in {"COORDINATOR_ADDRESS": address, "NUM_PROCESSES": count, "PROCESS_ID": index}.items():
            monkeypatch.setenv(f"JAX_{name}", value)
        monkeypatch.setattr(jax.distributed, "initialize", initialize)

    monkeypatch.setattr(process_start, "NAME_SECONDS", 0.0)
    return set_to


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"address": "localhost:999999"}, "should be HOST:PORT of the first process, the port from 1 to 65535"),
        ({"address": "localhost:0"}, "should be HOST:PORT"),
        ({"address": "localhost"}, "should be HOST:PORT"),
        ({"address": ":1234"}, "should be HOST:PORT"),
        ({"address": "no-such-host.invalid:1234"}, "no host no-such-host.invalid is known here"),
        ({"count": "two"}, "JAX_NUM_PROCESSES = two is not a number"),
        ({"index": "²"}, "JAX_PROCESS_ID = ² is not a number"),
        ({"index": "-1"}, "JAX_PROCESS_ID = -1 is not a number"),
        ({"count": "9" * 5000}, "is not a number"),
        ({"index": "2"}, "JAX_PROCESS_ID = 2 with JAX_NUM_PROCESSES = 2; ids are 0 to one less"),
        ({"count": "0", "index": ""}, "JAX_NUM_PROCESSES = 0"),
    ],
)
def test_an_environment_that_cannot_be_right_is_refused_at_once(environment, values, says):
    environment(**values)
    with pytest.raises(UserError, match=says) as error, process_start.initialized():
        pass
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("address", ["127.0.0.1:1234", "[::1]:1234", "localhost:65535", ""])
def test_a_right_one_starts(environment, address):
    given = {}
    environment(address, initialize=lambda **values: given.update(values))
    with process_start.initialized():
        assert (given["num_processes"], given["process_id"]) == (2, 1)


def test_a_second_process_of_the_same_number_is_refused_while_the_first_one_lives(environment):
    address = free_address()
    environment(address)
    for _ in range(2):
        with process_start.initialized():
            with pytest.raises(UserError, match="JAX_PROCESS_ID = 1 is taken by another process on this host"):
                process_start.initialized().__enter__()
            environment(address, index="0")
            with process_start.initialized():
                environment(address)


def test_a_wait_is_announced_again_and_again_with_what_may_be_wrong(environment, monkeypatch, capsys):
    monkeypatch.setattr(process_start, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(process_start, "LOOK_SECONDS", 0.02)
    address = free_address()
    environment(address, initialize=lambda **values: time.sleep(0.6))
    with process_start.initialized():
        pass
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert lines[0] == (
        f"still waiting for other processes to start: nobody answers at {address}; start the one with "
        "JAX_PROCESS_ID = 0 there, or open the port"
    )
    environment(address, index="0", initialize=lambda **values: time.sleep(0.2))
    with process_start.initialized():
        pass
    assert capsys.readouterr().err.splitlines()[0] == (
        "still waiting for other processes to start: this is JAX_PROCESS_ID = 0; each of 0 to 1 is needed once, with "
        f"JAX_COORDINATOR_ADDRESS = {address}"
    )


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: Barrier\ntimed out"), UserError, "were not found .DEADLINE_EX"),
        (ValueError("Number of processes must be defined."), UserError, "Outside of Cloud TPU"),
        (KeyError("a fault of ours"), KeyError, "a fault of ours"),
    ],
)
def test_what_jax_raises_there_is_one_line_where_it_can_be_the_users(environment, error, kind, says):
    def initialize(**values):
        raise error

    environment(free_address(), initialize=initialize)
    with pytest.raises(kind, match=says) as found, process_start.initialized():
        pass
    assert kind is KeyError or "\n" not in str(found.value)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_port_in_use_is_refused(environment, family):
    """JAX itself ends with a segmentation fault, or shares the port with another JAX."""
    with socket.socket(family) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("", 0))
        taken.listen()
        address = f"localhost:{taken.getsockname()[1]}"
        environment(address, index="0")
        with pytest.raises(UserError, match=r"port \d+ cannot be used on this host: Address already in use; name") as e:
            process_start.initialized().__enter__()
        assert address in str(e.value)
        environment(address)
        with process_start.initialized():  # Only the first process needs it.
            pass


def test_ctrl_c_ends_the_wait(tmp_path):
    """JAX's own wait would not hear it for five minutes."""
    code = """
import time, jax
from bertlite_jax.train import process_start
jax.distributed.initialize = lambda **given: time.sleep(60)
print("waiting", flush=True)
with process_start.initialized(): pass
"""
    names = {"JAX_COORDINATOR_ADDRESS": free_address(), "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}
    with subprocess.Popen(
        hears_ctrl_c(["-c", code]),
        env=os.environ | names,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        threading.Event().wait(0.5)
        process.send_signal(2)
        assert process.communicate(timeout=20)[1] == "interrupted\n"
    assert process.returncode == 130
