"""The start of one process of several: it finds the others, or says what keeps it from finding them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator

import jax

from bertlite_jax.errors import UserError

HEARTBEAT_SECONDS = 60
"""After this long without a sign of one process JAX ends all of them; `process_failures` is usually faster."""
PATIENCE_SECONDS = 15.0
"""A process that waits longer than this for the others says so, and again after twice the time."""
LOOK_SECONDS = 0.5
NAME_SECONDS = 20.0
"""The name of the first process's host may become known only while that host starts."""


@contextlib.contextmanager
def initialized() -> Iterator[None]:
    """Inside, `jax.distributed` is initialised, as the environment says.

    Raises:
      UserError: the environment is wrong, names no others, or the others did not come.
    """
    count, index = (_number(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    address = os.environ.get("JAX_COORDINATOR_ADDRESS", "")
    if count == 0 or (count is not None and index is not None and index >= count):
        raise UserError(
            f"config: JAX_PROCESS_ID = {index} with JAX_NUM_PROCESSES = {count}; ids are 0 to one less than the number"
        )
    with contextlib.ExitStack() as inside:
        if address:
            _check_address(address)
            if index is not None:
                inside.enter_context(_only_one_here(address, index))
            if index == 0:
                _check_port(address)
        _initialize(address, count, index)
        yield


def _number(name: str) -> int | None:
    text = os.environ.get(name)
    if text and not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UserError(f"config: {name} = {text} is not a number")
    return int(text) if text else None


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port[:9]) < 65536):
        raise UserError(
            f"config: JAX_COORDINATOR_ADDRESS = {address} should be HOST:PORT of the first process, the port from 1 to "
            "65535"
        )
    deadline = time.monotonic() + NAME_SECONDS
    while True:
        try:
            socket.getaddrinfo(host.strip("[]"), int(port))
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"config: JAX_COORDINATOR_ADDRESS = {address}: no host {host} is known here ({error.strerror})"
                ) from error
        time.sleep(1.0)


@contextlib.contextmanager
def _only_one_here(address: str, index: int) -> Iterator[None]:
    """Refuses a second process of the same number on this host. JAX would let both wait for the one that is missing.

    The sign is a socket with a name and no file, which the system removes when the process ends. Only Linux has these.
    """
    with socket.socket(socket.AF_UNIX) as sign:
        if sys.platform == "linux":
            try:
                sign.bind(f"\0bertlite_jax {hashlib.sha256(address.encode()).hexdigest()} {index}")
            except OSError as error:
                raise UserError(
                    f"config: JAX_PROCESS_ID = {index} is taken by another process on this host; each process with "
                    f"JAX_COORDINATOR_ADDRESS = {address} needs one of its own"
                ) from error
        yield


def _check_port(address: str) -> None:
    """Refuses a port on which another program listens. JAX would share it with another JAX, or crash."""
    port = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", address).rpartition(":")[2]
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # What a former job has just closed is free.
        try:
            trial.bind(("", int(port)))
        except OSError as error:
            raise UserError(
                f"config: JAX_COORDINATOR_ADDRESS = {address}: port {port} cannot be used on this host: "
                f"{error.strerror}; name another"
            ) from error


def _initialize(address: str, count: int | None, index: int | None) -> None:
    """Waits for the others in a thread of its own, so that Ctrl-C ends the wait."""
    failures: list[BaseException] = []

    def initialize() -> None:
        try:
            jax.distributed.initialize(
                num_processes=count, process_id=index, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
            )
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=initialize, name="find the other processes", daemon=True)
    thread.start()
    try:
        _wait(thread, address, count, index)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)  # JAX cannot be stopped while it waits, and nothing has been written yet.
    for error in failures:
        if line := _line_of(error):
            raise UserError(line) from error
        raise error


def _wait(thread: threading.Thread, address: str, count: int | None, index: int | None) -> None:
    began, patience = time.monotonic(), PATIENCE_SECONDS
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
        if time.monotonic() - began > patience:
            print(
                f"still waiting for other processes to start{_hint(address, count, index)}", file=sys.stderr, flush=True
            )
            patience *= 2


def _hint(address: str, count: int | None, index: int | None) -> str:
    """What may be wrong, as far as this process can know."""
    if not address:
        return ""
    if index and not _answers(address):
        return f": nobody answers at {address}; start the one with JAX_PROCESS_ID = 0 there, or open the port"
    ids = f"0 to {count - 1}" if count else "its own"
    return f": this is JAX_PROCESS_ID = {index}; each of {ids} is needed once, with JAX_COORDINATOR_ADDRESS = {address}"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def _line_of(error: BaseException) -> str | None:
    """What to print where the user or the network can be the reason."""
    reason = " ".join(str(error).split())
    if isinstance(error, jax.errors.JaxRuntimeError):
        return f"config: the other processes were not found ({reason[:200]})"
    if isinstance(error, ValueError):
        return (
            f"config: run.distributed: {error} Outside of Cloud TPU, Slurm, MPI and Kubernetes set "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        )
    return None
