"""Which run of a grid begins when, on which cores; the runs are pretended, and take as long as the test says."""

import contextlib
import os
import pathlib

import pytest

from bertlite_jax.host import cpu
from bertlite_jax.jobs.ablation import children, turns
from bertlite_jax.jobs.ablation.children import Ended


def run_of(place: pathlib.Path, name: str, after: str = "", problem: str = "") -> turns.Run:
    folder = place / name
    return turns.Run(name, name, folder, folder, [name], place / after if after else None, None, {}, {}, problem)


class Clock:
    """Pretended runs. Each takes so many looks; `events` has what began on which cores and what ended."""

    def __init__(self, looks: dict[str, int], monkeypatch):
        self.looks, self.events, self.stop, self.stop_after = looks, [], children.Stop(), ""
        monkeypatch.setattr(children, "running", self.running)
        monkeypatch.setattr(turns, "_LOOK_SECONDS", 0.0)

    @contextlib.contextmanager
    def running(self, arguments, log, stop, cores=()):
        name, left = arguments[0], self.looks[arguments[0]]
        self.events.append(("begins", name, sorted(cores)))

        def how_it_ended():
            nonlocal left
            left -= 1
            if left > 0 and not stop.wanted:
                return None
            self.events.append(("ends", name))
            log.mkdir()
            if not stop.wanted:
                (log / "summary.json").write_text("{}")
            stop.wanted |= name == self.stop_after
            return Ended("stopped" if left > 0 else "finished")

        yield how_it_ended

    def take(self, todo, shares) -> list[int]:
        return [left for left, _ in turns.take(todo, False, self.stop, shares)]


TWO = [frozenset({0}), frozenset({1})]


def test_two_at_once_each_on_its_core_and_the_next_takes_the_one_that_is_free(tmp_path, monkeypatch):
    clock = Clock({"a": 3, "b": 1, "c": 1}, monkeypatch)
    assert clock.take([run_of(tmp_path, name) for name in "abc"], TWO) == [2, 1, 0]
    assert clock.events == [
        ("begins", "a", [0]),
        ("begins", "b", [1]),
        ("ends", "b"),
        ("begins", "c", [1]),
        ("ends", "c"),
        ("ends", "a"),
    ]


def test_one_at_a_time_has_all_cores_and_the_order_of_the_grid(tmp_path, monkeypatch):
    clock = Clock({"a": 2, "b": 1}, monkeypatch)
    assert clock.take([run_of(tmp_path, name) for name in "ab"], [frozenset()]) == [1, 0]
    assert clock.events == [("begins", "a", []), ("ends", "a"), ("begins", "b", []), ("ends", "b")]


def test_a_task_waits_for_its_pretraining_and_others_go_before_it(tmp_path, monkeypatch):
    clock = Clock({"a": 2, "a-task": 1, "b": 3}, monkeypatch)
    clock.take([run_of(tmp_path, "a"), run_of(tmp_path, "a-task", after="a"), run_of(tmp_path, "b")], TWO)
    assert [event[:2] for event in clock.events] == [
        ("begins", "a"),
        ("begins", "b"),
        ("ends", "a"),
        ("begins", "a-task"),
        ("ends", "b"),
        ("ends", "a-task"),
    ]


def test_after_a_signal_nothing_begins_and_what_runs_is_waited_for(tmp_path, monkeypatch):
    clock = Clock({"a": 1, "b": 9, "c": 1}, monkeypatch)
    clock.stop_after = "a"
    clock.take([run_of(tmp_path, name) for name in "abc"], TWO)
    assert [event[:2] for event in clock.events] == [("begins", "a"), ("begins", "b"), ("ends", "a"), ("ends", "b")]
    assert children.remembered(tmp_path / "c").status == "waiting"


def test_a_run_with_a_problem_is_told_of_and_takes_no_turn(tmp_path, monkeypatch):
    clock = Clock({"b": 1}, monkeypatch)
    assert clock.take([run_of(tmp_path, "a", problem="too slow"), run_of(tmp_path, "b")], TWO) == [0]
    assert children.remembered(tmp_path / "a") == Ended("refused", "too slow")


def test_shares_are_all_cores_once():
    shares = cpu.shares(1)
    assert shares == [frozenset().union(*cpu.shares(cpu.cores()))]
    assert all(len(share) == 1 for share in cpu.shares(cpu.cores()))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not keep processes to cores")
def test_a_process_sees_no_other_cores_than_its_share(tmp_path):
    """Programs choose their number of threads by that."""
    (share, *_) = cpu.shares(cpu.cores())
    with children.started(["recipes"], tmp_path / "log", children.Stop(), share) as process:
        seen = os.sched_getaffinity(process.pid)
    assert seen == share
