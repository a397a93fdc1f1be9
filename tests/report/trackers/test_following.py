"""A record has each step of each figure once and in order, whatever happens to the run and to the tracker."""

import json
import pathlib
import threading
import time
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlite_jax.report.run import metrics
from bertlite_jax.report.trackers import following
from bertlite_jax.report.trackers.record import Record


class Tracker:
    """A tracker in memory, which may fail at any call, before or after it has taken the figures."""

    def __init__(self, failures: Mapping[int, str] = {}):
        self.failures = dict(failures)
        self.calls = 0
        self.opened = 0
        self.rows: list[tuple[str, int, float]] = []
        self.artifacts: list[str] = []
        self.ends: list[bool] = []

    def call(self, take: Callable[[], None]) -> None:
        self.calls += 1
        fault = self.failures.get(self.calls)
        if fault == "before":
            raise ConnectionError("refused")
        take()
        if fault == "after":
            raise TimeoutError("no answer")

    def open_record(self) -> Record:
        self.opened += 1
        self.call(lambda: None)
        last = {name: step for name, step, _ in self.rows}

        def send(step: int, figures: Mapping[str, float]) -> None:
            self.call(lambda: self.rows.extend((name, step, value) for name, value in figures.items()))

        def artifact(path: pathlib.Path) -> None:
            self.call(lambda: self.artifacts.append(path.name))

        return Record(
            "a tracker in memory", last, send, artifact, lambda failed: self.call(lambda: self.ends.append(failed))
        )


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker that failed is tried again at once."""
    monkeypatch.setattr(following, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(following, "LONGEST_WAIT_SECONDS", 0.002)


def train(run: pathlib.Path, tracker: Tracker, start: int, end: int, ends_well: bool = True) -> None:
    """Writes the lines of the steps after `start`, with an evaluation at each fourth step."""
    file = run / "metrics.jsonl"
    lines = metrics.read_lines(file) if file.exists() else []
    file.write_text("".join(json.dumps(line) + "\n" for line in lines if line["step"] <= start))
    try:
        with metrics.open_writer(run, False, start + 1, {"memory": tracker.open_record}) as writer:
            for step in range(start + 1, end + 1):
                metrics.write(writer, step, {"loss": 1 / step, "bad": float("nan"), "mfu": None})
                if step % 4 == 0:
                    metrics.write(writer, step, {"valid_loss": 2 / step})
            if not ends_well:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass


def expected(end: int) -> list[tuple[str, int, float]]:
    rows = []
    for step in range(1, end + 1):
        rows.append(("train/loss", step, 1 / step))
        if step % 4 == 0:
            rows.append(("valid/loss", step, 2 / step))
    return rows


def test_each_line_is_sent_and_the_record_is_closed(tmp_path):
    tracker = Tracker()
    train(tmp_path, tracker, 0, 9)
    assert tracker.rows == expected(9)
    assert tracker.ends == [False]


def test_a_run_that_fails_is_told_from_one_that_ends(tmp_path):
    tracker = Tracker()
    train(tmp_path, tracker, 0, 3, ends_well=False)
    assert tracker.rows == expected(3)
    assert tracker.ends == [True]


def test_what_was_sent_after_the_checkpoint_is_not_sent_again(tmp_path):
    """The first process got to step 9 and its last checkpoint is that of step 5."""
    tracker = Tracker()
    train(tmp_path, tracker, 0, 9)
    train(tmp_path, tracker, 5, 12)
    assert tracker.rows == expected(12)


def test_a_tracker_that_joins_later_gets_the_steps_before(tmp_path):
    first, second = Tracker(), Tracker()
    train(tmp_path, first, 0, 8)
    train(tmp_path, second, 8, 10)
    assert second.rows == expected(10)


FAULTS = st.dictionaries(st.integers(1, 40), st.sampled_from(("before", "after")), max_size=12)


@settings(max_examples=40, deadline=None)
@given(FAULTS, st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), max_size=4))
def test_whatever_fails_and_wherever_the_run_resumes_each_step_is_there_once(tmp_path_factory, faults, resumes):
    """`resumes`: back to a checkpoint, and on for so many steps. A call may fail after the tracker has taken it."""
    run, tracker, at = tmp_path_factory.mktemp("run"), Tracker(faults), 6
    train(run, tracker, 0, at)
    furthest = at
    for back, forth in resumes:
        start = max(at - back, 0)
        at = start + forth
        train(run, tracker, start, at)
        furthest = max(furthest, at)
    assert tracker.rows == expected(furthest)


def test_an_outage_is_said_once_and_counted(tmp_path, capsys):
    tracker = Tracker({call: "before" for call in range(4, 9)})
    train(tmp_path, tracker, 0, 10)
    assert tracker.rows == expected(10)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "track: a tracker in memory"
    assert said[1] == "track: memory: refused; the run goes on, and what is missing is sent later"
    assert said[-1] == "track: memory failed 5 times, and has everything now"
    assert sum("refused" in line for line in said) == 1


def test_a_tracker_that_is_never_there_does_not_keep_the_run_and_what_it_lacks_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(following, "LEAVING_SECONDS", 0.2)
    tracker = Tracker({call: "before" for call in range(1, 10_000)})
    train(tmp_path, tracker, 0, 6)
    assert tracker.rows == []
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("track: memory lacks 7 lines of metrics.jsonl (refused; ")
    assert last.endswith(f"`bertlite report {tmp_path} --track` sends what is missing")
    tracker.failures.clear()
    train(tmp_path, tracker, 6, 6)
    assert tracker.rows == expected(6)


def test_a_tracker_that_hangs_does_not_keep_the_run(tmp_path, capsys, monkeypatch):
    """And when it comes to itself, it gets no more lines: another process may be sending them by then."""
    monkeypatch.setattr(following, "LEAVING_SECONDS", 0.1)
    tracker, hangs = Tracker(), threading.Event()
    opens = tracker.open_record

    def open_later() -> Record:
        hangs.wait(100)
        return opens()

    monkeypatch.setattr(tracker, "open_record", open_later)
    began = time.monotonic()
    train(tmp_path, tracker, 0, 3)
    assert time.monotonic() - began < 50
    assert "lacks 3 lines of metrics.jsonl (it does not answer; 0 failures)" in capsys.readouterr().out
    hangs.set()
    for thread in threading.enumerate():
        if thread.name == "send to memory":
            thread.join(30)
    assert tracker.rows == []


def test_a_record_that_does_not_close_is_not_said_to_be_whole(tmp_path, capsys, monkeypatch):
    """A tracker may take lines at once and upload them later, as W&B does: only the end tells whether it has them."""
    monkeypatch.setattr(following, "LEAVING_SECONDS", 0.2)
    tracker = Tracker({call: "before" for call in range(5, 10_000)})
    train(tmp_path, tracker, 0, 3)
    assert tracker.rows == expected(3)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("track: memory was sent everything, but has not confirmed it (refused; ")
    assert last.endswith(f"`bertlite report {tmp_path} --track` sends what is missing")


def test_passwords_in_a_server_address_are_not_printed(tmp_path, capsys, monkeypatch):
    """MLflow takes its server's password in the address, and its errors repeat the address."""
    monkeypatch.setattr(following, "LEAVING_SECONDS", 0.2)
    tracker, address = Tracker(), "http://me:secret@host:5000"

    def open_record() -> Record:
        if tracker.opened:
            raise ConnectionError(f"{address}/api does not answer")
        return tracker.open_record()._replace(where=f"a tracker at {address}", send=lambda step, figures: 1 / 0)

    with metrics.open_writer(tmp_path, False, 1, {"memory": open_record}) as writer:
        metrics.write(writer, 1, {"loss": 1.0})
    said = capsys.readouterr().out
    assert "track: a tracker at http://host:5000\n" in said
    assert "(http://host:5000/api does not answer; " in said
    assert "secret" not in said


def test_a_file_follows_the_last_line(tmp_path):
    tracker = Tracker({3: "after", 6: "before"})
    train(tmp_path, Tracker(), 0, 2)
    page = tmp_path / "report.html"
    follower = following.Follower("memory", tmp_path / "metrics.jsonl", tracker.open_record, page)
    following.leave([following.follow(follower)])
    assert tracker.rows == expected(2)
    assert tracker.artifacts == ["report.html"]
    assert tracker.ends == [False]
