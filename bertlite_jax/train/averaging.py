"""An average of the weights beside the weights: part of the optimiser's state, so that a checkpoint holds it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from bertlite_jax.config.finetune import TuneRun


class Averaged(NamedTuple):
    """State of `average`."""

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride] tuples have a method of this name
    """Updates so far."""
    mean: Any
    """The average, in the shape of the parameters."""


def average(run: TuneRun, steps: int) -> optax.GradientTransformation:
    """Leaves updates alone and averages the parameters after each; the last part of a chain.

    After update t (from 1) the mean m becomes (1 - w_t) m + w_t p_t:

        ema   w_t = (1 - d) / (1 - d^t)      d = `average_decay`; the moving average with Adam's correction of its start
        tail  w_t = 1 / max(1, t - T + k)    the plain mean of the last k of T updates; before them m is p_t itself

    Args:
      run: `average`, `average_decay`, `average_steps`.
      steps: T.

    Source: Polyak and Juditsky 1992 (averaging); Kingma and Ba 2015 (arXiv 1412.6980), section 3 (the correction).
    """
    last = min(run.average_steps or -(-steps // 4), steps)

    def weight(count: Int[Array, ""]) -> Float[Array, ""]:
        if run.average == "ema":
            decay = jnp.float32(run.average_decay)
            return (1 - decay) / (1 - decay ** count.astype(jnp.float32))
        return 1 / jnp.maximum(count - (steps - last), 1).astype(jnp.float32)

    def init(params: Any) -> Averaged:
        return Averaged(jnp.zeros([], jnp.int32), jax.tree.map(jnp.copy, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Averaged]:
        count = state.count + 1
        share, now = weight(count), optax.apply_updates(params, updates)
        return updates, Averaged(count, jax.tree.map(lambda m, p: (1 - share) * m + share * p, state.mean, now))

    return optax.GradientTransformation(init, update)


def averaged(opt: Any, params: Any) -> Any:
    """The average where the optimiser's state holds one, else the parameters."""
    averages = [part for part in jax.tree.leaves(opt, is_leaf=_is_average) if _is_average(part)]
    return averages[0].mean if averages else params


def _is_average(part: Any) -> bool:
    return isinstance(part, Averaged)
