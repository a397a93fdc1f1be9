"""Token ids become hidden states: embeddings, projection, and layers that share parameters as the config says.

One definition serves ALBERT, BERT, DistilBERT and Bort. Letters: B rows, L tokens in a row, D hidden, E embedding,
F feed-forward, H heads, N layers, G groups, V vocabulary.

Sources: Devlin et al. 2018 (arXiv 1810.04805); Lan et al. 2020 (arXiv 1909.11942), section 3;
google-research/albert:modeling.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from bertlite_jax.config.model import Model
from bertlite_jax.model.ops import attention, products
from bertlite_jax.model.ops.dropout import dropout
from bertlite_jax.model.ops.elementwise import layer_norm
from bertlite_jax.model.ops.precision import Compute, activation_dtype

# Where a dropout mask is drawn; folded into a row's key so that no two places share one.
_EMBEDDING_SITE, _LAYER_SITES = 0, 1


def matrix_init(std: float) -> nn.initializers.Initializer:
    """Normal truncated at two standard deviations, its variance left uncorrected (actual deviation 0.88 std).

    Source: `tf.truncated_normal_initializer` as used by google-research/albert:modeling.py.
    """
    return nn.initializers.truncated_normal(std)


def sinusoid_init(std: float) -> nn.initializers.Initializer:
    """Sines and cosines of the position at wavelengths from 2 pi to 20,000 pi; [rows, width].

    Their root mean square is twice `std`, so that where a token stands counts for more than what it is at first.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5; learnt from there on as in huggingface/transformers'
    DistilBERT (`create_sinusoidal_embeddings`).
    """

    def init(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
        del key
        rows, width = shape
        rates = jnp.exp(-jnp.log(10_000.0) * jnp.arange(0, width, 2) / width)
        angles = jnp.arange(rows)[:, None] * rates
        waves = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(rows, -1)
        return (2.0 * math.sqrt(2.0) * std * waves[:, :width]).astype(dtype)

    return init


class Linear(nn.Module):
    """Dense layer with bias, [..., In] -> [..., features], in the precision that `compute` names."""

    features: int
    init_std: float
    compute: Compute

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", matrix_init(self.init_std), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return products.dense(x, {"kernel": kernel, "bias": bias}, self.compute)


class Norm(nn.Module):
    """LayerNorm over the last axis, statistics in float32."""

    epsilon: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return layer_norm(x, {"scale": scale, "bias": bias}, self.epsilon)


class Table(nn.Module):
    """Rows that ids pick. Ids out of range take the last row; configs are checked so that there are none."""

    rows: int
    width: int
    initializer: nn.initializers.Initializer
    padded_rows: int = 0

    def setup(self):
        def init(key: Array, shape: tuple[int, int]) -> Array:
            table = self.initializer(key, shape)
            return jnp.pad(table, ((0, max(0, self.padded_rows - self.rows)), (0, 0)))

        self.embedding = self.param("embedding", init, (self.rows, self.width))

    def __call__(self, ids: Array) -> Array:
        """[...] int32 -> [..., width] float32."""
        return jnp.take(self.embedding, ids, axis=0, mode="clip")


def _keys_for(keys: Array | None, site: Array | int) -> Array | None:
    """Row keys for one place in the network, [B]."""
    return None if keys is None else jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, site)


class Embeddings(nn.Module):
    """Word, position and token-type rows, summed, normalised, dropped out: [B, L] -> [B, L, E]."""

    config: Model

    def setup(self):
        c = self.config
        normal = matrix_init(c.init_std)
        self.word = Table(c.vocab_size, c.embed_size, normal, padded_rows=c.padded_vocab)
        of_positions = sinusoid_init(c.init_std) if c.position_init == "sinusoidal" else normal
        self.position = Table(c.max_positions, c.embed_size, of_positions)
        if c.token_types:
            self.token_type = Table(c.token_types, c.embed_size, normal)
        self.norm = Norm(c.norm_epsilon)

    def __call__(
        self, tokens: Array, positions: Array, token_types: Array, keys: Array | None, shift: Array | None = None
    ) -> Array:
        words = self.word(tokens)
        x = (words if shift is None else words + shift) + self.position(positions)
        if self.config.token_types:
            x = x + self.token_type(token_types)
        return dropout(self.norm(x), _keys_for(keys, _EMBEDDING_SITE), self.config.hidden_dropout)


# --- One layer, as a pure function of its parameters -------------------------------------------------------------


Attend = Callable[..., Array]
"""`attend(qkv, dropout_keys=keys)`, of `products.qkv`, -> [B, L, D]: attention inside the windows of the rows."""


def attend_in(segments: Array, config: Model, compute: Compute) -> Attend:
    """Attention for rows with these segments [B, L]; the mask is made once and used by all layers."""
    return functools.partial(
        attention.joined_attention,
        heads=config.num_heads,
        segments=segments,
        mask=attention.segment_mask(segments),
        impl=config.attention,
        compute=compute,
        dropout_rate=config.attention_dropout,
    )


def self_attention(params: dict, x: Array, attend: Attend, keys: Array | None, compute: Compute) -> Array:
    """Multi-head attention within windows and its output product: [B, L, D] -> [B, L, D]."""
    mixed = attend(products.qkv(x, params, compute), dropout_keys=keys)
    return products.dense(mixed, params["output"], compute)


def feed_forward(params: dict, x: Array, config: Model, compute: Compute) -> Array:
    """Dense, activation, dense: [B, L, D] -> [B, L, D]."""
    return products.activated(products.dense(x, params["up"], compute), config.activation, params["down"], compute)


def block(params: dict, x: Array, attend: Attend, keys: Array | None, config: Model, compute: Compute) -> Array:
    """One encoder layer, [B, L, D] -> [B, L, D].

    Args:
      params: `attention`, `ffn` and `norms` of this layer, without the stack axis.
      x: hidden states.
      attend: attention inside the windows of these rows.
      keys: [B] dropout keys of this layer, or None.
      config: shape, activation, place of the norms, dropout.
      compute: precision of the products.
    """

    def attention_part(h: Array) -> Array:
        h = self_attention(params["attention"], h, attend, _keys_for(keys, 0), compute)
        return dropout(h, _keys_for(keys, 1), config.hidden_dropout)

    def ffn_part(h: Array) -> Array:
        return dropout(feed_forward(params["ffn"], h, config, compute), _keys_for(keys, 2), config.hidden_dropout)

    for name, part in (("attention", attention_part), ("ffn", ffn_part)):
        norm = params["norms"][name]
        if config.norm == "post":
            x = layer_norm(x + part(x), norm, config.norm_epsilon)
        else:
            x = x + part(layer_norm(x, norm, config.norm_epsilon))
    return x


# --- All layers ----------------------------------------------------------------------------------------------------


def _init_linear(key: Array, stack: int, fan_in: int, fan_out: int, std: float) -> dict:
    kernel = jax.vmap(lambda k: matrix_init(std)(k, (fan_in, fan_out)))(jax.random.split(key, stack))
    return {"kernel": kernel, "bias": jnp.zeros((stack, fan_out))}


def init_attention(key: Array, config: Model, stack: int) -> dict:
    """Stacked query, key, value and output: kernels [stack, D, D], biases [stack, D]."""
    names = ("query", "key", "value", "output")
    width = config.hidden_size
    return {
        n: _init_linear(k, stack, width, width, config.init_std)
        for n, k in zip(names, jax.random.split(key, 4), strict=True)
    }


def init_ffn(key: Array, config: Model, stack: int) -> dict:
    """Stacked up and down: kernels [stack, D, F] and [stack, F, D]."""
    up, down = jax.random.split(key)
    width, inner, std = config.hidden_size, config.ffn_size, config.init_std
    return {"up": _init_linear(up, stack, width, inner, std), "down": _init_linear(down, stack, inner, width, std)}


def init_norms(key: Array, config: Model, stack: int) -> dict:
    """Stacked scale and bias of the norms beside attention and feed-forward: [stack, D]."""
    del key
    shape = (stack, config.hidden_size)
    return {part: {"scale": jnp.ones(shape), "bias": jnp.zeros(shape)} for part in ("attention", "ffn")}


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
        x: Array,
        attend: Attend,
        keys: Array | None,
        collect: bool = False,
        span: tuple[int, int] | None = None,
    ) -> tuple[Array, Array | None]:
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
    numbers = _LAYER_SITES + jnp.arange(config.num_layers).reshape(groups, depth)

    def layer(shared_part: dict, x: Array, own_part: dict, number: Array) -> Array:
        return block({**shared_part, **own_part}, x, attend, _keys_for(keys, number), config, compute)

    layer = _remat(layer, config)
    if span is not None:
        layer = _only(layer, _LAYER_SITES + span[0], _LAYER_SITES + span[1])

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


class Encoder(nn.Module):
    """Token ids to hidden states."""

    config: Model
    compute: Compute = "float32"

    def setup(self):
        c = self.config
        self.embeddings = Embeddings(c)
        if c.projected:
            self.projection = Linear(c.hidden_size, c.init_std, self.compute)
        self.layers = Layers(c, self.compute)
        if c.norm == "pre":
            self.final_norm = Norm(c.norm_epsilon)

    def embed(
        self, tokens: Array, positions: Array, token_types: Array, keys: Array | None, shift: Array | None = None
    ) -> Array:
        """The projected embeddings [B, L, D]; `shift` [B, L, E] is added to the word vectors."""
        x = self.embeddings(tokens, positions, token_types, keys, shift)
        if self.config.projected:
            x = self.projection(x)
        return x.astype(activation_dtype(self.compute))

    def apply_layers(
        self, x: Array, segments: Array, keys: Array | None, first: int = 0, last: int | None = None
    ) -> Array:
        """Layers `first` to before `last` (None: all that follow), and after the last of all the final norm if any."""
        layers = self.config.num_layers
        last = layers if last is None else last
        span = None if (first, last) == (0, layers) else (first, last)
        x, _ = self.layers(x, attend_in(segments, self.config, self.compute), keys, span=span)
        return self.final_norm(x) if self.config.norm == "pre" and last == layers else x

    def __call__(
        self, tokens: Array, segments: Array, positions: Array, token_types: Array, dropout_keys: Array | None = None
    ) -> Array:
        """Hidden states of the last layer.

        Args:
          tokens: [B, L] int32 ids.
          segments: [B, L] int32, 1..P for the window a token belongs to, 0 for padding. Tokens see their own window.
          positions: [B, L] int32, starting at 0 in every window.
          token_types: [B, L] int32; not read where the model has no token types.
          dropout_keys: [B] keys, one a row; None switches dropout off.

        Returns:
          [B, L, D].
        """
        return self.apply_layers(self.embed(tokens, positions, token_types, dropout_keys), segments, dropout_keys)

    def hidden_states(self, tokens: Array, segments: Array, positions: Array, token_types: Array) -> list[Array]:
        """The projected embeddings and the states after each layer: N + 1 arrays [B, L, D]."""
        x = self.embed(tokens, positions, token_types, None)
        last, states = self.layers(x, attend_in(segments, self.config, self.compute), None, collect=True)
        states = [x, *jnp.asarray(states)]
        if self.config.norm == "pre":
            states[-1] = self.final_norm(last)
        return states
