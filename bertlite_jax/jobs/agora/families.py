"""Which sets of hyperparameters go after a round, which come back, and how many models that makes.

Published is that "the longest common sequence, rooted at the first element" of the sorted sets goes (de Wynter's own
account of arXiv 2010.07990); not how they are sorted, nor what a sequence is. Here a set is the sequence of its
settings, the first element is the worst set, and its family are those that have most settings in common with it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from bertlite_jax.config.agora.sets import Set
from bertlite_jax.data.examples.subsequence import longest_common


def removed(scores: Mapping[Set, float], prune: Literal["family", "whole_family", "half"]) -> dict[Set, str]:
    """The sets that go, and why each does. At least one goes.

    Args:
      scores: of all sets of a round, in their order; -inf for one that diverged.
      prune: as `Agora.prune`.
    """
    order = sorted(scores, key=lambda one: scores[one])  # Of equal ones the first comes first.
    if prune == "half":
        return dict.fromkeys(order[: -(-len(order) // 2)], "the lower half")
    worst, others = order[0], order[1:]
    common = {one: longest_common(worst.sequence, one.sequence) for one in others}
    most, middle = max(common.values(), default=0), statistics.median(scores.values())
    family = [one for one in others if common[one] == most > 0 and (prune == "whole_family" or scores[one] <= middle)]
    reason = f"has {most} of {len(Set._fields)} settings in common with the worst"
    return {worst: "the worst"} | dict.fromkeys(family, reason)


def replayed(gone: Mapping[Set, float], count: int) -> list[Set]:
    """The `count` best of the sets that have gone, by the score that each had last; of equal ones those that went last.

    Args:
      gone: sets with their last scores, in the order in which they went.
      count: how many come back.
    """
    latest = list(gone)[::-1]
    return sorted(latest, key=lambda one: -gone[one])[:count]


def stands_still(best_scores: Sequence[float], patience: int) -> bool:
    """Whether the best score of the last `patience` rounds is no better than that of the rounds before them."""
    if len(best_scores) <= patience:
        return False
    return max(best_scores[-patience:]) <= max(best_scores[:-patience])


def most_models(sets: int, replays: int, replay_sets: int, rounds: int = 0) -> int:
    """How many models are trained at most: only one set goes in each round, and others come back when that costs most.

    Args:
      sets: in the first round.
      replays: how often sets come back.
      replay_sets: how many of those that have gone come back at once.
      rounds: at most; 0: until no set is left.
    """
    left = np.arange(1, sets + 1)
    back = left - 1 + np.minimum(replay_sets, sets - left + 1)
    # Row r, column n: most models from a round with n sets on, with r replays to come. One more round in each turn.
    most = np.zeros((replays + 1, sets + 1), np.int64)
    for _ in range(rounds or sets + replays * min(replay_sets, sets)):
        without = most[:, :-1]
        with_one = np.vstack([np.zeros((1, sets), np.int64), most[:-1, back]])
        most = np.pad(left + np.maximum(without, with_one), ((0, 0), (1, 0)))
    return int(most[replays, sets])
