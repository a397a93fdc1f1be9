"""Turns of a benchmark's contenders, one after the other.

They alternate, so that a machine that is busy for a while is busy for all of them. Figures are those of the fastest
turn, because other programs can only slow a turn down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar


@dataclasses.dataclass
class Contender:
    """A program that is timed beside others. Benchmarks add fields for what they measure besides."""

    name: str
    seconds: list[float] = dataclasses.field(default_factory=list, kw_only=True)
    """Wall time of each timed step, call or turn, whichever the benchmark compares."""
    dropped: bool = dataclasses.field(default=False, kw_only=True)
    """Whether it gets no further turns."""

    @property
    def fastest(self) -> float:
        """The least of `seconds`."""
        return min(self.seconds)


C = TypeVar("C", bound=Contender)


def drop_slow(contenders: Iterable[Contender], factor: float, reference_seconds: float) -> None:
    """Drops the contenders whose fastest time is more than `factor` times the reference.

    Bfloat16 on a CPU without instructions for it, for one, takes half a minute a training step.
    """
    for contender in contenders:
        contender.dropped = contender.fastest > factor * reference_seconds


def race(
    contenders: Sequence[C],
    rounds: int,
    take_turn: Callable[[C], list[float]],
    log: Callable[[str], None] | None = None,
) -> None:
    """Gives every contender that is not dropped one turn per round.

    Args:
      contenders: their order is that of the turns.
      rounds: number of turns for each.
      take_turn: lets a contender work for one turn; returns the seconds that are added to its `seconds`.
      log: prints a line at the start of each round; None prints nothing.
    """
    for number in range(1, rounds + 1):
        if log:
            log(f"bench: round {number} of {rounds}")
        for contender in contenders:
            if not contender.dropped:
                contender.seconds += take_turn(contender)
