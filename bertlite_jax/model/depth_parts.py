"""What one layer has to itself where layers share everything else: a vector, and low-rank additions to two kernels.

Both are zero at the start, so that a model starts as the one whose layers share everything. They go through training
as parts of `Layers`; own norms and own whole layers need nothing of their own here.

Letters: S stack, D hidden, F feed-forward, r rank.
Source: Bae et al. 2025 (arXiv 2410.20672) for low-rank additions to shared layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Key

from bertlite_jax.config.model import Model
from bertlite_jax.model.modules import matrix_init

Params = Mapping[str, Any]


def init_vector(key: Key[Array, ""], config: Model, stack: int) -> dict[str, Array]:
    """Stacked vectors, [stack, D]. The name is that of a bias: without weight decay and trust ratio."""
    del key
    return {"bias": jnp.zeros((stack, config.hidden_size))}


def init_low_rank(key: Key[Array, ""], config: Model, stack: int) -> dict[str, dict[str, Array]]:
    """Stacked pairs for `up` [D, F] and `down` [F, D]: kernels [stack, In, r] and additions [stack, r, Out].

    An addition starts at zero. LAMB's trust ratio would keep it there, so its name is one that gets none.
    """
    pairs: dict[str, dict[str, Array]] = {}
    sides = {"up": (config.hidden_size, config.ffn_size), "down": (config.ffn_size, config.hidden_size)}
    for (name, (fan_in, fan_out)), one in zip(sides.items(), jax.random.split(key), strict=True):
        draw = jax.vmap(lambda k, rows=fan_in: matrix_init(config.init_std)(k, (rows, config.low_rank)))
        pairs[f"{name}_in"] = {"kernel": draw(jax.random.split(one, stack))}
        pairs[f"{name}_out"] = {"addition": jnp.zeros((stack, config.low_rank, fan_out))}
    return pairs


def widened(ffn: Params, pairs: Params) -> Params:
    """A layer's feed-forward part with its pairs multiplied into the kernels: W + A B.

    Multiplying A by B is work for one layer, and x by A and then by B for one token. At or above D F / (D + F) tokens
    the former is less, whatever the rank: 614 tokens for D = 768 and F = 3072. Training has more, and one product of
    full size is better than one of full size and two narrow ones.

    Args:
      ffn: `up` and `down` of the layer, float32.
      pairs: as `init_low_rank` makes them, without the stack axis.
    """

    def add(name: str) -> Params:
        pair = (pairs[f"{name}_in"]["kernel"], pairs[f"{name}_out"]["addition"])
        product = jnp.matmul(*map(jnp.asarray, pair), precision=jax.lax.Precision.HIGHEST)
        return {**ffn[name], "kernel": jnp.asarray(ffn[name]["kernel"]) + product}

    return {name: add(name) for name in ("up", "down")}
