"""What a loop has done: a line for each model and for each round, and how it stands by the lines of its rounds.

`results.jsonl` gets the line of a model when its training ends, `history.jsonl` that of a round when it is closed. The
second has no times and no places, so that the same settings and seed give the same file. How a loop stands follows from
it alone; so a loop that was killed goes on with the model that it was killed in.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from types import NoneType
from typing import Any

from bertlite_jax.config.agora.sets import Set
from bertlite_jax.config.agora.settings import Agora
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_lines, json_shapes
from bertlite_jax.host.json_shapes import NUMBER
from bertlite_jax.jobs.agora import families

RESULTS, HISTORY = "results.jsonl", "history.jsonl"
DONE, DIVERGED = "done", "diverged"

_TRAINED: dict[Any, Any] = {
    "round": int,
    "set": str,
    "status": str,
    "score": (*NUMBER, NoneType),
    "figures": {...: NUMBER},
    "best_step": int,
    "steps": int,
    "seconds": NUMBER,
}
_ROUND: dict[Any, Any] = {
    "round": int,
    "scores": {...: (*NUMBER, NoneType)},
    "best": str,
    "mistakes": int,
    "points": int,
    "all_points": int,
    "removed": {...: str},
    "replayed": [str],
}


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model whose training has ended."""

    round: int
    set: str
    """Its name."""
    status: str
    score: float | None
    """The task's first metric on the validation split; None if it diverged."""
    figures: dict[str, float]
    """All metrics of the task."""
    best_step: int
    steps: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Round:
    """A round that is closed."""

    round: int
    scores: dict[str, float | None]
    """Set to score, in the order of the sets."""
    best: str
    """The set with the best score; the first one if all models diverged."""
    mistakes: int
    """Of the best model on the validation split."""
    points: int
    """New ones."""
    all_points: int
    """Of all rounds so far."""
    removed: dict[str, str]
    """Set to the reason why it went."""
    replayed: list[str]
    """Sets that came back."""


@dataclasses.dataclass
class State:
    """How a loop stands after its rounds so far."""

    rounds: int = 0
    left: list[Set] = dataclasses.field(default_factory=list)
    """The sets of the next round."""
    gone: dict[Set, float] = dataclasses.field(default_factory=dict)
    """The others, with their last scores, in the order in which they went."""
    best_scores: list[float] = dataclasses.field(default_factory=list)
    """Of each round."""
    best_round: int = 0
    """The earliest with the best score of all."""
    best_set: str = ""
    all_points: int = 0
    replays: int = 0
    last_replay: int = 0
    """The round after which sets came back last; 0: none has."""
    ended: str = ""
    """Why there are no further rounds; empty while there are."""

    @property
    def best_score(self) -> float:
        """Of all rounds; -inf before the first."""
        return max(self.best_scores, default=-math.inf)


def as_number(score: float | None) -> float:
    """A score by which sets are sorted; of a model that diverged, less than any other."""
    return -math.inf if score is None else score


def stand(sets: Sequence[Set], rounds: Sequence[Round], settings: Agora) -> State:
    """How a loop stands after these rounds.

    Args:
      sets: of the first round.
      rounds: closed ones, in order.
      settings: of the loop.
    """
    state, by_name = State(left=list(sets)), {one.name: one for one in sets}
    for each in rounds:
        score = as_number(each.scores[each.best])
        if score > state.best_score or not state.rounds:
            state.best_round, state.best_set = each.round, each.best
        state.rounds, state.all_points = each.round, each.all_points
        state.best_scores.append(score)
        for name in each.removed:
            state.gone.pop(by_name[name], None)
            state.gone[by_name[name]] = as_number(each.scores[name])
        for name in each.replayed:
            del state.gone[by_name[name]]
        if each.replayed:
            state.replays, state.last_replay = state.replays + 1, each.round
        state.left = [one for one in sets if one not in state.gone]
        if each.scores[each.best] is None:
            state.ended = "every model of the last round diverged"
        elif not each.mistakes:
            state.ended = "the best model made no mistake, so there was nothing to make points of"
        elif not each.points:
            state.ended = "no new point came of the mistakes, so further rounds would have trained on the same examples"
        elif not state.left:
            state.ended = "no set was left"
        elif settings.rounds and state.rounds >= settings.rounds:
            state.ended = f"agora.rounds = {settings.rounds}"
    return state


def closed(state: State, scores: dict[Set, float | None], mistakes: int, points: int, settings: Agora) -> Round:
    """The line of the round that follows on a state.

    Args:
      state: before the round.
      scores: of the sets that were left.
      mistakes: of the best model.
      points: new ones.
      settings: of the loop.
    """
    numbers = {one: as_number(score) for one, score in scores.items()}
    best = max(numbers, key=lambda one: numbers[one])
    removed = families.removed(numbers, settings.prune)
    gone = {one: score for one, score in state.gone.items() if one not in removed}
    gone |= {one: numbers[one] for one in removed}
    number = state.rounds + 1
    still = families.stands_still([*state.best_scores, numbers[best]], settings.patience)
    # Sets that came back have as many rounds to show a better score as those before them.
    still = still and number - state.last_replay >= settings.patience
    some = state.replays < settings.replays and numbers[best] > -math.inf
    back = families.replayed(gone, settings.replay_sets) if still and some else []
    return Round(
        round=number,
        scores={one.name: score for one, score in scores.items()},
        best=best.name,
        mistakes=mistakes,
        points=points,
        all_points=state.all_points + points,
        removed={one.name: reason for one, reason in removed.items()},
        replayed=[one.name for one in back],
    )


# --- Files -----------------------------------------------------------------------------------------------------------


def read_results(folder: pathlib.Path) -> list[Trained]:
    """The models whose training has ended. Raises UserError if a line is damaged."""
    return [Trained(**values) for _, values in _lines(folder / RESULTS, _TRAINED)]


def read_rounds(folder: pathlib.Path, sets: Sequence[Set]) -> list[Round]:
    """The rounds that are closed. Raises UserError if a line is damaged, or names a set that there is not."""
    names, found = {one.name for one in sets}, []
    for where, values in _lines(folder / HISTORY, _ROUND):
        named = {*values["scores"], values["best"], *values["removed"], *values["replayed"]}
        if not named <= names or not {values["best"], *values["removed"]} <= values["scores"].keys():
            raise UserError(f"agora: {where}: names a set that is none of the round's; put the file back as it was")
        found.append(Round(**values))
    return found


def _lines(path: pathlib.Path, shape: dict[Any, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for where, values in json_lines.read(path, "agora"):
        json_shapes.check(values, shape, where, "agora")
        found.append((where, {name: values[name] for name in shape}))
    return found


def append(folder: pathlib.Path, line: Trained | Round) -> None:
    """Writes a line behind the others, and waits until the disk has it."""
    json_lines.append(folder / (RESULTS if isinstance(line, Trained) else HISTORY), [dataclasses.asdict(line)])
