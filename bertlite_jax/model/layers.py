"""The layers of an encoder, which share parameters as the config says.

Letters: B rows, L tokens in a row, D hidden, F feed-forward, N layers, G groups.

Sources: Devlin et al. 2018 (arXiv 1810.04805); Lan et al. 2020 (arXiv 1909.11942), section 3;
google-research/albert:modeling.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, Key

from bertlite_jax.config.model import Model
from bertlite_jax.model.modules import matrix_init
from bertlite_jax.model.ops import attention, products
from bertlite_jax.model.ops.arrays import Ids
from bertlite_jax.model.ops.dropout import FIRST_LAYER_SITE, dropout, keys_at
from bertlite_jax.model.ops.elementwise import layer_norm
from bertlite_jax.model.ops.precision import Compute

Attend = Callable[..., Array]
"""`attend(qkv, dropout_keys=keys)`, of `products.qkv`, -> [B, L, D]: attention inside the windows of the rows."""

Params = Mapping[str, Any]
"""Parameters by name, nested."""


# --- One layer, as a pure function of its parameters -------------------------------------------------------------


def attend_in(segments: Int[Ids, "B L"], config: Model, compute: Compute) -> Attend:
    """Attention for rows with these segments; the mask is made once and used by all layers."""
    return functools.partial(
        attention.joined_attention,
        heads=config.num_heads,
        segments=segments,
        mask=attention.segment_mask(segments),
        impl=config.attention,
        compute=compute,
        dropout_rate=config.attention_dropout,
    )


def self_attention(
    params: Params, x: Float[Array, "B L D"], attend: Attend, keys: Key[Array, " B"] | None, compute: Compute
) -> Float[Array, "B L D"]:
    """Multi-head attention within windows and its output product."""
    mixed = attend(products.qkv(x, params, compute), dropout_keys=keys)
    return products.dense(mixed, params["output"], compute)


def feed_forward(params: Params, x: Float[Array, "B L D"], config: Model, compute: Compute) -> Float[Array, "B L D"]:
    """Dense, activation, dense."""
    return products.activated(products.dense(x, params["up"], compute), config.activation, params["down"], compute)


def block(
    params: Params,
    x: Float[Array, "B L D"],
    attend: Attend,
    keys: Key[Array, " B"] | None,
    config: Model,
    compute: Compute,
) -> Float[Array, "B L D"]:
    """One encoder layer.

    Args:
      params: `attention`, `ffn` and `norms` of this layer, without the stack axis.
      x: hidden states.
      attend: attention inside the windows of these rows.
      keys: dropout keys of this layer, or None.
      config: shape, activation, place of the norms, dropout.
      compute: precision of the products.
    """

    def attention_part(h: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        h = self_attention(params["attention"], h, attend, keys_at(keys, 0), compute)
        return dropout(h, keys_at(keys, 1), config.hidden_dropout)

    def ffn_part(h: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        return dropout(feed_forward(params["ffn"], h, config, compute), keys_at(keys, 2), config.hidden_dropout)

    for name, part in (("attention", attention_part), ("ffn", ffn_part)):
        norm = params["norms"][name]
        if config.norm == "post":
            x = layer_norm(x + part(x), norm, config.norm_epsilon)
        else:
            x = x + part(layer_norm(x, norm, config.norm_epsilon))
    return x


# --- The parameters of all layers ----------------------------------------------------------------------------------


def _init_linear(key: Key[Array, ""], stack: int, fan_in: int, fan_out: int, std: float) -> dict[str, Array]:
    kernel = jax.vmap(lambda k: matrix_init(std)(k, (fan_in, fan_out)))(jax.random.split(key, stack))
    return {"kernel": kernel, "bias": jnp.zeros((stack, fan_out))}


def init_attention(key: Key[Array, ""], config: Model, stack: int) -> dict[str, dict[str, Array]]:
    """Stacked query, key, value and output: kernels [stack, D, D], biases [stack, D]."""
    names = ("query", "key", "value", "output")
    width = config.hidden_size
    return {
        n: _init_linear(k, stack, width, width, config.init_std)
        for n, k in zip(names, jax.random.split(key, 4), strict=True)
    }


def init_ffn(key: Key[Array, ""], config: Model, stack: int) -> dict[str, dict[str, Array]]:
    """Stacked up and down: kernels [stack, D, F] and [stack, F, D]."""
    up, down = jax.random.split(key)
    width, inner, std = config.hidden_size, config.ffn_size, config.init_std
    return {"up": _init_linear(up, stack, width, inner, std), "down": _init_linear(down, stack, inner, width, std)}


def init_norms(key: Key[Array, ""], config: Model, stack: int) -> dict[str, dict[str, Array]]:
    """Stacked scale and bias of the norms beside attention and feed-forward: [stack, D]."""
    del key
    shape = (stack, config.hidden_size)
    return {part: {"scale": jnp.ones(shape), "bias": jnp.zeros(shape)} for part in ("attention", "ffn")}


# --- All layers ----------------------------------------------------------------------------------------------------


class Layers(nn.Module):
    """N applications of the block, [B, L, D] -> [B, L, D].

    Parameters are held in stacks, [G, ...] where a group of layers shares the part and [N, ...] where each layer has
    its own, so that one scan over groups with a scan over the group's layers inside covers every sharing mode; a
    shared part is closed over by the inner scan. (`flax.linen.scan` treats the parameters as a whole and cannot share
    one part of a block only.)
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
        """Returns the last hidden states and, with `collect`, those after every layer, [N, B, L, D].

        Of `span` (first, last) only the layers from `first` to before `last` are applied.
        """
        c = self.config
        inits = {"attention": init_attention, "ffn": init_ffn, "norms": init_norms}
        parts = {name: self.param(name, inits[name], c, stack) for name, stack in c.stack_sizes.items()}
        return _apply_layers(parts, x, attend, keys, c, self.compute, collect, span)


def _apply_layers(
    parts: dict,
    x: Array,
    attend: Attend,
    keys: Array | None,
    config: Model,
    compute: Compute,
    collect: bool,
    span: tuple[int, int] | None,
) -> tuple[Array, Array | None]:
    groups, depth = config.share_groups, config.num_layers // config.share_groups
    shared = {name: parts[name] for name in config.shared_parts}
    own = {name: part for name, part in parts.items() if name not in shared}
    own = jax.tree.map(lambda leaf: leaf.reshape(groups, depth, *leaf.shape[1:]), own)
    numbers = FIRST_LAYER_SITE + jnp.arange(config.num_layers).reshape(groups, depth)

    def layer(shared_part: dict, x: Array, own_part: dict, number: Array) -> Array:
        return block({**shared_part, **own_part}, x, attend, keys_at(keys, number), config, compute)

    layer = _remat(layer, config)
    if span is not None:
        layer = _only(layer, FIRST_LAYER_SITE + span[0], FIRST_LAYER_SITE + span[1])

    def group(x: Array, stacked: Any) -> tuple[Array, Array | None]:
        shared_part, own_parts, group_numbers = stacked

        def step(x: Array, stacked: Any) -> tuple[Array, Array | None]:
            x = layer(shared_part, x, *stacked)
            return x, x if collect else None

        return jax.lax.scan(step, x, (own_parts, group_numbers), unroll=depth if config.unroll else 1)

    x, states = jax.lax.scan(group, x, (shared, own, numbers), unroll=groups if config.unroll else 1)
    return x, None if states is None else states.reshape(config.num_layers, *x.shape)


def _only(layer: Any, first: int, last: int) -> Any:
    """Applies a layer whose number is at least `first` and below `last`; the others cost nothing."""

    def maybe(shared_part: dict, x: Array, own_part: dict, number: Array) -> Array:
        inside = (number >= first) & (number < last)
        return jax.lax.cond(inside, layer, lambda shared, x, own, number: x, shared_part, x, own_part, number)

    return maybe


def _remat(layer: Any, config: Model) -> Any:
    """Wraps a layer so that the backward pass computes again what `config.remat` names."""
    if config.remat == "none":
        return layer
    policies = jax.checkpoint_policies
    policy = policies.dots_with_no_batch_dims_saveable if config.remat == "dots" else policies.nothing_saveable
    # Inside a loop nothing can be shared between iterations; written out, XLA would undo the recomputation.
    return jax.checkpoint(layer, policy=policy, prevent_cse=config.unroll)
