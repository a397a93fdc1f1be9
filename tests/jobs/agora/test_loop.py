"""The loop as its user meets it: rounds end, sets go and come back, and nothing leaks into the points.

Models are pretended, so that a loop takes a moment; `test_agora.py` has real ones.
"""

import dataclasses
import json

import pytest
from toy_task import recipe, write_csv, write_jsonl

from bertlite_jax.data import tasks
from bertlite_jax.errors import Diverged
from bertlite_jax.jobs.agora import history, leaks, plan
from bertlite_jax.jobs.answering import inputs

# --- Rounds ----------------------------------------------------------------------------------------------------------


def test_sets_go_in_every_round_until_none_is_left(loops):
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


def test_every_round_learns_the_points_of_all_rounds_before(loops, pretended):
    loops.run("out")
    files = [config.data.added_file for config in pretended.trained]
    assert files[:6] == [""] * 6
    assert files[6:] == sorted(files[6:])
    for line, following in zip(loops.lines("out"), loops.lines("out")[1:], strict=False):
        file = loops.place / "out" / "points" / f"round-{following['round']:03}.jsonl"
        assert str(file) in files
        assert file.read_text(encoding="utf-8").count("\n") == line["all_points"]


def test_all_models_share_what_a_teacher_answers(loops, pretended):
    loops.run("out")
    assert pretended.answers == {loops.place / "out" / "learning"}


def test_the_best_model_of_all_rounds_is_kept_and_no_other(loops):
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


def test_the_table_says_why_sets_went(loops):
    loops.run("out")
    text = (loops.place / "out/table.md").read_text()
    assert "| round | models | best accuracy |" in text
    assert "* round 1: lr-0.0001-decay-0.01-warmup-0.1-batch-8-seed-0: the worst" in text
    assert "has 4 of 5 settings in common with the worst" in text


def test_sets_come_back_where_the_best_score_stands_still(loops, pretended):
    """The score of a set is always the same, so after two rounds the best two of those that have gone come back."""
    pretended.score = lambda config, points: loops.by_rate(config, 0)
    settings = dataclasses.replace(loops.settings, prune="half", replays=1, patience=1, replay_sets=2)
    summary = loops.run("out", settings)
    first, second, third = loops.lines("out")[:3]
    assert first["replayed"] == []
    gone = first["removed"] | second["removed"]
    scores = first["scores"] | second["scores"]
    assert second["replayed"] == sorted(gone, key=lambda name: -scores[name])[:2]
    assert set(third["scores"]) == (set(second["scores"]) - set(second["removed"])) | set(second["replayed"])
    assert summary["replays"] == 1
    assert summary["ended"] == "no set was left"


def test_it_ends_where_nothing_new_can_be_learnt(loops, pretended):
    """The next round would have trained the same models on the same examples."""
    pretended.wrong = 0
    assert loops.run("perfect")["ended"] == "the best model made no mistake, so there was nothing to make points of"
    pretended.wrong = 4
    never = dataclasses.replace(loops.settings, confidence=0.9)  # The pretended teacher is never so sure.
    assert loops.run("unsure", never)["ended"].startswith("no new point came of the mistakes")
    assert loops.run("short", dataclasses.replace(loops.settings, rounds=1))["ended"] == "agora.rounds = 1"


def test_a_set_that_diverges_is_written_down_and_goes(loops, pretended):
    pretended.score = lambda config, points: -1.0 if config.run.seed else loops.by_rate(config, points)
    loops.run("out")
    lines = loops.lines("out", history.RESULTS)
    assert {line["status"] for line in lines if line["set"].endswith("seed-1")} == {"diverged"}
    assert set(loops.lines("out")[0]["removed"]) >= {line["set"] for line in lines[:6] if line["score"] is None}
    pretended.score = lambda config, points: -1.0
    with pytest.raises(Diverged, match="agora: round 1: every model diverged"):
        loops.run("none")


def test_models_that_diverge_with_points_end_it_with_the_best_model_before(loops, pretended):
    pretended.score = lambda config, points: -1.0 if points else loops.by_rate(config, points)
    summary = loops.run("out")
    assert (summary["ended"], summary["rounds"]) == ("every model of the last round diverged", 2)
    assert (summary["best_round"], summary["accuracy"]) == (1, pytest.approx(0.71))
    assert "| 2 | " in (table := (loops.place / "out/table.md").read_text())
    assert "diverged" in table
    assert loops.run("out") == summary


# --- Points ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rte", "stsb", "copa", "race_middle"])
def test_no_text_of_validation_and_test_files_is_ever_added(name: str, loops_on, tmp_path, pretended):
    """A pair with a label, with a number, and choices: no row, and none of the texts, in any round."""
    pretended.metrics = tasks.TASKS[name].metrics
    loops = loops_on(name)
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


def test_further_files_are_kept_out_too(loops):
    """A file that has just what would have become points."""
    loops.run("out")
    made = [json.loads(line) for line in loops.points("out")]
    kept = write_jsonl(loops.place / "test.jsonl", [{"text": row["text"], "pair": row["pair"]} for row in made[:9]])
    loops.run("other", dataclasses.replace(loops.settings, keep_out=(kept,)))
    rows = [json.loads(line) for line in loops.points("other")]
    assert not {(row["text"], row["pair"]) for row in rows} & {(row["text"], row["pair"]) for row in made[:9]}


def test_a_round_adds_no_more_than_its_share_of_the_training_examples(loops):
    """A quarter of 20."""
    loops.run("out", dataclasses.replace(loops.settings, growth=0.25))
    assert {line["points"] for line in loops.lines("out")} == {5}


@pytest.mark.parametrize("name", ["question,text,label", "first,second,gold"])
def test_columns_of_ones_own_that_are_called_otherwise(name: str, loops, pretended):
    """The second text of the first file is in a column that is usually the first one."""
    text, pair, label = name.split(",")
    rows = [f"{loops.text(2 * n)},{loops.text(2 * n + 1)},{'yes' if n % 2 else 'no'}" for n in range(60)]
    path = loops.place / "own.csv"
    path.write_text("\n".join([name, *rows]) + "\n")
    pretended.metrics = ("accuracy", "f1_macro")
    columns = {"text_column": text, "pair_column": pair, "label_column": label, "validation_fraction": 0.3}
    assert loops.run("out", config=recipe(str(path), "", batch=8, data=columns))["rounds"] > 1
    assert {text, pair, label} < json.loads(loops.points("out")[0]).keys()


def test_a_file_of_ones_own_that_gives_both_splits(loops, pretended, capsys):
    pretended.metrics = ("accuracy", "f1_macro")
    config = recipe(write_csv(loops.place / "own.csv"), "", batch=8, data={"validation_fraction": 0.3})
    assert loops.run("out", config=config)["points"] > 10
    assert pretended.trained[0].data.held_out == "stratified"
    assert "60 examples" in capsys.readouterr().out


# --- A dry run -------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(loops, monkeypatch, capsys):
    """10 seconds until the first step is done, then half a second a step: 12 s for a model of 4 steps."""
    monkeypatch.setattr(plan, "time_steps", lambda setup: (10.0, 0.5))
    assert loops.run("out", dry_run=True) == {}
    out = capsys.readouterr().out
    assert "6 sets in the first round; 6 models in all if they all go then, 21 at most" in out
    assert "a model takes 4 steps of 8 examples, about 0:12 here" in out
    assert "a round adds at most 10 points to 20 training examples" in out
    assert not (loops.place / "out").exists()
