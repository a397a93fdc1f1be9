"""A search from its recipe to a winner that can be trained, and what it asks for on the way."""

import csv
import dataclasses
import itertools
import json
import math
import pathlib

import numpy as np
import pytest
import thorough
import tiny
from search import planted

from bertlite_jax.cli.main import main
from bertlite_jax.config import checks, files
from bertlite_jax.config.pretrain import Pretrain
from bertlite_jax.config.search.settings import CostModel, Method, Shape, Space, Surrogate, model_of
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.jobs.searching import notebook, plan, results, teacher, timing, training
from bertlite_jax.jobs.searching.search import search

ROOT = pathlib.Path(__file__).resolve().parents[3]
DEBUG = ROOT / "configs/search_debug.py"
SHORT = Surrogate("mlm", steps=8, learning_rates=(2e-3,))

pytestmark = pytest.mark.usefixtures("compiled_once")


# --- From end to end -------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_the_recipe_for_tests_finds_a_winner_that_pretrain_takes(prepared, lines_of, tmp_path, capsys, monkeypatch):
    """Two of four shapes in the order of size, their neighbours, and what the other methods ask for."""
    place, options = tmp_path / "out", ["--data.corpus", prepared.corpus, "--data.tokenizer", prepared.tokenizer]
    command = ["search", str(DEBUG), "--workdir", str(place), *options]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "training the maximum point <3,4,48,96> for 8 steps, once" in said
    lines, content = lines_of(place), json.loads((place / "table.json").read_text())
    assert 2 <= len(lines) <= 4
    assert all(line["status"] == "done" and line["seeds"] == [0, 1] for line in lines)
    assert all(len(line["figures"]["8"]["teacher_divergence"]) == 2 for line in lines)
    assert content["space"]["shapes"] == 4
    assert [row["method"] for row in content["methods"]] == ["published", "random", "ranking"]
    assert content["methods"][2]["pick"]["name"] == "<2,2,32,32>"
    assert content["winner"] in content["ranking"]

    winner = files.load_file(str(place / "winner.json"))
    assert type(winner) is Pretrain
    checks.check_pretrain(winner)
    assert winner.model.vocab_size == 300
    assert winner.model.num_layers == content["winner"]["num_layers"]
    assert winner.optim.learning_rate == 2e-3
    assert winner.run.steps == 40
    rows = list(csv.DictReader((place / "front.csv").read_text().splitlines()))
    assert [int(row["parameters"]) for row in rows] == sorted(row["parameters"] for row in content["front"])
    assert (place / "front.png").read_bytes().startswith(b"\x89PNG")
    text = (place / "table.md").read_text()
    assert "## Methods" in text
    assert "nothing of the kind is claimed here" in text

    # The same command again trains nothing.
    before = (place / results.FILE).read_bytes()
    monkeypatch.setattr(training, "train", lambda *arguments: pytest.fail("trained again"))
    assert main(command) == 0
    assert (place / results.FILE).read_bytes() == before
    assert json.loads((place / "table.json").read_text()) == content


@pytest.mark.slow
def test_the_winner_is_trained_as_it_is(of_text, tmp_path):
    place = tmp_path / "out"
    config = of_text()
    search(config, "s.py", str(place))
    assert main(["pretrain", str(place / "winner.json"), "--workdir", str(tmp_path / "run"), "--run.steps", "4"]) == 0
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"] == 4


# --- What is asked for -----------------------------------------------------------------------------------------------


def test_all_shapes_are_tried_and_the_best_score_wins(of_text, trained, tmp_path):
    config = of_text(method=Method(exponents=(1.0, 1.0, 9.0)))
    content = search(config, "s.py", str(tmp_path / "out"))
    assert len(trained) == 4
    assert content["space"] == {"shapes": 4, "tried": 4}
    assert content["winner"]["hidden_size"] == 32  # The ninth power of the error says more than any saving.
    assert content["winner"]["error"] == pytest.approx(1 / 32 + 1 / 8)


def test_what_other_methods_ask_for_is_trained_once(of_text, lines_of, trained, tmp_path):
    """Halving begins with two steps; the rest are trials that the search itself has made."""
    others = Method(others=("random", "halving", "ranking"))
    content = search(of_text(method=others), "s.py", str(tmp_path / "out"))
    assert len(trained) == len(set(trained))
    assert {steps for _, _, steps in trained} == {2, 4, 8}
    assert content["methods"][1]["pick"] == content["methods"][0]["pick"]
    lines = lines_of(tmp_path / "out")
    assert sorted(line["steps"] for line in lines) == sorted(steps for _, _, steps in trained)


def test_rates_and_seeds_of_a_shape_are_trained_together(of_text, lines_of, trained, tmp_path):
    surrogate = Surrogate("mlm", 8, learning_rates=(1e-3, 2e-3), seeds=(0, 1, 2))
    content = search(of_text(surrogate=surrogate), "s.py", str(tmp_path / "out"))
    assert [members for _, members, _ in trained] == [6] * 4
    assert len(lines_of(tmp_path / "out")) == 8
    assert content["winner"]["error_spread"] == pytest.approx(1e-3)
    assert content["winner"]["score_spread"] > 0


@pytest.mark.thorough
def test_a_search_with_other_settings_trains_only_what_is_new(of_text, prepared, trained, tmp_path):
    """Another exponent and another kind of error need no trial; another rate and other rows do."""
    place = str(tmp_path / "out")
    search(of_text(), "s.py", place)
    assert len(trained) == 4
    further = dataclasses.replace(SHORT, kind="extrapolated", extrapolate_to=100)
    for groups in ({"method": Method(exponents=(1.0, 1.0, 2.0))}, {"surrogate": further}):
        search(of_text(**groups), "s.py", place)
    assert len(trained) == 4
    two = dataclasses.replace(SHORT, learning_rates=(2e-3, 1e-3))
    search(of_text(surrogate=two), "s.py", place)
    assert [members for _, members, _ in trained[4:]] == [1] * 4
    search(of_text(data=dataclasses.replace(tiny.search(prepared).data, batch_rows=4)), "s.py", place)
    assert len(trained) == 12
    search(of_text(), "s.py", place, overwrite=True)
    assert len(trained) == 16


@pytest.mark.parametrize(
    ("kinds", "trainings"),
    [
        pytest.param(("teacher_divergence", "mlm"), 4, marks=pytest.mark.thorough),
        (("mlm", "teacher_divergence"), 8),
    ],
)
def test_trials_that_were_compared_with_a_maximum_point_have_a_loss_too(
    of_text, trained, tmp_path, monkeypatch, kinds, trainings
):
    """Not the other way round: what has been trained without one has to be compared with it."""
    monkeypatch.setattr(teacher, "open_teacher", lambda setup, path, key: teacher.Teacher((), 5.0, 2e-3))
    for kind in kinds:
        search(of_text(surrogate=dataclasses.replace(SHORT, kind=kind)), "s.py", str(tmp_path / "out"))
    assert len(trained) == trainings


@pytest.mark.parametrize("latency", thorough.but(["analytic"], ["analytic", "measured"]))
def test_a_search_that_is_refused_removes_nothing(of_text, trained, tmp_path, monkeypatch, latency):
    monkeypatch.setattr(timing, "float32_answer", lambda model, rows, length: lambda: model.num_layers)
    monkeypatch.setattr(timing, "in_turns", lambda answers: [timing.Timing(0.01 * a(), 0.01 * a()) for a in answers])
    place, cost = tmp_path / "out", CostModel(length=64, latency=latency)

    def content() -> dict[str, bytes]:
        return {name: (place / name).read_bytes() for name in ("results.jsonl", "search.json", "winner.json")}

    search(of_text(), "s.py", str(place))
    before = content()
    with pytest.raises(UserError, match="is met by no shape"):
        search(of_text(cost=cost, method=Method(most_seconds=1e-12)), "s.py", str(place), overwrite=True)
    assert content() == before


def test_of_shapes_that_differ_in_their_heads_one_is_tried(of_text, trained, tmp_path):
    heads = Space(num_layers=(1, 2), num_heads=(2, 4), hidden_size=(16, 32), ffn_size=(32,))
    content = search(of_text(space=heads, method=Method(head_size=8, stride=2)), "s.py", str(tmp_path))
    assert content["space"]["shapes"] == 4
    assert {name for name, _, _ in trained} <= {"<1,2,16,32>", "<2,2,16,32>", "<1,4,32,32>", "<2,4,32,32>"}


def test_layers_that_share_all_parameters_have_the_residual_scale_that_lets_them_learn(
    of_text, prepared, trained, tmp_path
):
    shared = Space(num_layers=(2,), num_heads=(2,), hidden_size=(32,), ffn_size=(32,), share=("none", "all"))
    search(of_text(space=shared), "s.py", str(tmp_path))
    assert {name for name, _, _ in trained} == {"<2,2,32,32>", "<2,2,32,32> share=all"}
    base = tiny.search(prepared).model
    assert model_of(base, Shape(2, 2, 32, 32, 32, "all")).residual_scale == "depth"
    assert model_of(base, Shape(2, 2, 32, 32, 32)).residual_scale == "published"
    assert "layers that share all parameters have the residual scale 1/N" in (tmp_path / "table.md").read_text()


def test_picks_and_some_other_shapes_are_trained_longer_for_the_rank_correlation(of_text, trained, tmp_path):
    surrogate = dataclasses.replace(SHORT, longer_steps=80, longer_shapes=2)
    config = of_text(surrogate=surrogate, method=Method(others=("ranking",)))
    content = search(config, "s.py", str(tmp_path))
    longer = [name for name, _, steps in trained if steps == 80]
    assert 2 <= len(longer) == len(set(longer)) <= 4
    assert {row["with"] for row in content["correlations"]} == {"mlm after 80 steps"}
    assert content["methods"][0]["longer_loss"] is not None


def test_shapes_for_the_longer_training_reach_from_the_smallest_to_the_largest():
    """90 of them leave no stride for 50, which would be the first 50."""
    chosen = plan.evenly_spread(planted.CANDIDATES[:90], 50)
    assert len(chosen) == 50
    assert (chosen[0], chosen[-1]) == (planted.CANDIDATES[0], planted.CANDIDATES[89])
    places = [planted.CANDIDATES.index(each) for each in chosen]
    assert {second - first for first, second in itertools.pairwise(places)} == {1, 2}
    assert plan.evenly_spread(planted.CANDIDATES[:4], 12) == planted.CANDIDATES[:4]


def test_published_models_of_the_same_widths_stand_beside_the_shapes(of_text, trained, tmp_path):
    """A 32nd of Bort, <4,8,1024,768>, is one of the shapes."""
    narrow = Space(num_layers=(2, 4), num_heads=(8,), hidden_size=(32,), ffn_size=(24,))
    cost = CostModel(length=64, published_divisor=32)
    content = search(of_text(space=narrow, maximum=Shape(8, 8, 64, 96), cost=cost), "s.py", str(tmp_path))
    bort, shape = content["published"][0], next(row for row in content["ranking"] if row["num_layers"] == 4)
    assert (bort["name"], bort["shape"]) == ("Bort / 32", "<4,8,32,24>") == ("Bort / 32", shape["name"])
    assert [bort[name] for name in ("parameters", "seconds", "error")] == [
        shape[name] for name in ("parameters", "seconds", "error")
    ]
    text = (tmp_path / "table.md").read_text()
    assert "## Published models at the same costs" in text
    assert "| Bort / 32 | <4,8,32,24> |" in text


def test_a_limit_of_latency_leaves_the_sensitivity_to_the_stride(of_text, trained, tmp_path):
    """Of eight shapes four are allowed, and all of these are tried."""
    space = Space(num_layers=(1, 2), num_heads=(2,), hidden_size=(16, 32), ffn_size=(32, 64))
    cost = CostModel(length=64, latency="roofline", host="v5e-4", layer_seconds=1e-6)
    content = search(of_text(space=space, cost=cost, method=Method(most_seconds=1.5e-6)), "s.py", str(tmp_path))
    assert content["space"] == {"shapes": 8, "tried": 4}
    assert {"stride: 2", "stride: 3"} <= {row["setting"] for row in content["sensitivity"]}


def test_a_latency_that_is_wanted_leaves_out_what_is_slower(of_text, trained, tmp_path):
    cost = CostModel(length=64, latency="roofline", host="v5e-4", layer_seconds=1e-6)
    config = of_text(cost=cost, method=Method(most_seconds=1.5e-6))
    content = search(config, "s.py", str(tmp_path))
    assert all(name.startswith("<1,") for name, _, _ in trained)
    assert content["winner"]["seconds"] < 1.5e-6


# --- Trials that fail ------------------------------------------------------------------------------------------------


def test_a_trial_that_diverges_or_lacks_memory_is_recorded_and_never_chosen(
    of_text, lines_of, trained, tmp_path, monkeypatch
):
    pretended = training.train

    def train(setup, shape, members, steps):
        if shape.hidden_size == 32:
            raise training.NoMemory("a step of 1 members needs about 9 TiB")
        figures = pretended(setup, shape, members, steps).figures
        for values in figures.values():
            values["mlm"] = values["mlm"] * (math.nan if shape.num_layers == 1 else 1.0)
        return training.Trained(figures, None, 1.0)

    monkeypatch.setattr(training, "train", train)
    place = tmp_path / "out"
    content = search(of_text(), "s.py", str(place))
    assert content["winner"]["name"] == "<2,2,16,32>"
    assert sorted(line["status"] for line in lines_of(place)) == ["diverged", "done", "no memory", "no memory"]
    text = (place / "table.md").read_text()
    assert "* <1,2,16,32>, learning rate 0.002, 8 steps: diverged: a loss on the held-out rows is not finite" in text
    assert "no memory: a step of 1 members needs about 9 TiB" in text

    # What lacked memory is tried again, where there is more now; what diverged is not.
    monkeypatch.setattr(training, "train", pretended)
    trained.clear()
    search(of_text(), "s.py", str(place))
    assert [name for name, _, _ in trained] == ["<1,2,32,32>", "<2,2,32,32>"]


def test_rates_that_do_not_fit_into_memory_together_are_trained_one_after_the_other(
    of_text, lines_of, trained, tmp_path, monkeypatch
):
    """Whether a trial fits must not depend on what it is trained beside."""
    pretended = training.train

    def train(setup, shape, members, steps):
        if len(members) > 1:
            raise training.NoMemory("a step of 2 members needs about 9 TiB")
        return pretended(setup, shape, members, steps)

    monkeypatch.setattr(training, "train", train)
    two = dataclasses.replace(SHORT, learning_rates=(1e-3, 2e-3))
    search(of_text(surrogate=two), "s.py", str(tmp_path / "out"))
    assert len(trained) == 8
    assert {line["status"] for line in lines_of(tmp_path / "out")} == {"done"}


def test_where_every_trial_diverges_the_search_fails_with_the_first_line(of_text, tmp_path, monkeypatch):
    def train(setup, shape, members, steps):
        return training.Trained({steps: {"mlm": np.full(len(members), math.inf)}}, None, 1.0)

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(
        Diverged, match=r"no trial has an error \(.*results.jsonl\); <1,2,16,32>, learning rate 0.002: div"
    ):
        search(of_text(), "s.py", str(tmp_path / "out"))


def test_compute_that_pays_no_whole_trial_is_refused_with_what_helps(of_text, trained, tmp_path):
    """Of the compute of 8 steps, 4 go into the first round, and the last one needs all 8."""
    one = Space(num_layers=(1,), num_heads=(2,), hidden_size=(16,), ffn_size=(32,))
    config = of_text(space=one, method=Method("halving", trials=1, rounds=2))
    with pytest.raises(UserError, match=r"halving has too little compute for a trial of 8 steps; raise method.trials"):
        search(config, "s.py", str(tmp_path / "out"))
    assert [steps for _, _, steps in trained] == [4]


def test_a_key_depends_on_the_text_and_on_the_maximum_point(prepared):
    config = tiny.search(prepared)
    first = notebook.surroundings(config, "float32", "hash", {"a": "1"})
    others = [
        notebook.surroundings(config, "bfloat16", "hash", {"a": "1"}),
        notebook.surroundings(config, "float32", "other", {"a": "1"}),
        notebook.surroundings(config, "float32", "hash", {"a": "2"}),
    ]
    assert first not in others
    larger = dataclasses.replace(config, maximum=Shape(4, 4, 48, 96))
    keys = [notebook.teacher_key(config, each) for each in (first, *others)] + [notebook.teacher_key(larger, first)]
    assert len(set(keys)) == 5
    moved = dataclasses.replace(config, data=dataclasses.replace(config.data, corpus=("elsewhere",)))
    assert notebook.surroundings(moved, "float32", "hash", {"elsewhere": "1"}) == first
