"""A loop that is killed or stopped anywhere goes on, and ends as if nothing had been."""

import dataclasses
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import thorough

from bertlite_jax.errors import UserError
from bertlite_jax.jobs.agora import history, rounds


def test_the_same_seed_gives_the_same_history_and_another_one_other_points(loops):
    for name in ("one", "two"):
        loops.run(name)
    assert loops.content("one") == loops.content("two")
    other = dataclasses.replace(loops.config, run=dataclasses.replace(loops.config.run, seed=1))
    loops.run("other", config=other)
    assert loops.points("other") != loops.points("one")


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.thorough
@pytest.mark.parametrize("at", [1, 4, 7])
def test_killed_in_a_model_it_goes_on_with_that_model(at: int, loops, pretended):
    """In the first model, in the middle of the first round, and in the second round."""
    loops.run("whole")
    whole = list(pretended.trained)
    pretended.trained.clear()
    pretended.kill_at = at
    with pytest.raises(pretended.killed):
        loops.run("killed")
    loops.run("killed")
    assert loops.content("killed") == loops.content("whole")
    assert without_times(loops.lines("killed", history.RESULTS)) == without_times(loops.lines("whole", history.RESULTS))
    assert len(pretended.trained) == len(whole)


Step = Callable[..., Any]


@pytest.mark.parametrize("step", thorough.but(["_keep"], ["points.write", "_keep", "history.append"]))
def test_killed_at_the_end_of_a_round_it_trains_nothing_again(
    step: str, loops, pretended, monkeypatch: pytest.MonkeyPatch
):
    """Before and after each of the three things that a round leaves."""
    loops.run("whole")
    trained = len(pretended.trained)
    for when in ("before", "after"):
        pretended.trained.clear()
        with monkeypatch.context() as patch:
            kill_in(patch, step, when, pretended.killed)
            with pytest.raises(pretended.killed):
                loops.run(when)
        loops.run(when)
        assert loops.content(when) == loops.content("whole")
        assert len(pretended.trained) == trained
        assert {path.name for path in (loops.place / when).iterdir()} == {
            path.name for path in (loops.place / "whole").iterdir()
        }


def kill_in(patch: pytest.MonkeyPatch, step: str, when: str, ending: type[Exception]) -> None:
    """Ends the process before or after a step of the first round; of lines, that of the round."""
    owner, _, name = f"rounds.{step}".rpartition(".")
    module = {"rounds": rounds, "rounds.points": rounds.points, "rounds.history": rounds.history}[owner]
    original: Step = getattr(module, name)

    def killed(*given: Any) -> None:
        if name == "append" and isinstance(given[1], history.Trained):
            return original(*given)
        if when == "after":
            original(*given)
        raise ending

    patch.setattr(module, name, killed)


def test_a_model_that_somebody_removed_is_trained_again(loops, pretended):
    """The best of a round that was not closed: only it can say where it is wrong."""
    loops.run("whole")
    pretended.trained.clear()
    pretended.kill_at = 6
    with pytest.raises(pretended.killed):
        loops.run("out")
    shutil.rmtree(loops.place / "out" / "round-001")
    loops.run("out")
    assert loops.content("out") == loops.content("whole")


@pytest.mark.parametrize("at", thorough.but([8], [3, 8]))
def test_it_goes_on_where_the_folder_was_moved(at: int, loops, pretended):
    """No stored place is that of the folder itself, in which the points lie."""
    loops.run("whole")
    pretended.kill_at = at + len(pretended.trained)
    with pytest.raises(pretended.killed):
        loops.run("here")
    (loops.place / "here").rename(loops.place / "there")
    loops.run("there")
    assert loops.content("there") == loops.content("whole")


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("points/round-002.jsonl", r"round-002\.jsonl has 0 points, and by history\.jsonl there are [1-9]\d*; put the"),
        ("best/best", r"out/best is missing, the best model of round 1; put back a copy"),
    ],
)
def test_what_closed_rounds_have_left_is_missed_before_a_model_is_trained(gone: str, said: str, loops, pretended):
    pretended.kill_at = 7
    with pytest.raises(pretended.killed):
        loops.run("out")
    (loops.place / "out" / gone).rename(loops.place / "gone")
    with pytest.raises(UserError, match=said):
        loops.run("out")
    assert len(pretended.trained) == 6
    (loops.place / "gone").rename(loops.place / "out" / gone)
    assert loops.run("out")["ended"] == "no set was left"


def test_a_signal_ends_it_and_the_next_start_goes_on(loops, pretended, monkeypatch, capsys):
    stopped = {"stopped": True, "steps": 2}
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "finetune", lambda *given, **named: stopped)
        assert loops.run("out") == stopped
    assert "agora: stopped by a signal; the same command goes on" in capsys.readouterr().out
    assert not (loops.place / "out/summary.json").exists()
    assert loops.run("out")["ended"] == "no set was left"


def test_a_finished_loop_started_again_trains_nothing(loops, pretended):
    first = loops.run("out")
    count = len(pretended.trained)
    assert loops.run("out") == first
    assert len(pretended.trained) == count
