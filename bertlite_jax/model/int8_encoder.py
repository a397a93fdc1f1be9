"""The encoder and its heads in 8-bit integers: s8 x s8 -> s32 products with one activation scale a token.

A forward pass of its own, for answers and for measuring: nothing here is trained. It computes the integers that the
per-token ONNX file computes. Parameters are those of a container, nested by stored name (`layers/3/ffn/up`; the number
is the group's where layers share): a product is `{kernel, bias}` in f32, or `{kernel int8, kernel_scale, bias, zero,
sums}`; a table `{embedding}`, or `{embedding int8, embedding_scale}`.

Letters: B rows, L tokens, D hidden, E embedding, V vocabulary, C outputs of a task head.
Source: the scheme of huggingface/pytorch's torchao `Int8DynamicActivationInt8WeightConfig`, with a zero point of its
own for what GELU has made.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from bertlite_jax.config.model import Head, Model
from bertlite_jax.model.ops import attention, products
from bertlite_jax.model.ops.elementwise import activation, layer_norm

SMALLEST_STEP = 1e-30
"""Of a row: a row of zeros has a finite reciprocal."""

Params = Mapping[str, Any]


# --- Products --------------------------------------------------------------------------------------------------------


def quantize_rows(x: Array, zero: Array | float) -> tuple[Array, Array]:
    """Each row as whole steps: [..., In] -> int8 [..., In], which is the u8 number less 128, and steps [..., 1].

    Args:
      x: float32.
      zero: u8 number that stands for 0; a row's step is the smallest with which [-zero, 255 - zero] steps hold it.
    """
    highest = jnp.max(x, axis=-1, keepdims=True) * (1 / (255 - zero))
    lowest = jnp.min(x, axis=-1, keepdims=True) * jnp.where(zero == 0, 0.0, -1 / jnp.maximum(zero, 1.0))
    step = jnp.maximum(jnp.maximum(highest, lowest), SMALLEST_STEP)
    return (jnp.clip(jnp.round(x / step) + zero, 0, 255) - 128).astype(jnp.int8), step


def product(x: Array, site: Params) -> Array:
    """X [..., In] float32 times the site's kernel [In, Out] plus its bias: [..., Out] float32.

    A float site with `rounded` (0 or 1, and `zero`) computes what an integer one would, in f32: one compiled program
    then serves every choice of what is quantised.
    """
    kernel = site["kernel"]
    if kernel.dtype != jnp.int8:
        if "rounded" in site:
            integers, step = quantize_rows(x, site["zero"])
            x = jnp.where(site["rounded"] > 0, (integers + (128 - site["zero"])) * step, x)
        return products.dense(x, site, "float32")
    return _scaled(x, kernel, site["zero"], site["sums"]) * site["kernel_scale"] + site["bias"]


def _scaled(x: Array, kernel: Array, zero: Array, sums: Array) -> Array:
    """The integer product times the rows' steps; `sums` [Out] int32: (128 - zero) times the kernel's column sums."""
    integers, step = quantize_rows(x, zero)
    sides = (((x.ndim - 1,), (0,)), ((), ()))
    total = jax.lax.dot_general(integers, kernel, sides, preferred_element_type=jnp.int32)
    return (total + sums).astype(jnp.float32) * step


def rows(table: Params, ids: Array) -> Array:
    """Rows of an embedding table: [...] int32 -> [..., E] float32."""
    found = jnp.take(table["embedding"], ids, axis=0, mode="clip").astype(jnp.float32)
    if "embedding_scale" not in table:
        return found
    return found * jnp.take(table["embedding_scale"], ids, mode="clip")[..., None]


def decode(x: Array, table: Params, bias: Array) -> Array:
    """X [..., E] times the transposed word table plus bias [V]: [..., V]."""
    if "embedding_scale" not in table:
        return product(
            x, {k: v for k, v in table.items() if k != "embedding"} | {"kernel": table["embedding"].T, "bias": bias}
        )
    nothing = jnp.zeros(len(bias), jnp.int32)
    return _scaled(x, table["embedding"].T, jnp.float32(128), nothing) * table["embedding_scale"] + bias


# --- Encoder ---------------------------------------------------------------------------------------------------------


def hidden_states(
    params: Params, config: Model, tokens: Array, segments: Array, positions: Array, token_types: Array
) -> list[Array]:
    """The projected embeddings and the states after each layer: N + 1 arrays [B, L, D]; `Encoder` has the arguments."""
    tables = params["embeddings"]
    x = rows(tables["word"], tokens) + rows(tables["position"], positions)
    if config.token_types:
        x = x + rows(tables["token_type"], token_types)
    x = layer_norm(x, tables["norm"], config.norm_epsilon)
    if config.projected:
        x = product(x, params["projection"])
    mask = attention.segment_mask(segments)
    states = [x]
    for layer in range(config.num_layers):
        states.append(_block(_parts(params["layers"], config, layer), states[-1], mask, config))
    if config.norm == "pre":
        states[-1] = layer_norm(states[-1], params["final_norm"], config.norm_epsilon)
    return states


def _parts(layers: Params, config: Model, layer: int) -> dict[str, Params]:
    """Attention, ffn and norms of one layer, from the stacks that it finds them in."""
    return {part: layers[str(layer // (config.num_layers // size))][part] for part, size in config.stack_sizes.items()}


def _block(parts: Mapping[str, Params], x: Array, mask: Array, config: Model) -> Array:
    """One layer, [B, L, D] -> [B, L, D]."""
    for name, apply in (("attention", _attention), ("ffn", _feed_forward)):
        norm = functools.partial(layer_norm, params=parts["norms"][name], epsilon=config.norm_epsilon)
        if config.norm == "post":
            x = norm(x + apply(parts[name], x, mask, config))
        else:
            x = x + apply(parts[name], norm(x), mask, config)
    return x


def _attention(part: Params, x: Array, mask: Array, config: Model) -> Array:
    heads = (*x.shape[:2], config.num_heads, config.head_size)
    q_BLHK, k_BLHK, v_BLHK = (product(x, part[name]).reshape(heads) for name in ("query", "key", "value"))
    mixed = attention.attention(q_BLHK, k_BLHK, v_BLHK, mask, "auto", "float32")
    return product(mixed.reshape(x.shape), part["output"])


def _feed_forward(part: Params, x: Array, mask: Array, config: Model) -> Array:
    del mask
    return product(activation(product(x, part["up"]), config.activation), part["down"])


# --- Heads -----------------------------------------------------------------------------------------------------------


def masked_lm(params: Params, config: Model, hidden: Array) -> Array:
    """Logits of the masked language model, [..., D] -> [..., V]."""
    x = activation(product(hidden, params["mlm"]["dense"]), config.activation)
    x = layer_norm(x, params["mlm"]["norm"], config.norm_epsilon)
    return decode(x, params["embeddings"]["word"], params["mlm"]["bias"])


def pooled(params: Params, hidden: Array, head: Head | None = None) -> Array:
    """Dense and activation on the state of [CLS], [B, L, D] -> [B, D]."""
    return _activate(product(hidden[:, 0], params["pooler"]), head)


def task(params: Params, head: Head, hidden: Array) -> Array:
    """Logits of a task head, [B, L, D] -> [B, C] for classify and choose, else [B, L, C]."""
    x = pooled(params, hidden, head) if head.pooled else hidden
    for number in range(len(head.hidden)):
        x = _activate(product(x, params["head"][f"hidden_{number}"]), head)
    return product(x, params["head"]["output"])


def _activate(x: Array, head: Head | None) -> Array:
    return jax.nn.relu(x) if head and head.activation == "relu" else jnp.tanh(x)


@functools.partial(jax.jit, static_argnames=("config", "head"))
def answer(
    params: Params, config: Model, head: Head | None, input_ids: Array, attention_mask: Array, token_type_ids: Array
) -> dict[str, Array]:
    """What an ONNX file of the same model answers, by the same names.

    Args:
      params: as the head of this file says.
      config: shape of the encoder.
      head: of a task model.
      input_ids, attention_mask, token_type_ids: [B, L] int32; a row of `choose` is one choice.

    Returns:
      last_hidden_state [B, L, D]; pooler_output [B, D] where there is a pooler; logits of the task head or [B, L, V]
      of the masked language model, where there is one; for `span` logits [B, L, 2], start and end.
    """
    positions = jnp.broadcast_to(jnp.arange(input_ids.shape[1]), input_ids.shape)
    last = hidden_states(params, config, input_ids, attention_mask, positions, token_type_ids)[-1]
    found = {"last_hidden_state": last}
    if "pooler" in params:
        found["pooler_output"] = pooled(params, last, head)
    if head:
        found["logits"] = task(params, head, last)
    elif "mlm" in params:
        found["logits"] = masked_lm(params, config, last)
    return found
