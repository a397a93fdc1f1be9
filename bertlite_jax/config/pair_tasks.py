"""The pair tasks of pretraining, and what their labels mean."""

from __future__ import annotations

from typing import Literal

PairTask = Literal["sop", "nsp", "three_way", "none"]

PAIR_LABELS: dict[str, tuple[str, ...]] = {
    "sop": ("in_order", "swapped"),
    "nsp": ("next", "random"),
    "three_way": ("next", "previous", "random"),
}
"""By task the meaning of each label, in order; a random part, where there is one, comes last."""

PAIR_NAMES = {
    "sop": "sentence order",
    "nsp": "next sentence",
    "three_way": "next, previous or random sentence",
}
"""By task its name in reports and model cards."""


def pair_classes(task: str) -> int:
    """Outputs of a pair head for the task; 0 for `none`."""
    return len(PAIR_LABELS.get(task, ()))
