"""The loop as its user meets it: rounds end, nothing leaks, kills change nothing, and what cannot work is refused.

Models are pretended, so that a loop takes a moment; `test_agora.py` has real ones.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from pretended_tuning import Killed, Pretended, write_task
from toy_task import recipe, write_csv, write_jsonl

from bertlite_jax.config.agora.settings import Agora
from bertlite_jax.config.finetune import Finetune
from bertlite_jax.data import tasks
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.jobs.agora import agora, ground, history, leaks, mistakes, plan, rounds
from bertlite_jax.jobs.answering import inputs

SETTINGS = Agora(
    learning_rates=(1e-4, 5e-5, 2e-5), batches=(8,), seeds=(0, 1), transforms=("deletion", "swap"), replays=0
)


def by_rate(config: Finetune, points: int) -> float:
    """The second rate is the best, the second seed is a little better, and points help a little."""
    of_rate = {1e-4: 0.5, 5e-5: 0.7, 2e-5: 0.6}[config.optim.learning_rate]
    return of_rate + 0.01 * config.run.seed + 0.001 * min(points, 50)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    made = Pretended(by_rate)
    monkeypatch.setattr(rounds, "finetune", made.finetune)
    monkeypatch.setattr(mistakes, "open_model", made.open_model)
    monkeypatch.setattr(ground.teacher, "check", lambda config, tokenizer, pairs: {config.learn.teacher: "digest"})
    return made


class Loops:
    """Loops on a task, each in a folder of its own beside its files."""

    def __init__(self, place: pathlib.Path, encoder: str, task: str = "rte"):
        self.place, self.encoder = place, encoder
        write_task(task, place / "data")
        (place / "teacher").mkdir()
        self.config = recipe(str(place / "data"), task, batch=8)

    def run(self, name: str, settings: Agora = SETTINGS, config: Finetune | None = None, **more: Any) -> dict[str, Any]:
        teacher, out = str(self.place / "teacher"), str(self.place / name)
        return agora.agora(config or self.config, settings, teacher, out, self.encoder, **more)

    def lines(self, name: str, file: str = history.HISTORY) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.place / name / file).read_text().splitlines()]

    def points(self, name: str) -> list[str]:
        files = sorted((self.place / name / "points").iterdir())
        return files[-1].read_text(encoding="utf-8").split("\n")[:-1]


@pytest.fixture
def loops(tmp_path: pathlib.Path, encoder: str, pretended: Pretended) -> Loops:
    return Loops(tmp_path, encoder)


# --- Rounds ----------------------------------------------------------------------------------------------------------


def test_sets_go_in_every_round_until_none_is_left(loops: Loops):
    summary = loops.run("out")
    lines = loops.lines("out")
    left = [len(line["scores"]) for line in lines]
    assert left[0] == 6
    assert left == sorted(set(left), reverse=True)
    assert sum(len(line["removed"]) for line in lines) == 6
    assert summary["rounds"] == len(lines) <= 6
    assert summary["models"] == sum(left) == len(loops.lines("out", history.RESULTS))
    assert summary["ended"] == "no set was left"
    # 1e-4 with seed 0 is the worst. With 4 of 5 settings its seed 1 is of its family, and the other rates with seed 0,
    # of which 2e-5 is in the lower half: the median lies between 2e-5 with seed 0 and with seed 1.
    gone = [name.split("-decay")[0] + name[-2:] for name in lines[0]["removed"]]
    assert gone == ["lr-0.0001-0", "lr-0.0001-1", "lr-2e-05-0"]


def test_every_round_learns_the_points_of_all_rounds_before(loops: Loops, pretended: Pretended):
    loops.run("out")
    files = [config.data.added_file for config in pretended.trained]
    assert files[:6] == [""] * 6
    assert files[6:] == sorted(files[6:])
    for line, following in zip(loops.lines("out"), loops.lines("out")[1:], strict=False):
        file = loops.place / "out" / "points" / f"round-{following['round']:03}.jsonl"
        assert str(file) in files
        assert file.read_text(encoding="utf-8").count("\n") == line["all_points"]


def test_the_best_model_of_all_rounds_is_kept_and_no_other(loops: Loops):
    summary = loops.run("out")
    best = max(loops.lines("out", history.RESULTS), key=lambda line: line["score"])
    assert (summary["best_round"], summary["best_set"], summary["accuracy"]) == (
        best["round"],
        best["set"],
        best["score"],
    )
    assert json.loads((loops.place / "out/best/config.json").read_text()) == {"rate": 5e-5, "seed": 1}
    assert summary["first_round_accuracy"] == pytest.approx(0.71)
    names = {path.name for path in (loops.place / "out").iterdir()}
    assert names == {
        "agora.json",
        "best",
        "environment.json",
        "history.jsonl",
        "points",
        "results.jsonl",
        "summary.json",
        "table.md",
    }


def test_the_table_says_why_sets_went(loops: Loops):
    loops.run("out")
    text = (loops.place / "out/table.md").read_text()
    assert "| round | models | best accuracy |" in text
    assert "* round 1: lr-0.0001-decay-0.01-warmup-0.1-batch-8-seed-0: the worst" in text
    assert "has 4 of 5 settings in common with the worst" in text


def test_sets_come_back_where_the_best_score_stands_still(loops: Loops, pretended: Pretended):
    """The score of a set is always the same, so after two rounds the best two of those that have gone come back."""
    pretended.score = lambda config, points: by_rate(config, 0)
    settings = dataclasses.replace(SETTINGS, prune="half", replays=1, patience=1, replay_sets=2)
    summary = loops.run("out", settings)
    first, second, third = loops.lines("out")[:3]
    assert first["replayed"] == []
    gone = first["removed"] | second["removed"]
    scores = first["scores"] | second["scores"]
    assert second["replayed"] == sorted(gone, key=lambda name: -scores[name])[:2]
    assert set(third["scores"]) == (set(second["scores"]) - set(second["removed"])) | set(second["replayed"])
    assert summary["replays"] == 1
    assert summary["ended"] == "no set was left"


def test_it_ends_where_nothing_new_can_be_learnt(loops: Loops, pretended: Pretended):
    """The next round would have trained the same models on the same examples."""
    pretended.wrong = 0
    assert loops.run("perfect")["ended"] == "the best model made no mistake, so there was nothing to make points of"
    pretended.wrong = 4
    never = dataclasses.replace(SETTINGS, confidence=0.9)  # The pretended teacher is never so sure.
    assert loops.run("unsure", never)["ended"].startswith("no new point came of the mistakes")
    assert loops.run("short", dataclasses.replace(SETTINGS, rounds=1))["ended"] == "agora.rounds = 1"


def test_a_set_that_diverges_is_written_down_and_goes(loops: Loops, pretended: Pretended):
    pretended.score = lambda config, points: -1.0 if config.run.seed else by_rate(config, points)
    loops.run("out")
    lines = loops.lines("out", history.RESULTS)
    assert {line["status"] for line in lines if line["set"].endswith("seed-1")} == {"diverged"}
    assert set(loops.lines("out")[0]["removed"]) >= {line["set"] for line in lines[:6] if line["score"] is None}
    pretended.score = lambda config, points: -1.0
    with pytest.raises(Diverged, match="agora: round 1: every model diverged"):
        loops.run("none")


# --- Points ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rte", "stsb", "copa", "race_middle"])
def test_no_text_of_validation_and_test_files_is_ever_added(name: str, tmp_path, encoder, pretended: Pretended):
    """A pair with a label, with a number, and choices: no row, and none of the texts, in any round."""
    pretended.metrics = tasks.TASKS[name].metrics
    loops = Loops(tmp_path, encoder, name)
    summary = loops.run("out")
    points = loops.points("out")
    assert summary["points"] == len(points) > 20
    task, folder = tasks.TASKS[name], str(tmp_path / "data")
    kept_out = [example for split in ("validation", "test") for example in tasks.read(task, folder, split)]
    texts = {each for example in kept_out for each in (example.text, example.pair, *example.choices) if each}
    (tmp_path / "points.jsonl").write_text("".join(f"{line}\n" for line in points), encoding="utf-8")
    found = list(inputs.read(str(tmp_path / "points.jsonl"), task.head))
    for example in found:
        assert example.label is not None
        assert not {example.text, example.pair, *example.choices} & texts
    assert len({leaks.row_of(example) for example in found}) == len(found)


def test_further_files_are_kept_out_too(loops: Loops):
    """A file that has just what would have become points."""
    loops.run("out")
    made = [json.loads(line) for line in loops.points("out")]
    kept = write_jsonl(loops.place / "test.jsonl", [{"text": row["text"], "pair": row["pair"]} for row in made[:9]])
    loops.run("other", dataclasses.replace(SETTINGS, keep_out=(kept,)))
    rows = [json.loads(line) for line in loops.points("other")]
    assert not {(row["text"], row["pair"]) for row in rows} & {(row["text"], row["pair"]) for row in made[:9]}


def test_a_round_adds_no_more_than_its_share_of_the_training_examples(loops: Loops):
    """A quarter of 20."""
    loops.run("out", dataclasses.replace(SETTINGS, growth=0.25))
    assert {line["points"] for line in loops.lines("out")} == {5}


def test_a_file_of_ones_own_that_gives_both_splits(tmp_path, encoder, pretended: Pretended, capsys):
    pretended.metrics = ("accuracy", "f1_macro")
    (tmp_path / "teacher").mkdir()
    config = recipe(write_csv(tmp_path / "own.csv"), "", batch=8, data={"validation_fraction": 0.3})
    out = tmp_path / "out"
    summary = agora.agora(config, SETTINGS, str(tmp_path / "teacher"), str(out), encoder)
    assert summary["points"] > 10
    assert pretended.trained[0].data.held_out == "stratified"
    assert "60 examples" in capsys.readouterr().out


# --- Kills -----------------------------------------------------------------------------------------------------------


def content(folder: pathlib.Path) -> dict[str, bytes]:
    """Files whose content no kill may change."""
    names = ["history.jsonl", *(f"points/{path.name}" for path in (folder / "points").iterdir()), "best/config.json"]
    return {name: (folder / name).read_bytes() for name in names}


def test_the_same_seed_gives_the_same_history_and_another_one_other_points(loops: Loops):
    for name in ("one", "two"):
        loops.run(name)
    assert content(loops.place / "one") == content(loops.place / "two")
    other = dataclasses.replace(loops.config, run=dataclasses.replace(loops.config.run, seed=1))
    loops.run("other", config=other)
    assert loops.points("other") != loops.points("one")


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.parametrize("at", [1, 4, 7])
def test_killed_in_a_model_it_goes_on_with_that_model(at: int, loops: Loops, pretended: Pretended):
    """In the first model, in the middle of the first round, and in the second round."""
    loops.run("whole")
    whole = list(pretended.trained)
    pretended.trained.clear()
    pretended.kill_at = at
    with pytest.raises(Killed):
        loops.run("killed")
    loops.run("killed")
    assert content(loops.place / "killed") == content(loops.place / "whole")
    assert without_times(loops.lines("killed", history.RESULTS)) == without_times(loops.lines("whole", history.RESULTS))
    assert len(pretended.trained) == len(whole)


Step = Callable[..., Any]


@pytest.mark.parametrize("step", ["points.write", "_keep", "history.append"])
def test_killed_at_the_end_of_a_round_it_trains_nothing_again(
    step: str, loops: Loops, pretended: Pretended, monkeypatch: pytest.MonkeyPatch
):
    """Before and after each of the three things that a round leaves."""
    loops.run("whole")
    trained = len(pretended.trained)
    for when in ("before", "after"):
        pretended.trained.clear()
        with monkeypatch.context() as patch:
            kill_in(patch, step, when)
            with pytest.raises(Killed):
                loops.run(when)
        loops.run(when)
        assert content(loops.place / when) == content(loops.place / "whole")
        assert len(pretended.trained) == trained
        assert {path.name for path in (loops.place / when).iterdir()} == {
            path.name for path in (loops.place / "whole").iterdir()
        }


def kill_in(patch: pytest.MonkeyPatch, step: str, when: str) -> None:
    """Ends the process before or after a step of the first round; of lines, that of the round."""
    owner, _, name = f"rounds.{step}".rpartition(".")
    module = {"rounds": rounds, "rounds.points": rounds.points, "rounds.history": rounds.history}[owner]
    original: Step = getattr(module, name)

    def killed(*given: Any) -> None:
        if name == "append" and isinstance(given[1], history.Trained):
            return original(*given)
        if when == "after":
            original(*given)
        raise Killed

    patch.setattr(module, name, killed)


def test_a_model_that_somebody_removed_is_trained_again(loops: Loops, pretended: Pretended):
    """The best of a round that was not closed: only it can say where it is wrong."""
    loops.run("whole")
    pretended.trained.clear()
    pretended.kill_at = 6
    with pytest.raises(Killed):
        loops.run("out")
    shutil.rmtree(loops.place / "out" / "round-001")
    loops.run("out")
    assert content(loops.place / "out") == content(loops.place / "whole")


def test_a_signal_ends_it_and_the_next_start_goes_on(loops: Loops, pretended: Pretended, monkeypatch, capsys):
    stopped = {"stopped": True, "steps": 2}
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "finetune", lambda *given: stopped)
        assert loops.run("out") == stopped
    assert "agora: stopped by a signal; the same command goes on" in capsys.readouterr().out
    assert not (loops.place / "out/summary.json").exists()
    assert loops.run("out")["ended"] == "no set was left"


def test_a_finished_loop_started_again_trains_nothing(loops: Loops, pretended: Pretended):
    first = loops.run("out")
    count = len(pretended.trained)
    assert loops.run("out") == first
    assert len(pretended.trained) == count


# --- Refusals --------------------------------------------------------------------------------------------------------


def test_a_teacher_that_is_right_on_two_thirds_or_less_is_refused_before_anything_is_written(
    loops: Loops, pretended: Pretended
):
    pretended.wrong = 1
    with pytest.raises(UserError, match=r"--teacher .*teacher answers 0 of 12 validation examples rightly \(0\.0%\)"):
        loops.run("out")
    assert not (loops.place / "out").exists()


def test_other_settings_need_another_folder(loops: Loops):
    loops.run("out")
    before = content(loops.place / "out")
    with pytest.raises(UserError, match=r"holds a loop with another config \(agora\.points: 5 -> 4\)"):
        loops.run("out", dataclasses.replace(SETTINGS, points=4))
    with pytest.raises(UserError, match=r"recipe\.run\.steps: 4 -> 5"):
        loops.run("out", config=dataclasses.replace(loops.config, run=dataclasses.replace(loops.config.run, steps=5)))
    assert content(loops.place / "out") == before
    loops.run("out", dataclasses.replace(SETTINGS, points=4), overwrite=True)
    assert content(loops.place / "out") != before


def test_other_data_and_another_teacher_are_told(loops: Loops, monkeypatch: pytest.MonkeyPatch):
    loops.run("out")
    with monkeypatch.context() as patch:
        patch.setattr(ground.teacher, "check", lambda config, tokenizer, pairs: {config.learn.teacher: "other"})
        with pytest.raises(UserError, match=r"was started with other weights than .*teacher now holds"):
            loops.run("out")
    path = loops.place / "data/RTE/train.tsv"
    path.write_text(path.read_text() + "99\tone more\tof them\tentailment\n")
    with pytest.raises(UserError, match="was started with other data than"):
        loops.run("out")


def test_what_a_loop_reads_is_not_overwritten(loops: Loops):
    loops.run("out")
    before = content(loops.place / "out")
    inside = dataclasses.replace(SETTINGS, keep_out=(str(loops.place / "out/points/round-002.jsonl"),))
    with pytest.raises(UserError, match=r"--overwrite would delete .*round-002\.jsonl, which this loop reads"):
        loops.run("out", inside, overwrite=True)
    assert content(loops.place / "out") == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("thesis.tex", r"is not empty \(thesis\.tex\) and holds no agora\.json of Agora"),
        ("config.json", "a single run"),
    ],
)
def test_a_folder_of_something_else_is_refused(name: str, said: str, loops: Loops):
    (loops.place / "out").mkdir()
    (loops.place / "out" / name).write_text("{}")
    with pytest.raises(UserError, match=said):
        loops.run("out", overwrite=True)
    assert [path.name for path in (loops.place / "out").iterdir()] == [name]


def test_a_damaged_line_is_named(loops: Loops):
    loops.run("out")
    config = loops.place / "out" / agora.CONFIG
    before = config.read_text()
    config.write_text(before[:-9])
    with pytest.raises(UserError, match=r"out/agora\.json"):
        loops.run("out")
    config.write_text(before)
    for file in (history.HISTORY, history.RESULTS):
        path = loops.place / "out" / file
        before = path.read_text()
        path.write_text(before.replace('"round": 1', '"round": "one"', 1))
        with pytest.raises(UserError, match=rf"agora: .*{file}:1: round should be a whole number"):
            loops.run("out")
        path.write_text(before)


def test_an_encoder_without_a_head_for_masked_words_is_told_what_to_do(loops: Loops):
    with pytest.raises(UserError) as refused:
        loops.run("out", dataclasses.replace(SETTINGS, transforms=("masked_lm", "swap")))
    assert str(refused.value) == (
        f"agora: masked_lm: {loops.encoder} has no masked-LM head; name a pretrained model that has one with "
        "--agora.masked-lm, or leave masked_lm out of --agora.transforms"
    )


def test_numbers_have_no_confidence(tmp_path, encoder, pretended: Pretended):
    with pytest.raises(UserError, match=r"agora\.confidence is for tasks with one label or choice"):
        Loops(tmp_path, encoder, "stsb").run("out", dataclasses.replace(SETTINGS, confidence=0.5))


# --- A dry run -------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(loops: Loops, monkeypatch, capsys):
    """10 seconds until the first step is done, then half a second a step: 12 s for a model of 4 steps."""
    monkeypatch.setattr(plan, "time_steps", lambda setup: (10.0, 0.5))
    assert loops.run("out", dry_run=True) == {}
    out = capsys.readouterr().out
    assert "6 sets in the first round; 6 models in all if they all go then, 21 at most" in out
    assert "a model takes 4 steps of 8 examples, about 0:12 here" in out
    assert "a round adds at most 10 points to 20 training examples" in out
    assert not (loops.place / "out").exists()
