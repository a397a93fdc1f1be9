"""The error of a short training, as far as it is a formula. The training itself belongs to the job.

What the job owes to a search: `error(trial)` trains `trial.shape` from the seed for `trial.steps` updates at
`trial.learning_rate`, on the same batches as every other trial, clips the weights after each update if asked to, and
returns the mean over the seeds on held-out rows under the one evaluation masking. A run that diverges or does not fit
into memory returns NaN. It is memoised under `memo_key`, so that a search that was interrupted goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def memo_key(**what: Any) -> str:
    """A name for everything that determines a trial: 64 hexadecimal digits, the same in every process.

    Args:
      what: by name, such as the trial, the model, the optimiser, the seeds, the hashes of data and teacher, and the
        version of the code; dataclasses, dicts, lists, tuples, strings and numbers.
    """
    text = json.dumps(what, sort_keys=True, default=_as_json, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _as_json(value: Any) -> Any:
    """A dataclass with its name: two kinds with the same fields are not the same."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {type(value).__name__: {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}}
    raise TypeError(f"a {type(value).__name__} cannot be part of a key")


def extrapolated(losses: Sequence[float], steps: int, target: int) -> float:
    """The loss at step `target` from those after a quarter, a half and all of `steps`: e(n) = a + b n^-c.

    Three losses at doubled steps have one such curve: with r = (e1 - e2) / (e2 - e3), c = log2 r and
    a = e3 - (e2 - e3) / (r - 1). Where the loss falls ever faster (r at most 1), the curve has no limit, and the line
    through the last two over log n is followed, which is the law as c goes to 0. A loss that rises at the end stays as
    it is. The result is never below 0.

    Args:
      losses: e1, e2, e3, in nats.
      steps: of e3.
      target: at least `steps`.

    Examples:
      The loss 2 + 8 / sqrt(n) at steps 25, 50 and 100, and what it will be at 400: 2 + 8 / 20.

      >>> import math
      >>> from bertlite_jax.search.surrogate import extrapolated
      >>> round(extrapolated([2 + 8 / math.sqrt(n) for n in (25, 50, 100)], steps=100, target=400), 6)
      2.4
    """
    first, second, third = losses
    fall, fall_before = second - third, first - second
    if not all(map(math.isfinite, losses)):
        return math.nan
    if fall <= 0:
        return third
    doublings = math.log2(target / steps)
    ratio = fall_before / fall
    if ratio <= 1:
        return max(0.0, third - fall * doublings)
    # The falls to come: fall / r + fall / r^2 + ... = fall (1 - r^-doublings) / (r - 1); expm1 is exact near r = 1.
    log_ratio = math.log(ratio)
    return max(0.0, third + fall * math.expm1(-doublings * log_ratio) / math.expm1(log_ratio))


def clipped(params: Tree, limit: float) -> Tree:
    """Every weight within [-limit, limit]: the compact space that the paper's theorem asks for."""
    return jax.tree.map(lambda leaf: jnp.clip(leaf, -limit, limit), params)
