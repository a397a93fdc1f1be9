"""The layers of an encoder, which share parameters as the config says.

Letters: B rows, L tokens in a row, D hidden, F feed-forward, N layers, G groups.

Sources: Devlin et al. 2018 (arXiv 1810.04805); Lan et al. 2020 (arXiv 1909.11942), section 3;
google-research/albert:modeling.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, Key

from bertlite_jax.config.model import Model
from bertlite_jax.model.depth_parts import init_low_rank, init_vector, widened
from bertlite_jax.model.modules import matrix_init
from bertlite_jax.model.ops import attention, products
from bertlite_jax.model.ops.arrays import AnyArray
from bertlite_jax.model.ops.dropout import FIRST_LAYER_SITE, dropout, keys_at
from bertlite_jax.model.ops.elementwise import activation, layer_norm
from bertlite_jax.model.ops.precision import Compute
from bertlite_jax.model.residual_scale import folded

Attend = Callable[..., Array]
"""`attend(qkv, dropout_keys=keys)`, of `products.qkv`, -> [B, L, D]: attention inside the windows of the rows."""

Params = Mapping[str, Any]
"""Parameters by name, nested."""

LayerFunction = Callable[[Params, Array, Params, Array], Array]
"""A layer as a function of the parts it shares, the hidden states, its own parts and its dropout site."""


# --- One layer, as a pure function of its parameters -------------------------------------------------------------


def attend_in(segments: Int[AnyArray, "B L"], config: Model, compute: Compute, causal: bool = False) -> Attend:
    """Attention for rows with these segments, `causal`: to earlier tokens; one mask is used by all layers."""
    return functools.partial(
        attention.joined_attention,
        heads=config.num_heads,
        segments=segments,
        mask=attention.segment_mask(segments, causal),
        impl=config.attention,
        compute=compute,
        dropout_rate=config.attention_dropout,
        causal=causal,
    )


def self_attention(
    params: Params, x: Float[Array, "B L D"], attend: Attend, keys: Key[Array, " B"] | None, compute: Compute
) -> Float[Array, "B L D"]:
    """Multi-head attention within windows and its output product; of a layer without heads, the bias is left."""
    if "query" not in params:
        return _bias_of(params["output"], x)
    mixed = attend(products.qkv(x, params, compute), dropout_keys=keys)
    return products.dense(mixed, params["output"], compute)


def feed_forward(
    params: Params,
    x: Float[Array, "B L D"],
    config: Model,
    compute: Compute,
    gates: Float[Array, "B F"] | None = None,
) -> Float[Array, "B L D"]:
    """Dense, activation, dense; `gates` are factors on the neurons between them. Without neurons, the bias is left."""
    if "up" not in params:
        return _bias_of(params["down"], x)
    inner = products.dense(x, params["up"], compute)
    if gates is None:
        return products.activated(inner, config.activation, params["down"], compute)
    inner = activation(inner, config.activation)
    return products.dense(inner * gates[:, None].astype(inner.dtype), params["down"], compute)


def _bias_of(params: Params, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """The bias of a product whose kernel was pruned away, at each token of x."""
    return jnp.broadcast_to(jnp.asarray(params["bias"]).astype(x.dtype), x.shape)


def block(
    params: Params,
    x: Float[Array, "B L D"],
    attend: Attend,
    keys: Key[Array, " B"] | None,
    config: Model,
    compute: Compute,
    gates: Float[Array, "B F"] | None = None,
) -> Float[Array, "B L D"]:
    """One encoder layer.

    Args:
      params: `attention`, `ffn` and `norms` of this layer, and what else it has (`depth_parts`), without the stack
        axis.
      x: hidden states.
      attend: attention inside the windows of these rows.
      keys: dropout keys of this layer, or None.
      config: shape, activation, place of the norms, dropout.
      compute: precision of the products.
      gates: factors on the neurons of the feed-forward layer; None: none.
    """
    ffn = widened(params["ffn"], params["low_rank"]) if "low_rank" in params else params["ffn"]

    def attention_part(h: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        h = self_attention(params["attention"], h, attend, keys_at(keys, 0), compute)
        return dropout(h, keys_at(keys, 1), config.hidden_dropout)

    def ffn_part(h: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        return dropout(feed_forward(ffn, h, config, compute, gates), keys_at(keys, 2), config.hidden_dropout)

    x = with_depth(params, x)
    for name, part in (("attention", attention_part), ("ffn", ffn_part)):
        norm = params["norms"][name]
        if config.norm == "post":
            x = layer_norm(x + part(x), norm, config.norm_epsilon)
        else:
            x = x + part(layer_norm(x, norm, config.norm_epsilon))
    return x


def with_depth(params: Params, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """The states with the layer's own vector, if it has one."""
    return (x + params["depth"]["bias"].astype(x.dtype)[None, None]).astype(x.dtype) if "depth" in params else x


def parts_of(layers: Params, config: Model, layer: int) -> dict[str, Params]:
    """The parts that one layer applies, without the stack axis.

    Args:
      layers: parameters of all layers: stacks as `Layers` holds them, or by place as `PrunedLayers` does.
      config: their shape.
      layer: its number, from 0.
    """
    places = {part: config.stack_place(part, layer) for part in config.stack_sizes}
    if config.pruned:
        return {part: layers[str(place)][part] for part, place in places.items() if place is not None}
    stacks = {part: (layers[part], place) for part, place in places.items() if place is not None}
    return {part: jax.tree.map(lambda leaf, i=place: leaf[i], stack) for part, (stack, place) in stacks.items()}


# --- The parameters of all layers ----------------------------------------------------------------------------------


def init_linear(key: Key[Array, ""], stack: int, fan_in: int, fan_out: int, std: float) -> dict[str, Array]:
    """Stacked kernel [stack, fan_in, fan_out] and bias [stack, fan_out]."""
    kernel = jax.vmap(lambda k: matrix_init(std)(k, (fan_in, fan_out)))(jax.random.split(key, stack))
    return {"kernel": kernel, "bias": jnp.zeros((stack, fan_out))}


def init_attention(key: Key[Array, ""], config: Model, stack: int) -> dict[str, dict[str, Array]]:
    """Stacked query, key, value and output: kernels [stack, D, D], biases [stack, D]."""
    names = ("query", "key", "value", "output")
    width = config.hidden_size
    return {
        n: init_linear(k, stack, width, width, config.init_std)
        for n, k in zip(names, jax.random.split(key, 4), strict=True)
    }


def init_ffn(key: Key[Array, ""], config: Model, stack: int) -> dict[str, dict[str, Array]]:
    """Stacked up and down: kernels [stack, D, F] and [stack, F, D]."""
    up, down = jax.random.split(key)
    width, inner, std = config.hidden_size, config.ffn_size, config.init_std
    return {"up": init_linear(up, stack, width, inner, std), "down": init_linear(down, stack, inner, width, std)}


def init_norms(key: Key[Array, ""], config: Model, stack: int) -> dict[str, dict[str, Array]]:
    """Stacked scale and bias of the norms beside attention and feed-forward: [stack, D]."""
    del key
    shape = (stack, config.hidden_size)
    return {part: {"scale": jnp.ones(shape), "bias": jnp.zeros(shape)} for part in ("attention", "ffn")}


# --- All layers ----------------------------------------------------------------------------------------------------


class Layers(nn.Module):
    """N applications of the block.

    Parameters lie in stacks, [G, ...] where a group of layers shares the part and [N, ...] where each layer has its
    own. One scan over groups, with a scan over the group's layers inside, covers every sharing mode: both walk along
    the stacks of own parts; shared parts are broadcast to the layers of their group. First and last layers with
    parameters of their own are applied by scans before and after it. The bodies of the scans are modules without
    parameters.
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
        """The last hidden states and, with `collect`, those after every layer.

        Args:
          x: projected embeddings.
          attend: attention inside the windows of these rows.
          keys: one a row; None switches dropout off.
          collect: whether the states after every layer are asked for.
          span: (first, last): only the layers from `first` to before `last` are applied.
        """
        c = self.config
        inits = {"attention": init_attention, "ffn": init_ffn, "norms": init_norms}
        inits |= {"depth": init_vector, "low_rank": init_low_rank}
        parts = {name: self.param(name, inits[name], c, stack) for name, stack in c.stack_sizes.items()}
        parts = folded(parts, c.residual_factor)
        collected = []
        for run in _runs(parts, c):
            sites = FIRST_LAYER_SITE + jnp.arange(run.first, run.first + run.groups * run.depth)
            own = jax.tree.map(lambda leaf, r=run: leaf.reshape(r.groups, r.depth, *leaf.shape[1:]), run.own)
            scan = _scan_over(_Group, run.groups, c, in_axes=(nn.broadcast, nn.broadcast, 0, 0, 0))
            group = scan(c, self.compute, collect, span, name=run.name)
            x, states = group(x, keys, attend, run.shared, own, sites.reshape(run.groups, run.depth))
            collected += [] if states is None else [states.reshape(run.groups * run.depth, *x.shape)]
        if not collect:
            return x, None
        return x, jnp.concatenate(collected) if len(collected) > 1 else collected[0]


class _Run(NamedTuple):
    """Consecutive layers that are applied by one scan: `groups` groups of `depth` layers, from layer `first` on."""

    name: str
    first: int
    groups: int
    depth: int
    shared: Params
    own: Params


def _runs(parts: Params, config: Model) -> list[_Run]:
    """The layers that share, and the first and last ones around them, which have everything to themselves."""
    middle, layers = config.sharing_layers, config.num_layers
    if len(middle) == layers:
        shared = {name: parts[name] for name in config.shared_parts}
        own = {name: part for name, part in parts.items() if name not in shared}
        return [_Run("group", 0, config.share_groups, layers // config.share_groups, shared, own)]

    def cut(names: Iterable[str], first: int, count: int) -> Params:
        return jax.tree.map(lambda leaf: leaf[first : first + count], {name: parts[name] for name in names})

    everywhere = [name for name in parts if name != "low_rank"]
    pairs = {name: parts[name] for name in parts if name == "low_rank"}
    own = {**cut([name for name in everywhere if name not in config.shared_parts], middle.start, len(middle)), **pairs}
    shared = cut(config.shared_parts, middle.start, config.share_groups)
    runs = [_Run("group", middle.start, config.share_groups, len(middle) // config.share_groups, shared, own)]
    if config.own_first:
        runs.insert(0, _Run("first", 0, 1, config.own_first, {}, cut(everywhere, 0, config.own_first)))
    if config.own_last:
        # From the end, where the stack of a shared part is shorter than the number of layers.
        last = jax.tree.map(lambda leaf: leaf[-config.own_last :], {name: parts[name] for name in everywhere})
        runs.append(_Run("last", middle.stop, 1, config.own_last, {}, last))
    return runs


class _Group(nn.Module):
    """The layers of one group as the body of a scan."""

    config: Model
    compute: Compute
    collect: bool
    span: tuple[int, int] | None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B L D"],
        keys: Key[Array, " B"] | None,
        attend: Attend,
        shared: Params,
        own: Params,
        sites: Int[Array, " depth"],
    ) -> tuple[Float[Array, "B L D"], Float[Array, "depth B L D"] | None]:
        in_axes = (nn.broadcast, nn.broadcast, nn.broadcast, 0, 0)
        scan = _scan_over(_Layer, len(sites), self.config, in_axes)
        layer = scan(self.config, self.compute, self.collect, self.span, name="layer")
        return layer(x, keys, attend, shared, own, sites)


class _Layer(nn.Module):
    """One layer as the body of a scan."""

    config: Model
    compute: Compute
    collect: bool
    span: tuple[int, int] | None

    def __call__(
        self,
        x: Float[Array, "B L D"],
        keys: Key[Array, " B"] | None,
        attend: Attend,
        shared: Params,
        own: Params,
        site: Int[Array, ""],
    ) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"] | None]:
        def apply(shared: Params, x: Array, own: Params, site: Array) -> Array:
            return block({**shared, **own}, x, attend, keys_at(keys, site), self.config, self.compute)

        layer = rematerialized(apply, self.config)
        if self.span is not None:
            layer = _only(layer, FIRST_LAYER_SITE + self.span[0], FIRST_LAYER_SITE + self.span[1])
        x = layer(shared, x, own, site)
        return x, x if self.collect else None


def _scan_over(body: type[nn.Module], length: int, config: Model, in_axes: tuple[Any, ...]) -> Any:
    """The module that applies a body, which has no parameters, `length` times."""
    scan: Any = nn.scan  # Its signature leaves no room for a tuple of axes.
    unroll = length if config.unroll else 1
    # A body without variables has none that a turn could change: nobody needs to trace it twice to find that out.
    return scan(body, in_axes=in_axes, length=length, unroll=unroll, check_constancy_invariants=False)


def _only(layer: LayerFunction, first: int, last: int) -> LayerFunction:
    """Applies a layer whose site is at least `first` and below `last`; the others cost nothing."""

    def maybe(shared: Params, x: Array, own: Params, site: Array) -> Array:
        inside = (site >= first) & (site < last)
        return jax.lax.cond(inside, layer, lambda shared, x, own, site: x, shared, x, own, site)

    return maybe


def rematerialized(layer: LayerFunction, config: Model) -> LayerFunction:
    """Wraps a layer so that the backward pass computes again what `config.remat` names."""
    if config.remat == "none":
        return layer
    policies = jax.checkpoint_policies
    policy = policies.dots_with_no_batch_dims_saveable if config.remat == "dots" else policies.nothing_saveable
    # Inside a loop nothing can be shared between iterations; written out, XLA would undo the recomputation.
    return jax.checkpoint(layer, policy=policy, prevent_cse=config.unroll)
