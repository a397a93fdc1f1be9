"""Whether two measures agree: of rankings, and of the winner under other settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bertlite_jax.search.candidates import Cost
from bertlite_jax.search.score import Score
from bertlite_jax.search.trials import Result, winner


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Spearman's ρ and Kendall's τ of two measures of the same things; ties get mean ranks.

    Pairs with a NaN or an infinity are left out. NaN with fewer than two pairs left, or if a measure is constant.
    """
    import scipy.stats  # JAX brings it. Slow to import.

    pairs = [pair for pair in zip(first, second, strict=True) if all(map(math.isfinite, pair))]
    columns = list(zip(*pairs, strict=True))
    if not pairs or any(len(set(values)) < 2 for values in columns):
        return math.nan, math.nan
    return float(scipy.stats.spearmanr(*columns).statistic), float(scipy.stats.kendalltau(*columns).statistic)


class Change(NamedTuple):
    """What another setting would have chosen."""

    best: Result | None
    same_shape: bool
    regret: float
    """Share of the best score that the original winner misses under this setting; NaN if it was not tried there."""


def sensitivity(original: Result, settings: Mapping[str, Sequence[Result]]) -> dict[str, Change]:
    """How the choice depends on a setting, such as the stride, the steps, the exponents or the source of latencies.

    Args:
      original: the winner.
      settings: name to results under that setting, such as those of `rescored`, or of another number of steps.
    """
    return {name: _change(original, results) for name, results in settings.items()}


def rescored(results: Iterable[Result], score: Score, costs: Mapping[Any, Cost] | None = None) -> list[Result]:
    """The same trials under another score, and with other costs of their shapes if given; nothing is trained."""
    found = []
    for each in results:
        cost = each.candidate.cost if costs is None else costs[each.candidate.shape]
        candidate = dataclasses.replace(each.candidate, cost=cost)
        found.append(dataclasses.replace(each, candidate=candidate, score=score(cost, each.error)))
    return found


def _change(original: Result, results: Sequence[Result]) -> Change:
    shape, best = original.candidate.shape, winner(results)
    again = winner(each for each in results if each.candidate.shape == shape)
    if best is None:
        return Change(None, False, math.nan)
    regret = 1 - again.score / best.score if again is not None and best.score else math.nan
    return Change(best, best.candidate.shape == shape, regret)
