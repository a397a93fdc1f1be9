"""Layers that pruning has left with different numbers of heads and neurons, applied one after the other.

Letters: B rows, L tokens in a row, D hidden, F feed-forward, N layers, H heads of a layer, K width of a head.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key

from bertlite_jax.config.model import Model
from bertlite_jax.model.depth_parts import init_vector
from bertlite_jax.model.layers import (
    Attend,
    Params,
    block,
    init_linear,
    init_norms,
    parts_of,
    rematerialized,
)
from bertlite_jax.model.ops.dropout import FIRST_LAYER_SITE, keys_at
from bertlite_jax.model.ops.precision import Compute


class PrunedLayers(nn.Module):
    """What `Layers` computes, where no stack can hold the kernels.

    The parameters of each place (`Model.stack_place`) are a folder of their own: `0/attention/query/kernel` [D, H K],
    `0/ffn/up/kernel` [D, F] and so on. The kernels of a part without heads or neurons are missing; its output's bias
    stays.
    """

    config: Model
    compute: Compute

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        attend: Attend,
        keys: Key[Array, " B"] | None,
        collect: bool = False,
        span: tuple[int, int] | None = None,
    ) -> tuple[Float[Array, "B L D"], Float[Array, "N B L D"] | None]:
        """As `Layers`."""
        c = self.config
        layers = {str(place): self.param(str(place), init_place, c, place) for place in range(places_of(c))}
        # Nothing is shared between iterations, because there are none: XLA would undo the recomputation.
        unrolled = dataclasses.replace(c, unroll=True)
        states = []
        for number in range(*span or (0, c.num_layers)):
            of_layer = functools.partial(attend, heads=c.heads_in(number))

            def apply(shared: Params, x: Array, own: Params, site: Array, attend: Attend = of_layer) -> Array:
                return block({**shared, **own}, x, attend, keys_at(keys, site), c, self.compute)

            site = jnp.asarray(FIRST_LAYER_SITE + number)
            x = rematerialized(apply, unrolled)({}, x, parts_of(layers, c, number), site)
            states.append(x)
        return x, jnp.stack(states) if collect else None


def places_of(config: Model) -> int:
    """Number of folders of parameters."""
    return max(config.stack_sizes.values())


def init_place(key: Key[Array, ""], config: Model, place: int) -> dict[str, Any]:
    """Parameters of one place, drawn as those of `Layers`: only of the parts that have so many places."""
    D, std = config.hidden_size, config.init_std
    sizes, drawn = config.stack_sizes, {}

    def linear(key: Key[Array, ""], fan_in: int, fan_out: int) -> dict[str, Array]:
        return _first(init_linear(key, 1, fan_in, fan_out, std))

    query, key_key, value, output, up, down = jax.random.split(key, 6)
    if place < sizes["attention"]:
        width = config.pruned_heads[place] * config.head_size
        inner = {"query": query, "key": key_key, "value": value} if width else {}
        drawn["attention"] = {name: linear(k, D, width) for name, k in inner.items()}
        drawn["attention"]["output"] = linear(output, width, D) if width else {"bias": jnp.zeros(D)}
    if place < sizes["ffn"]:
        width = config.pruned_ffn[place]
        drawn["ffn"] = {"up": linear(up, D, width), "down": linear(down, width, D)}
        drawn["ffn"] = drawn["ffn"] if width else {"down": {"bias": jnp.zeros(D)}}
    if place < sizes["norms"]:
        drawn["norms"] = _first(init_norms(key, config, 1))
    if place < sizes.get("depth", 0):
        drawn["depth"] = _first(init_vector(key, config, 1))
    return drawn


def _first(stacked: Any) -> Any:
    """Without the stack axis."""
    return jax.tree.map(lambda leaf: leaf[0], stacked)
