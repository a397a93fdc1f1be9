"""Settings of pruning."""

from __future__ import annotations

import dataclasses
from typing import Literal

from bertlite_jax.config.checks import check_numbers, check_positive
from bertlite_jax.errors import UserError

LEAST_LENGTH = 2
"""Tokens of the shortest text: the two special ones."""


@dataclasses.dataclass(frozen=True)
class Prune:
    """How much is taken, and how it is measured what that costs and saves."""

    speed_up: tuple[float, ...] = (2.0,)
    """How many times as fast the model should become. Several give a model each."""
    examples: int = 512
    """Training examples on which importance is measured, drawn at random."""
    length: int = 0
    """Tokens of the text whose latency counts. 0: data.length."""
    threads: int = 1
    """Threads that answer it."""
    products: Literal["float32", "int8"] = "float32"
    """Arithmetic in which the model will be served by ONNX Runtime, and in which latencies are measured."""


def check_prune(settings: Prune, positions: int) -> None:
    """Raises UserError for the first setting that cannot work; `positions` is the most tokens that the model reads."""
    check_numbers(settings, "prune")
    check_positive(settings, "prune", ("examples", "threads"))
    if not settings.speed_up:
        raise UserError("prune: --speed-up is empty; pass one number or several, such as 2 4")
    for factor in settings.speed_up:
        if factor <= 1:
            raise UserError(f"prune: --speed-up {factor:g} must be greater than 1")
    if len({f"{factor:g}" for factor in settings.speed_up}) < len(settings.speed_up):
        raise UserError("prune: --speed-up has the same number twice; leave one of them out")
    if settings.length and not LEAST_LENGTH <= settings.length <= positions:
        raise UserError(
            f"prune: --length {settings.length} must be 0, or at least {LEAST_LENGTH} and at most the model's "
            f"{positions:,} positions"
        )
