"""Shapes with what they cost, in the order of their size; which of them are tried, and which are allowed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from bertlite_jax.config.search.settings import Shape
from bertlite_jax.errors import UserError
from bertlite_jax.search.space import describe


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a shape costs, whatever it learns."""

    parameters: int
    """Those that the search counts."""
    seconds: float
    """Of one answer."""
    step_flops: int
    """Of one update in a trial: what strategies are given equal amounts of."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A shape that may be chosen."""

    shape: Shape
    cost: Cost


def by_size(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Fewest parameters first, of equal ones the fastest, then in the order of shapes: there is only one order."""
    return sorted(candidates, key=lambda each: (each.cost.parameters, each.cost.seconds, each.shape))


def every(candidates: Sequence[Candidate], stride: int, offset: int = 0) -> list[Candidate]:
    """Every `stride`-th candidate from `offset` on: the paper's ε, an interval in the sorted space.

    A stride misses what lies between: of the default space, Bort's own shape stands at place 197, a prime, so from
    place 0 only the strides 1 and 197 reach it.

    Raises:
      UserError: the stride is longer than the space.
    """
    if not candidates:
        raise UserError("search: the space has no shape")
    if stride > len(candidates):
        raise UserError(
            f"config: method.stride = {stride} exceeds the {len(candidates)} shapes of the space; at most that many"
        )
    return list(candidates[offset::stride])


def check_maximum(candidates: Iterable[Candidate], maximum: Candidate) -> None:
    """Raises UserError for a candidate that is not both smaller and faster than the maximum point.

    A score measures what a candidate saves against that point, and is 0 for such a candidate.
    """
    most = maximum.cost
    for each in candidates:
        if each.cost.parameters >= most.parameters:
            raise UserError(
                f"config: maximum = {describe(maximum.shape)} has {most.parameters:,} parameters, and "
                f"{describe(each.shape)} of the space has {each.cost.parameters:,}; it must have more than all of them"
            )
        if each.cost.seconds >= most.seconds:
            raise UserError(
                f"config: maximum = {describe(maximum.shape)} takes {shown_time(most.seconds)}, and "
                f"{describe(each.shape)} of the space {shown_time(each.cost.seconds)}; it must be slower than all of "
                "them"
            )


def fast_enough(candidates: Sequence[Candidate], most_seconds: float) -> list[Candidate]:
    """Those that answer within `most_seconds`; all if that is 0.

    Raises:
      UserError: none does.
    """
    found = [each for each in candidates if not most_seconds or each.cost.seconds <= most_seconds]
    if not found and candidates:
        best = min(candidates, key=lambda each: each.cost.seconds)
        raise UserError(
            f"config: method.most_seconds = {most_seconds:g} is met by no shape; the fastest, "
            f"{describe(best.shape)}, takes {shown_time(best.cost.seconds)}"
        )
    return found


def shown_time(seconds: float) -> str:
    """`5.21 ms`."""
    return f"{seconds * 1e3:.3g} ms"
