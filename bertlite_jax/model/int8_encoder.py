"""The encoder and its heads in 8-bit integers: s8 x s8 -> s32 products with one activation scale a token.

A forward pass of its own, for answers and for measuring. Nothing here is trained; `encoder.py` is, with the same
products where its mode is one of integers. It computes the integers that the per-token ONNX file computes. Parameters
are those of a container, nested by stored name (`layers/3/ffn/up`; the number is the group's where layers share), with
the residual factor in the kernels. A product is `{kernel, bias}` in float32, or `{kernel int8, kernel_scale, bias,
zero, sums}`; a table is `{embedding}`, or `{embedding int8, embedding_scale}`. A projection of the words alone is
`{kernel}` in float32, and so are low-rank pairs.

Letters: B rows, L tokens, D hidden, E embedding, V vocabulary, C outputs of a task head, H heads.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int

from bertlite_jax.config.model import Head, Model
from bertlite_jax.model.ops import attention, integer_products, products
from bertlite_jax.model.ops.arrays import AnyArray
from bertlite_jax.model.ops.elementwise import activation, layer_norm
from bertlite_jax.model.ops.integer_grid import MIDDLE

Params = Mapping[str, Any]


# --- Products --------------------------------------------------------------------------------------------------------


def product(x: Float32[Array, "*rows In"], site: Params) -> Float32[Array, "*rows Out"]:
    """X times the site's kernel [In, Out] plus its bias.

    A float site with `rounded` (0 or 1, and `zero`) computes in float32 what an integer one would: one compiled program
    then serves every choice of what is quantised.
    """
    kernel = site["kernel"]
    if kernel.dtype != jnp.int8:
        if "rounded" in site:
            integers, step = integer_products.quantize_rows(x, site["zero"])
            x = jnp.where(site["rounded"] > 0, (integers.astype(jnp.float32) + (128 - site["zero"])) * step, x)
        return products.dense(x, site, "float32")
    y = integer_products.scaled(x, kernel, site["kernel_scale"], site["zero"], site["sums"])
    return y + jax.lax.broadcast_to_rank(site["bias"], x.ndim)


def rows(table: Params, ids: Int[AnyArray, "*places"]) -> Float32[Array, "*places E"]:
    """Rows of an embedding table."""
    values = jnp.take(table["embedding"], ids, axis=0, mode="clip").astype(jnp.float32)
    if "embedding_scale" not in table:
        return values
    return values * jnp.take(table["embedding_scale"], ids, mode="clip")[..., None]


def decode(x: Float32[Array, "*rows E"], table: Params, bias: Float32[AnyArray, " V"]) -> Float32[Array, "*rows V"]:
    """X times the transposed word table plus bias."""
    if "embedding_scale" not in table:
        others = {name: value for name, value in table.items() if name != "embedding"}
        return product(x, others | {"kernel": table["embedding"].T, "bias": bias})
    nothing = jnp.zeros(len(bias), jnp.int32)
    y = integer_products.scaled(x, table["embedding"].T, table["embedding_scale"], MIDDLE, nothing)
    return y + jax.lax.broadcast_to_rank(bias, x.ndim)


# --- Encoder ---------------------------------------------------------------------------------------------------------


def hidden_states(
    params: Params,
    config: Model,
    tokens: Int[AnyArray, "B L"],
    segments: Int[AnyArray, "B L"],
    positions: Int[AnyArray, "B L"],
    token_types: Int[AnyArray, "B L"],
) -> list[Float32[Array, "B L D"]]:
    """The projected embeddings and the states after each layer; the arguments are those of `Encoder`."""
    assert config.residual_factor == 1, "containers have the factor in their kernels"
    tables = params["embeddings"]
    x = rows(tables["word"], tokens)
    if config.projects_words:
        x = products.matmul(x, params["projection"]["kernel"], "float32")
    x = x + rows(tables["position"], positions)
    if config.token_types:
        x = x + rows(tables["token_type"], token_types)
    x = layer_norm(x, tables["norm"], config.norm_epsilon)
    if config.projected and not config.projects_words:
        x = product(x, params["projection"])
    mask = attention.segment_mask(segments)
    states = [x]
    for layer in range(config.num_layers):
        states.append(_block(_parts(params["layers"], config, layer), states[-1], mask, config))
    if config.norm == "pre":
        states[-1] = layer_norm(states[-1], params["final_norm"], config.norm_epsilon)
    return states


def _parts(layers: Params, config: Model, layer: int) -> dict[str, Params]:
    """Attention, ffn, norms and what else one layer has, each from its stack."""
    places = {part: config.stack_place(part, layer) for part in config.stack_sizes}
    return {part: layers[str(place)][part] for part, place in places.items() if place is not None}


def _block(
    parts: Mapping[str, Params], x: Float32[Array, "B L D"], mask: Bool[AnyArray, "B L L"], config: Model
) -> Float32[Array, "B L D"]:
    """One layer."""
    if "depth" in parts:
        x = x + jax.lax.broadcast_to_rank(parts["depth"]["bias"], x.ndim)
    for name, apply in (("attention", _attention), ("ffn", _feed_forward)):
        norm = functools.partial(layer_norm, params=parts["norms"][name], epsilon=config.norm_epsilon)
        if config.norm == "post":
            x = norm(x + apply(parts, x, mask, config))
        else:
            x = x + apply(parts, norm(x), mask, config)
    return x


def _attention(
    parts: Mapping[str, Params], x: Float32[Array, "B L D"], mask: Bool[AnyArray, "B L L"], config: Model
) -> Float32[Array, "B L D"]:
    part, heads = parts["attention"], (*x.shape[:2], -1, config.head_size)
    if "query" not in part:  # Its heads are pruned.
        return jnp.broadcast_to(part["output"]["bias"], x.shape)
    q_BLHK, k_BLHK, v_BLHK = (product(x, part[name]).reshape(heads) for name in ("query", "key", "value"))
    mixed = attention.attention(q_BLHK, k_BLHK, v_BLHK, mask, "auto", "float32")
    return product(mixed.reshape(*x.shape[:2], -1), part["output"])


def _feed_forward(
    parts: Mapping[str, Params], x: Float32[Array, "B L D"], mask: Bool[AnyArray, "B L L"], config: Model
) -> Float32[Array, "B L D"]:
    del mask
    if "up" not in parts["ffn"]:
        return jnp.broadcast_to(parts["ffn"]["down"]["bias"], x.shape)
    return _widened(parts, activation(_widened(parts, x, "up"), config.activation), "down")


def _widened(parts: Mapping[str, Params], x: Float32[Array, "B L In"], name: str) -> Float32[Array, "B L Out"]:
    """A feed-forward product, and the layer's own low-rank pair beside it, if it has one, in float32."""
    y = product(x, parts["ffn"][name])
    if "low_rank" not in parts:
        return y
    left, right = parts["low_rank"][f"{name}_in"]["kernel"], parts["low_rank"][f"{name}_out"]["addition"]
    return y + products.matmul(products.matmul(x, left, "float32"), right, "float32")


# --- Heads -----------------------------------------------------------------------------------------------------------


def masked_lm(params: Params, config: Model, hidden: Float32[Array, "*rows D"]) -> Float32[Array, "*rows V"]:
    """Logits of the masked language model."""
    x = activation(product(hidden, params["mlm"]["dense"]), config.activation)
    x = layer_norm(x, params["mlm"]["norm"], config.norm_epsilon)
    if config.projects_words:
        x = products.matmul(x, params["projection"]["kernel"].T, "float32")
    return decode(x, params["embeddings"]["word"], params["mlm"]["bias"])


def pooled(params: Params, hidden: Float32[Array, "B L D"], head: Head | None = None) -> Float32[Array, "B D"]:
    """Dense and activation on the state of [CLS]; tanh without a task head."""
    return _activate(product(hidden[:, 0], params["pooler"]), head)


def task(params: Params, head: Head, hidden: Float32[Array, "B L D"]) -> Float32[Array, "*places C"]:
    """Logits of a task head: [B, C] for classify and choose, otherwise [B, L, C]."""
    x = pooled(params, hidden, head) if head.pooled else hidden
    for number in range(len(head.hidden)):
        x = _activate(product(x, params["head"][f"hidden_{number}"]), head)
    return product(x, params["head"]["output"])


def _activate(x: Float32[Array, "*rows D"], head: Head | None) -> Float32[Array, "*rows D"]:
    return jax.nn.relu(x) if head and head.activation == "relu" else jnp.tanh(x)


@functools.partial(jax.jit, static_argnames=("config", "head"))
def answer(
    params: Params,
    config: Model,
    head: Head | None,
    input_ids: Int[AnyArray, "B L"],
    attention_mask: Int[AnyArray, "B L"],
    token_type_ids: Int[AnyArray, "B L"],
) -> dict[str, Float32[Array, "*shape"]]:
    """What an ONNX file of the same model answers, by the same names.

    Args:
      params: as the docstring of this file says.
      config: shape of the encoder.
      head: of a task model; None for an encoder.
      input_ids: tokens; a row of `choose` is one choice.
      attention_mask: 1 for tokens, 0 for padding.
      token_type_ids: not read where the model has no token types.

    Returns:
      `last_hidden_state` [B, L, D]; `pooler_output` [B, D] where there is a pooler; `logits` of the task head (for
      `span` [B, L, 2], start and end), or else of the masked language model, [B, L, V], where there is one.
    """
    positions = jnp.broadcast_to(jnp.arange(input_ids.shape[1]), input_ids.shape)
    last = hidden_states(params, config, input_ids, attention_mask, positions, token_type_ids)[-1]
    outputs = {"last_hidden_state": last}
    if "pooler" in params:
        outputs["pooler_output"] = pooled(params, last, head)
    if head:
        outputs["logits"] = task(params, head, last)
    elif "mlm" in params:
        outputs["logits"] = masked_lm(params, config, last)
    return outputs
