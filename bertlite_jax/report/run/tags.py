"""The figures of a line of metrics.jsonl as TensorBoard and trackers have them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def tagged(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers, as `train/loss` and `valid/mlm_loss`.

    Args:
      values: of one line, without its step. Names that begin with `valid_` are of the validation split.
    """
    return {
        _tag(name): value
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def _tag(name: str) -> str:
    return f"valid/{name.removeprefix('valid_')}" if name.startswith("valid_") else f"train/{name}"
