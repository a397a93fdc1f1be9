"""Trackers follow metrics.jsonl: each line is sent once, however often the run or a tracker is interrupted.

The file decides. For each tracker a thread reads the lines that were added, and sends what the record lacks of them.
When it opens the record, at a start and after each failure, it asks for the last step of every figure there, and reads
the file from its beginning. So a run that resumes at a checkpoint does not send again what it had sent after it, and
what a tracker missed while it was away, or while nobody had asked for it, follows in order.

What a record has of a step stays: after a resume, its speeds are those of the process that computed the step first.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from bertlite_jax.host.retry import first_line, without_passwords
from bertlite_jax.report.run.tags import tagged
from bertlite_jax.report.trackers.record import Record

FIRST_WAIT_SECONDS = 1.0
"""Before a tracker that failed is tried again. It doubles up to LONGEST_WAIT_SECONDS."""
LONGEST_WAIT_SECONDS = 60.0
LEAVING_SECONDS = 30.0
"""At the end of a run, a tracker that takes nothing for so long is given up. Nothing is lost: the next start, or
`bertlite report RUN --track`, sends the rest."""


@dataclasses.dataclass
class Follower:
    """A tracker that follows a run, and how far it is."""

    tracker: str
    """Its name, for messages."""
    file: pathlib.Path
    """metrics.jsonl, which only grows meanwhile."""
    open_record: Callable[[], Record]
    """Called in the thread, and again after each failure; may raise anything."""
    artifact: pathlib.Path | None = None
    """A file that follows the last line."""
    news: threading.Event = dataclasses.field(default_factory=threading.Event)
    """Set when the file has grown, and when the run ends."""
    leaving: threading.Event = dataclasses.field(default_factory=threading.Event)
    """Set when the run ends."""
    given_up: threading.Event = dataclasses.field(default_factory=threading.Event)
    run_failed: bool = False
    last: dict[str, int] = dataclasses.field(default_factory=dict)
    """The last step that the record has of each figure, as far as is known."""
    sent: int = 0
    """Lines, and the artifact."""
    closed: bool = False
    """Whether the record was closed, with everything in it."""
    failures: int = 0
    away: bool = False
    """Whether it has failed and taken nothing since."""
    reason: str = "it does not answer"
    """Of the last failure."""
    thread: threading.Thread | None = None


def follow(follower: Follower) -> Follower:
    """Begins to send the lines of a run. Says when the tracker fails, and when it is back."""
    follower.news.set()
    # A daemon: where a library waits for its server without end, the job ends all the same.
    name = f"send to {follower.tracker}"
    follower.thread = threading.Thread(target=_send_until_the_end, args=(follower,), name=name, daemon=True)
    follower.thread.start()
    return follower


def leave(followers: Sequence[Follower], run_failed: bool = False, seconds: float | None = None) -> None:
    """Waits until everything is sent, as long as something moves, and says what is missing.

    Args:
      followers: of a file that does not grow any more.
      run_failed: what the records say about the end of the run.
      seconds: without anything sent, after which a tracker is given up; LEAVING_SECONDS if not given.
    """
    for follower in followers:
        follower.run_failed = run_failed
        follower.leaving.set()
        follower.news.set()
    for follower in followers:
        _wait(follower, seconds or LEAVING_SECONDS)


def _wait(follower: Follower, seconds: float) -> None:
    thread, before = follower.thread, -1
    assert thread is not None
    while thread.is_alive() and follower.sent > before:
        before = follower.sent
        thread.join(seconds)
    follower.given_up.set()
    name, run = follower.tracker, shlex.quote(str(follower.file.parent))
    lines = sum(1 for step, figures, _ in _lines(follower.file, 0) if _beyond(follower.last, step, figures))
    missing = [f"{lines} lines of {follower.file.name}"] if lines else []
    missing += [follower.artifact.name] if follower.artifact else []
    if missing:
        print(
            f"track: {name} lacks {' and '.join(missing)} ({follower.reason}; {follower.failures} failures); "
            f"`bertlite report {run} --track` sends what is missing"
        )
    elif not follower.closed:
        print(
            f"track: {name} was sent everything, but has not confirmed it ({follower.reason}; {follower.failures} "
            f"failures); `bertlite report {run} --track` sends what is missing"
        )
    elif follower.failures:
        print(f"track: {name} failed {follower.failures} times, and has everything now")


def _send_until_the_end(follower: Follower) -> None:
    record, place, wait = None, 0, FIRST_WAIT_SECONDS
    while not follower.given_up.is_set():
        follower.news.wait()
        follower.news.clear()
        ends = follower.leaving.is_set()  # Asked before the file is read, which does not grow after that.
        try:
            if record is None:
                record, place = follower.open_record(), 0
                follower.last = dict(record.last)
                if not follower.failures:
                    print(f"track: {without_passwords(record.where)}")
            place = _send_lines(follower, record, place)
            if follower.given_up.is_set():  # Another process may be at work on the record by now.
                return
            if ends:
                _end(follower, record)
                return
            wait = FIRST_WAIT_SECONDS
            _note_success(follower)
        except Exception as error:  # Whatever happens to a tracker, the run goes on. It is counted and said.
            _note_failure(follower, error)
            record = None
            if not follower.leaving.wait(wait):
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)
            else:
                follower.given_up.wait(FIRST_WAIT_SECONDS)
            follower.news.set()


def _send_lines(follower: Follower, record: Record, place: int) -> int:
    """Sends what the record lacks of the lines from a place of the file on; returns the place after them."""
    for step, figures, after in _lines(follower.file, place):
        lacking = _beyond(follower.last, step, figures)
        if lacking and not follower.given_up.is_set():
            record.send(step, lacking)
            follower.last |= dict.fromkeys(lacking, step)
            follower.sent += 1
        place = after
    return place


def _end(follower: Follower, record: Record) -> None:
    if follower.artifact is not None:
        record.artifact(follower.artifact)
        follower.artifact = None
        follower.sent += 1
    record.close(follower.run_failed)
    follower.closed = True


def _lines(file: pathlib.Path, place: int) -> Iterator[tuple[int, dict[str, float], int]]:
    """Step, figures, and the place after it, of each whole line from a place on."""
    with file.open("rb") as stream:
        stream.seek(place)
        content = stream.read()
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return
        place += len(line)
        values = json.loads(line)
        yield values.pop("step"), tagged(values), place


def _beyond(last: Mapping[str, int], step: int, figures: Mapping[str, float]) -> dict[str, float]:
    """The figures of a step whose last step in the record is an earlier one."""
    return {name: value for name, value in figures.items() if step > last.get(name, -1)}


def _note_failure(follower: Follower, error: Exception) -> None:
    follower.failures += 1
    follower.reason = first_line(error)
    if not follower.away:
        print(f"track: {follower.tracker}: {follower.reason}; the run goes on, and what is missing is sent later")
    follower.away = True


def _note_success(follower: Follower) -> None:
    if follower.away:
        print(f"track: {follower.tracker} is back")
    follower.away = False
