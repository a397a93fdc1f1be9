"""How a cost and an error become one number: the W-coefficient of Bort's search."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from bertlite_jax.search.candidates import Cost

Score = Callable[[Cost, float], float]
"""(cost, error) -> score, larger is better; NaN for a trial that has no error."""
LEAST_ERROR = 1e-7
"""Smaller errors count as this one: the inverse must be finite. The published copies of the formula add it."""


def w_coefficient(
    cost: Cost, error: float, maximum: Cost, exponents: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> float:
    """W = (1 - p / p_T)^a (1 - i / i_T)^b / e^c, with p parameters, i seconds, e error and T the maximum point.

    Exponents 1 are the published form. There the two savings alone, which have the size of the shape in them, differ by
    a factor of three over Bort's space, and errors after a short training by much less: a larger c lets the error say
    more. A candidate that is not smaller, or not faster, saves nothing: W is 0.

    Args:
      cost: of a candidate. Under the costs of a search it is smaller and faster than the maximum point; under others,
        such as the latency of another machine, it need not be.
      error: at least 0. NaN or infinite, after a trial that diverged, gives NaN.
      maximum: cost of the maximum point.
      exponents: a, b, c.

    Source: de Wynter 2020 (arXiv 2010.08512); the formula as its reimplementation for QHACK 2021 repeats it (QOSE,
    equation 1).

    Examples:
      Half of the parameters in half of the time, at an error of 0.5 nats.

      >>> from bertlite_jax.search.candidates import Cost
      >>> from bertlite_jax.search.score import w_coefficient
      >>> maximum, half = Cost(340_000_000, 0.08, 1), Cost(170_000_000, 0.04, 1)
      >>> w_coefficient(half, 0.5, maximum)
      0.5
    """
    if not math.isfinite(error):
        return math.nan
    a, b, c = exponents
    saved_parameters = max(0.0, 1 - cost.parameters / maximum.parameters)
    saved_time = max(0.0, 1 - cost.seconds / maximum.seconds)
    return saved_parameters**a * saved_time**b * max(error, LEAST_ERROR) ** -c


def spread(score: Score, cost: Cost, errors: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of the score over the errors of several seeds.

    The deviation is that of the sample (n - 1), and 0 for one seed. The mean is NaN where a seed has no error.
    """
    scores = np.array([score(cost, error) for error in errors])
    return float(scores.mean()), float(scores.std(ddof=1)) if len(scores) > 1 else 0.0
