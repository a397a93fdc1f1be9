"""A trial is a shape that was trained for a few steps: what was tried, what it cost, and which was best."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from bertlite_jax.config.search.settings import Shape
from bertlite_jax.search.candidates import Candidate
from bertlite_jax.search.score import Score


@dataclasses.dataclass(frozen=True, order=True)
class Trial:
    """What is trained: a pure function of this, of the data and of the settings that all trials have in common."""

    shape: Shape
    learning_rate: float
    """Peak."""
    steps: int
    """Number of updates."""


@dataclasses.dataclass(frozen=True)
class Result:
    """A trial and what came of it."""

    candidate: Candidate
    trial: Trial
    error: float
    """NaN or infinite: it diverged, or did not fit into memory. Such a trial is reported and never chosen."""
    score: float
    """NaN where the error is none."""


class Evaluation(NamedTuple):
    """How a search judges a shape. The learning rates are Θ, the set that the paper optimises over."""

    error: Callable[[Trial], float]
    """Trains, or looks up what has been trained. It may be asked for a trial again."""
    score: Score
    learning_rates: tuple[float, ...]
    steps: int
    inherited: Callable[[Sequence[Candidate], float], Callable[[Shape], float]] | None = None
    """Gets the shapes that may be chosen and the compute that may be spent, as `spent` counts; trains one supernet, and
    returns the error of a shape with its weights."""


def tried(candidate: Candidate, evaluation: Evaluation, steps: int = 0) -> list[Result]:
    """One result for each learning rate.

    Args:
      candidate: to train.
      evaluation: error and score.
      steps: other than those of the evaluation, if not 0.
    """
    results = []
    for rate in evaluation.learning_rates:
        trial = Trial(candidate.shape, rate, steps or evaluation.steps)
        error = evaluation.error(trial)
        results.append(Result(candidate, trial, error, evaluation.score(candidate.cost, error)))
    return results


def winner(results: Iterable[Result]) -> Result | None:
    """The one with the highest score of those with the most steps; of equal ones the smallest in the order of size.

    Errors after fewer steps, as successive halving has them, do not compare. None if no such trial has a score.
    """
    results = list(results)
    most = max((each.trial.steps for each in results), default=0)
    return next(iter(ranking(each for each in results if each.trial.steps == most)), None)


def ranking(results: Iterable[Result]) -> list[Result]:
    """Results that have a score, the best first."""
    with_score = [each for each in results if not math.isnan(each.score)]
    return sorted(with_score, key=_rank)


def _rank(result: Result) -> tuple[float, int, float, Trial]:
    cost = result.candidate.cost
    return -result.score, cost.parameters, cost.seconds, result.trial


def spent(results: Iterable[Result]) -> int:
    """FLOPs of the training of trials with one seed.

    A trial that occurs twice is counted once.
    """
    return sum({each.trial: each.candidate.cost.step_flops * each.trial.steps for each in results}.values())
