"""Settings of pruning."""

from __future__ import annotations

import dataclasses
from typing import Literal

from bertlite_jax.config.checks import check_numbers
from bertlite_jax.errors import UserError

LEAST_LENGTH = 2
"""Tokens of the shortest text: the two special ones."""


@dataclasses.dataclass(frozen=True)
class Prune:
    """How much is taken out, and on what its cost and its worth are measured."""

    speed_up: tuple[float, ...] = (2.0,)
    """How many times as fast the model should become. Several numbers give a model each. What cannot be reached is
    refused with the greatest speed-up that can."""
    examples: int = 512
    """Training examples on which importance is measured, drawn at random."""
    length: int = 0
    """Tokens of the text whose latency counts. 0: data.length."""
    threads: int = 1
    """Threads that answer it."""
    products: Literal["float32", "int8"] = "float32"
    """Arithmetic in which ONNX Runtime will serve the model; latencies are measured in it."""


def check_prune(settings: Prune, positions: int, cores: int) -> None:
    """Raises UserError for the first setting that cannot work.

    Args:
      settings: how much is taken.
      positions: the most tokens that the model reads.
      cores: of this machine.
    """
    check_numbers(settings, "prune")
    if not settings.speed_up:
        raise UserError("prune: --speed-up is empty; pass one number or several, such as 2 4")
    for factor in settings.speed_up:
        if factor <= 1:
            raise UserError(f"prune: --speed-up {factor:g} must be greater than 1")
    if len({f"{factor:g}" for factor in settings.speed_up}) < len(settings.speed_up):
        raise UserError("prune: --speed-up has the same number twice; leave one of them out")
    if settings.examples < 1:
        raise UserError(f"prune: --examples {settings.examples} must be at least 1")
    if not 1 <= settings.threads <= cores:
        raise UserError(f"prune: --threads {settings.threads} must be at least 1 and at most {cores}, the cores here")
    if settings.length and not LEAST_LENGTH <= settings.length <= positions:
        raise UserError(
            f"prune: --length {settings.length} must be 0, or at least {LEAST_LENGTH} and at most the model's "
            f"{positions:,} positions"
        )
