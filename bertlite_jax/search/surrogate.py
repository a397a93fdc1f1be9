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
from jaxtyping import Array, Float, Int, Real

Tree = TypeVar("Tree")

LEAST_REST = 1e-30
"""Probability of what is left of a distribution; its logarithm must be finite."""


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


def teacher_cross_entropy(
    logits: Float[Array, "*N V"], teacher: Float[Array, "*N V"], weights: Real[Array, "*N"]
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """-Σ_v softmax(t) log softmax(z): the published error, a cross-entropy "with respect to the maximum point".

    It is never less than the teacher's own entropy, which it adds to the divergence: a perfect student has that error.
    With it, the ratio of two errors, which W is made of, is nearer to 1 than that of their divergences.

    Args:
      logits: z, of the student; any float dtype.
      teacher: t, of the maximum point.
      weights: 0 where nothing is predicted.

    Returns:
      Three float32 scalars, in nats: sum of weighted cross-entropies, sum of weighted entropies of the teacher, sum of
      weights. The first less the second is the divergence.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    log_t = jax.nn.log_softmax(teacher.astype(jnp.float32))
    weights = weights.astype(jnp.float32)
    crossed, own = (-jnp.sum(jnp.exp(log_t) * each, axis=-1) for each in (log_p, log_t))
    return jnp.sum(crossed * weights), jnp.sum(own * weights), jnp.sum(weights)


def likeliest(logits: Float[Array, "*N V"], pieces: int) -> tuple[Int[Array, "*N k"], Float[Array, "*N k1"]]:
    """The teacher's likeliest pieces, and the logarithms of their probabilities and, last, of all others together.

    What is stored of a teacher where all of its logits would be too much. Divergence and cross-entropy between
    distributions whose rare pieces are put together are at most those of all pieces, and equal with `pieces` = V.

    Args:
      logits: of the maximum point.
      pieces: k, at most V.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    _, ids = jax.lax.top_k(log_p, pieces)
    return ids, together(log_p, ids)


def together(logits: Float[Array, "*N V"], ids: Int[Array, "*N k"]) -> Float[Array, "*N k1"]:
    """Log-probabilities of these pieces and, last, of all others together: of k + 1 possible answers."""
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits.astype(jnp.float32)), ids, axis=-1)
    rest = 1.0 - jnp.sum(jnp.exp(log_p), axis=-1, keepdims=True)
    return jnp.concatenate([log_p, jnp.log(jnp.maximum(rest, LEAST_REST))], axis=-1)


def clipped(params: Tree, limit: float) -> Tree:
    """Every weight within [-limit, limit]: the compact space that the paper's theorem asks for."""
    return jax.tree.map(lambda leaf: jnp.clip(leaf, -limit, limit), params)
