"""How a loop stands after rounds that were written by hand, and what the line of the next one says."""

import dataclasses

import pytest

from bertlite_jax.config.agora.sets import Set
from bertlite_jax.config.agora.settings import Agora
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.agora import history
from bertlite_jax.jobs.agora.history import Round

A, B, C, D = (Set(rate, 0.0, 0.1, 16, seed) for rate in (1e-4, 5e-5) for seed in (0, 1))
SETS = [A, B, C, D]


def line(number: int, scores: dict[Set, float | None], removed: list[Set], replayed: tuple[Set, ...] = ()) -> Round:
    best = max(scores, key=lambda one: history.as_number(scores[one]))
    return Round(
        round=number,
        scores={one.name: score for one, score in scores.items()},
        best=best.name,
        mistakes=3,
        points=5,
        all_points=5 * number,
        removed={one.name: "why" for one in removed},
        replayed=[one.name for one in replayed],
    )


FIRST = line(1, {A: 0.5, B: 0.6, C: 0.8, D: None}, [D, A])


def test_before_the_first_round_all_sets_are_left():
    state = history.stand(SETS, [], Agora())
    assert (state.left, state.gone, state.rounds, state.ended) == (SETS, {}, 0, "")


def test_sets_that_went_are_kept_with_their_last_scores():
    state = history.stand(SETS, [FIRST], Agora())
    assert state.left == [B, C]
    assert state.gone == {D: float("-inf"), A: 0.5}
    assert (state.best_round, state.best_set, state.best_score, state.all_points) == (1, C.name, 0.8, 5)


def test_of_equal_scores_the_earliest_model_is_the_best():
    state = history.stand(SETS, [FIRST, line(2, {B: 0.8, C: 0.7}, [C])], Agora())
    assert (state.best_round, state.best_set) == (1, C.name)
    assert state.left == [B]


def test_a_set_that_came_back_is_left_again_and_may_go_again():
    back = [FIRST, line(2, {B: 0.6, C: 0.8}, [B], replayed=(B, A))]
    state = history.stand(SETS, back, Agora())
    assert state.left == [A, B, C]
    assert state.gone == {D: float("-inf")}
    assert (state.replays, state.last_replay) == (1, 2)
    again = history.stand(SETS, [*back, line(3, {A: 0.9, B: 0.7, C: 0.8}, [B])], Agora())
    assert again.left == [A, C]
    assert (again.best_round, again.best_set) == (3, A.name)


@pytest.mark.parametrize(
    ("changes", "ended"),
    [
        ({"mistakes": 0}, "the best model made no mistake"),
        ({"points": 0}, "no new point came of the mistakes"),
        ({"removed": {one.name: "why" for one in SETS}}, "no set was left"),
        ({"scores": {one.name: None for one in SETS}}, "every model of the last round diverged"),
        ({}, "agora.rounds = 1"),
    ],
)
def test_why_it_ends(changes, ended):
    values = {name: getattr(FIRST, name) for name in Round.__dataclass_fields__} | changes
    assert history.stand(SETS, [Round(**values)], Agora(rounds=1)).ended.startswith(ended)


def test_the_next_line_follows_from_the_state_and_the_scores():
    state = history.stand(SETS, [FIRST], Agora())
    found = history.closed(state, {B: 0.6, C: 0.75}, mistakes=2, points=4, settings=Agora(patience=1, replay_sets=1))
    assert (found.round, found.best, found.mistakes, found.points, found.all_points) == (2, C.name, 2, 4, 9)
    assert found.removed == {B.name: "the worst"}
    # 0.75 is no better than 0.8, so one set comes back: of D (diverged), A (0.5) and B (0.6), which has just gone, B.
    assert found.replayed == [B.name]


def test_sets_come_back_only_so_often():
    state = history.stand(SETS, [FIRST], Agora())
    for settings in (Agora(patience=1, replays=0), Agora(patience=2)):
        assert history.closed(state, {B: 0.6, C: 0.75}, 2, 4, settings).replayed == []


def test_a_replay_gives_the_sets_as_many_rounds_as_those_before_them_had():
    """Sets came back after round 3, so with a patience of two rounds none does after round 4, and some do after 5."""
    settings = Agora(patience=2, replays=2, replay_sets=1)
    state = history.State(rounds=3, left=[B], gone={A: 0.4}, best_scores=[0.5] * 3, replays=1, last_replay=3)
    assert history.closed(state, {B: 0.5}, 2, 4, settings).replayed == []
    state = dataclasses.replace(state, rounds=4, best_scores=[0.5] * 4)
    assert history.closed(state, {B: 0.5}, 2, 4, settings).replayed == [B.name]


def test_where_all_models_diverge_no_set_comes_back():
    state = history.stand(SETS, [FIRST], Agora())
    found = history.closed(state, {B: None, C: None}, 0, 0, Agora(patience=1))
    assert (found.best, found.replayed) == (B.name, [])
    assert (state.best_round, history.stand(SETS, [FIRST, found], Agora()).best_round) == (1, 1)


def test_lines_are_read_as_they_were_written(tmp_path):
    history.append(tmp_path, FIRST)
    trained = history.Trained(1, A.name, history.DONE, 0.5, {"accuracy": 0.5}, 3, 4, 1.5)
    history.append(tmp_path, trained)
    assert history.read_rounds(tmp_path, SETS) == [FIRST]
    assert history.read_results(tmp_path) == [trained]


def test_a_set_that_there_is_not_is_told(tmp_path):
    history.append(tmp_path, FIRST)
    with pytest.raises(UserError, match=r"history\.jsonl:1: names a set that is none of the round's"):
        history.read_rounds(tmp_path, SETS[:3])
