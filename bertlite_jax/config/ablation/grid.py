"""A grid of runs of pretraining or distillation that differ in a few fields, for `bertlite ablate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.pretrain import Pretrain

BASE = "base"
"""Name of the member without changes."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """Runs of pretraining or distillation that differ from a base in a few fields, each with several seeds.

    The members are the base and its variants; with axes, each of them at every point of their product.
    """

    base: Pretrain = Pretrain()
    """What the variants change, and what they are compared with."""
    variants: Mapping[str, Mapping[str, Any] | Pretrain] = dataclasses.field(default_factory=dict)
    """Name of each variant to what it changes: fields and their values, such as {"optim.learning_rate": 1e-3}, or a
    whole config."""
    axes: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    """Fields to the values that each takes in turn, such as {"model.num_layers": (2, 12)}. A variant is compared with
    the base at the same point, the base with the base at the first point."""
    seeds: tuple[int, ...] = ()
    """`run.seed` of the runs of each member."""
    steps: int = 0
    """Number of updates of each run; 0: as its `run.steps` says."""
    seconds: float = 0.0
    """Instead of steps: seconds of training of each run, without its start and its evaluations. The number of updates
    follows from the pace of a few steps, which are timed first; 0: steps count."""
    task: Finetune | None = None
    """Recipe of a task, with its folder. Each run is fine-tuned on it, and scored."""


@dataclasses.dataclass(frozen=True)
class Member:
    """One config of a grid, which is trained with each seed."""

    name: str
    """Also of its folder."""
    config: Pretrain
    reference: str
    """Name of the member that it is compared with; empty for the first one."""
