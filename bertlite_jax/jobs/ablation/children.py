"""`bertlite` commands in processes of their own: what they run, how they ended, and that they end with this one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files, whole_files
from bertlite_jax.report.ablation.results import DIVERGED, FINISHED

STOPPED, WAITING = "stopped", "waiting"
REFUSED, KILLED, FAILED = "refused", "killed", "failed"
STATUSES = (FINISHED, STOPPED, WAITING, REFUSED, DIVERGED, KILLED, FAILED)
"""How a run stands. Those that end it by themselves: it is done; it saved and ended on a signal, or was interrupted; it
has not begun; the command refused it (exit code 2), which is where memory is short too; its loss did; the system or a
person killed it; its program has a fault."""


class Ended(NamedTuple):
    """How a command ended."""

    status: str
    """One of STATUSES."""
    line: str = ""
    """What it said, where it is not done."""


@dataclasses.dataclass
class Stop:
    """Whether a signal has asked this process to stop, and the children that have to hear of it."""

    wanted: bool = False
    children: list[subprocess.Popen[bytes]] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Inside, SIGTERM and the first Ctrl-C stop all running children, which save; a second Ctrl-C interrupts."""
    stop = Stop()

    def receive(number: int, frame: object) -> None:
        del number, frame
        stop.wanted = True
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        for child in stop.children:
            child.terminate()

    before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def started(
    arguments: Sequence[str], log: pathlib.Path, stop: Stop, cores: Collection[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A `bertlite` command in a process of its own, which is killed if it still runs when the block ends.

    It is in a session of its own, so that Ctrl-C in a terminal reaches only this process, and ends after this one does
    (`host/lifeline`).

    Args:
      arguments: what follows `bertlite`.
      log: file that its output is added to.
      stop: as `stop_signals` yields it.
      cores: numbers of the only ones that it may use; none: all.
    """
    command = [sys.executable, "-m", "bertlite_jax.host.lifeline", *arguments]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    if cores:
        os.sched_setaffinity(process.pid, cores)  # Long before it has read JAX, and started threads.
    stop.children.append(process)
    if stop.wanted:  # The signal came before the child was known.
        process.terminate()
    try:
        yield process
    finally:
        stop.children.remove(process)
        if process.poll() is None:
            process.kill()
        process.communicate()


@contextlib.contextmanager
def running(
    arguments: Sequence[str], log: pathlib.Path, stop: Stop, cores: Collection[int] = ()
) -> Iterator[Callable[[], Ended | None]]:
    """Runs a `bertlite` command. The function that it yields says how the command ended; None while it runs.

    Args:
      arguments: what follows `bertlite`; `--workdir` is among them, and a command that is done leaves `summary.json`
        there.
      log: as for `started`.
      stop: as for `started`.
      cores: as for `started`.
    """
    begin = log.stat().st_size if log.exists() else 0
    workdir = pathlib.Path(arguments[arguments.index("--workdir") + 1])
    with started(arguments, log, stop, cores) as process:

        def how_it_ended() -> Ended | None:
            if (code := process.poll()) is None:
                return None
            with log.open("rb") as output:
                output.seek(begin)
                said = output.read().decode("utf-8", "replace")
            return ended(code, said, (workdir / "summary.json").is_file(), stop.wanted)

        yield how_it_ended


def ended(code: int, said: str, done: bool, was_stopped: bool) -> Ended:
    """What the end of a command means.

    Args:
      code: its exit code; negative: the signal that ended it.
      said: its output.
      done: whether there is a summary.
      was_stopped: whether it was asked to stop.
    """
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    if code == 0 and done:
        return Ended(FINISHED)
    if was_stopped or code in (0, 130, -signal.SIGTERM, -signal.SIGINT):
        return Ended(STOPPED, "stopped by a signal; the same command resumes it")
    if code < 0:
        name = signal.Signals(-code).name
        short = "; the system does that where memory is short" if code == -signal.SIGKILL else ""
        return Ended(KILLED, f"ended by {name}{short}")
    if code == 2:
        return Ended(REFUSED, last)
    if re.match(r"\w+: step \d+: loss ", last):
        return Ended(DIVERGED, last)
    return Ended(FAILED, f"exit code {code}: {last}")


# --- Remembered beside the work directory ----------------------------------------------------------------------------


def remember(workdir: pathlib.Path, ended: Ended) -> None:
    """Writes down how a run ended, where its work directory alone does not tell."""
    file = _file_beside(workdir)
    if ended.status in (FINISHED, STOPPED):
        file.unlink(missing_ok=True)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        whole_files.write_json(file, ended._asdict())


def remembered(workdir: pathlib.Path) -> Ended:
    """How a run stands, by what is on the disk.

    Raises:
      UserError: what is there is damaged.
    """
    if (workdir / "summary.json").is_file():
        return Ended(FINISHED)
    file = _file_beside(workdir)
    if file.is_file():
        values: dict[str, Any] = json_files.read_object(file, "ablate")
        if values.get("status") not in STATUSES or not isinstance(values.get("line"), str):
            raise UserError(f"ablate: {file} is damaged; remove it, and the run is tried again")
        return Ended(values["status"], values["line"])
    if (workdir / "checkpoints").is_dir():
        return Ended(STOPPED, "not finished; the same command resumes it")
    return Ended(WAITING, "not run yet")


def forget(workdir: pathlib.Path) -> None:
    """Lets a run count as one that has not begun; `--overwrite` clears its work directory."""
    (workdir / "summary.json").unlink(missing_ok=True)
    _file_beside(workdir).unlink(missing_ok=True)


def _file_beside(workdir: pathlib.Path) -> pathlib.Path:
    return workdir.with_name(f"{workdir.name}.ended.json")
