"""A supernet: of one shape it is a plain trial; killed, it goes on; and what it chooses is tried like any other."""

import json
import math

import numpy as np
import pytest
import tiny

from bertlite_jax.config.search.settings import Method, Search, Space, Surrogate
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.pretraining.vocabulary import tokenizer_of
from bertlite_jax.jobs.searching import notebook, supernet, training
from bertlite_jax.jobs.searching.notebook import Notebook
from bertlite_jax.jobs.searching.rows import open_rows
from bertlite_jax.jobs.searching.search import search, shapes_of, sizes_of
from bertlite_jax.jobs.searching.training import Member, Setup
from bertlite_jax.search.candidates import Candidate, Cost, by_size

pytestmark = pytest.mark.usefixtures("compiled_once")

LOSS = Surrogate("mlm", steps=8, learning_rates=(2e-3,))
ONE = Space((1,), (2,), (16,), (32,))
SMALL = Space((1, 2), (2,), (16,), (32,))


def open_setup(prepared, **groups) -> tuple[Setup, list[Candidate]]:
    """Of a search, with shapes that cost 10 FLOPs for each layer and update."""
    given = tiny.search(prepared, **{"surrogate": LOSS, **groups})
    config = sizes_of(given, tokenizer_of(given))
    rows = open_rows(config, tokenizer_of(config))
    found = by_size(Candidate(shape, Cost(shape.num_layers, 1.0, 10 * shape.num_layers)) for shape in shapes_of(config))
    return Setup(config, "float32", rows), found


def opened(setup: Setup, place, made=None):
    around = notebook.surroundings(setup.config, "float32", "", {})
    book = Notebook(place / "results.jsonl", {}, around, "")
    return supernet.open_supernet(setup, place, book, [] if made is None else made)


def budget_of(setup: Setup, found: list[Candidate], steps: int) -> float:
    """For so many steps."""
    free = supernet.plan_of(setup, found, 0.0)
    one = supernet.plan_of(setup, found, 1e9)
    return free.flops + (one.flops - free.flops) / one.steps * steps + 1


@pytest.mark.thorough
def test_of_one_shape_it_is_the_plain_training_of_that_shape(prepared, tmp_path):
    """All four shapes of a step are one, and the mean of their gradients is its own."""
    setup, found = open_setup(prepared, space=ONE)
    error = opened(setup, tmp_path)(found, budget_of(setup, found, 4))
    trained = training.train(setup, found[0].shape, [Member(2e-3, 0)], 4)
    assert error(found[0].shape) == pytest.approx(float(trained.figures[4]["mlm"][0]), abs=1e-5)


@pytest.mark.thorough
def test_stopped_and_started_again_it_has_the_same_weights(prepared, tmp_path, monkeypatch):
    setup, found = open_setup(prepared, space=SMALL)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    budget = budget_of(setup, found, 4)
    whole = opened(setup, tmp_path / "a")(found, budget)
    errors = [whole(each.shape) for each in found]
    stopping = setup._replace(stop_wanted=lambda step: step == 3)
    with pytest.raises(training.Stopped):
        opened(stopping, tmp_path / "b")(found, budget)(found[0].shape)
    again = opened(setup, tmp_path / "b")(found, budget)
    assert [again(each.shape) for each in found] == errors
    files = [np.load(tmp_path / name / supernet.WEIGHTS) for name in ("a", "b")]
    assert all(np.array_equal(files[0][name], files[1][name]) for name in files[0].files)

    # What is known is not computed again, and another plan does not take it over.
    monkeypatch.setattr(supernet, "_trained", lambda *arguments: pytest.fail("trained again"))
    known = opened(setup, tmp_path / "b")(found, budget)
    assert [known(each.shape) for each in found] == errors
    with pytest.raises(pytest.fail.Exception):
        opened(setup, tmp_path / "b")(found, budget_of(setup, found, 5))(found[0].shape)


def test_a_budget_buys_steps_of_the_largest_the_smallest_and_two_others(prepared):
    setup, found = open_setup(prepared, space=SMALL)
    plan = supernet.plan_of(setup, found, budget_of(setup, found, 7))
    assert plan.steps == 7
    assert (plan.largest, plan.smallest) == (found[1], found[0])
    shapes = [plan.at(step, 0) for step in range(7)]
    assert all(step[:2] == [found[1].shape, found[0].shape] and len(step) == 4 for step in shapes)
    assert len({step[2] for step in shapes}) == 2
    assert shapes == [plan.at(step, 0) for step in range(7)]
    twice = setup._replace(config=tiny.search(prepared, space=SMALL, surrogate=Surrogate("mlm", 8, seeds=(0, 1))))
    more = supernet.plan_of(twice, found, budget_of(setup, found, 7))
    assert more.steps == 14
    assert more.flops == pytest.approx(plan.flops, rel=0.2)


def test_without_room_for_a_step_no_shape_has_an_error(prepared, tmp_path, capsys):
    setup, found = open_setup(prepared, space=SMALL)
    error = opened(setup, tmp_path)(found, 1.0)
    assert math.isnan(error(found[0].shape))
    assert "the budget is too small for one step of the supernet" in capsys.readouterr().out


def test_damaged_files_are_named(prepared, tmp_path):
    setup, found = open_setup(prepared, space=ONE)
    (tmp_path / supernet.WEIGHTS).write_bytes(b"PK broken")
    with pytest.raises(UserError, match=r"supernet.npz is damaged .*; remove it, and the supernet is trained again"):
        opened(setup, tmp_path)(found, budget_of(setup, found, 2))(found[0].shape)
    (tmp_path / supernet.ERRORS).write_text("{}")
    with pytest.raises(UserError, match=r"supernet.json"):
        opened(setup, tmp_path)(found, budget_of(setup, found, 2))


# --- In a search -----------------------------------------------------------------------------------------------------


def test_what_it_chooses_is_tried_and_stands_beside_the_other_methods(of_text, trained, tmp_path, monkeypatch):
    """Weights of the supernet are pretended too: the narrow shapes are better with them."""
    monkeypatch.setattr(supernet, "_trained", lambda *arguments: None)
    monkeypatch.setattr(supernet, "_error", lambda setup, shape, params: float(shape.hidden_size))
    content = search(of_text(method=Method(others=("supernet",), trials=30)), "s.py", str(tmp_path / "out"))
    published, net = content["methods"]
    assert net["method"] == "supernet"
    assert net["pick"]["hidden_size"] == 16
    assert 0.9 < net["flops"] / (30 * published["flops"] / 4) < 1.2
    (row,) = [row for row in content["correlations"] if row["measure"] == "weights of the supernet"]
    assert row["spearman"] < 0
    stored = json.loads((tmp_path / "out" / supernet.ERRORS).read_text())
    assert stored["errors"]["<1,2,16,32>"] == 16.0


@pytest.mark.slow
def test_it_searches_with_real_weights(of_text, tmp_path):
    content = search(of_text(method=Method(name="supernet")), "s.py", str(tmp_path / "out"))
    assert content["winner"]["name"] in {row["name"] for row in content["ranking"]}


def test_shapes_that_cannot_have_their_weights_in_common_are_refused(of_text, tmp_path):
    for space, said in (
        (Space((1,), (2,), (16,), (32,), share=("none", "all")), "config: space.share = ('none', 'all'): a supernet"),
        (Space((1,), (2,), (16, 32), (32,), (0, 16)), "config: space.embed_size = (0, 16) is below some of space.hid"),
    ):
        config: Search = of_text(space=space, method=Method(others=("supernet",)))
        with pytest.raises(UserError) as error:
            search(config, "s.py", str(tmp_path / "out"))
        assert str(error.value).startswith(said)
        assert not (tmp_path / "out").exists()
