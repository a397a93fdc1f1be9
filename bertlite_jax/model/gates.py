"""A task model with a factor on each attention head and each feed-forward neuron: what it answers without some of them.

Letters: B rows, L tokens in a row, D hidden, H heads of a layer, F neurons of a layer, C outputs.
Source: Michel et al. 2019 (arXiv 1905.10650), section 2.2.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32

from bertlite_jax.config.model import Model
from bertlite_jax.model.layers import Attend, Params, attend_in, block, parts_of
from bertlite_jax.model.ops.elementwise import layer_norm
from bertlite_jax.model.ops.precision import Compute
from bertlite_jax.model.residual_scale import folded
from bertlite_jax.model.task_heads import TaskModel


class Gates(NamedTuple):
    """Factors on what heads and neurons give, for each row; 1 leaves a model as it is, 0 takes the part away.

    Attributes:
      heads: [B, H] of each layer. A layer that shares parameters has gates of its own.
      neurons: [B, F] of each layer.
    """

    heads: list[Float[Array, "B H"]]
    neurons: list[Float[Array, "B F"]]


def open_gates(model: Model, rows: int) -> Gates:
    """Gates of 1 for this number of rows."""
    layers = range(model.num_layers)
    heads = [jnp.ones((rows, model.heads_in(layer))) for layer in layers]
    return Gates(heads, [jnp.ones((rows, model.ffn_size_in(layer))) for layer in layers])


def gated_logits(model: TaskModel, params: Any, rows: Mapping[str, Any], gates: Gates) -> Float32[Array, "B places C"]:
    """What a task model answers with these gates; without dropout.

    Args:
      model: any whose head is not conditioned.
      params: its parameters.
      rows: `tokens`, `segments`, `positions`, `token_types` and `cls`.
      gates: of each row.
    """
    config, variables = model.config, {"params": params}
    inputs = (rows[name] for name in ("tokens", "positions", "token_types"))
    x = model.apply(variables, *inputs, None, method=TaskModel.embed)
    assert isinstance(x, Array)
    attend = attend_in(rows["segments"], config, model.compute)
    x = gated_states(params["layers"], x, attend, gates, config, model.compute)
    if config.norm == "pre":
        x = layer_norm(x, params["final_norm"], config.norm_epsilon)
    if model.head.pooled:
        x = model.apply(variables, x, rows["cls"], method=TaskModel.pooled)
    logits = model.apply(variables, x, None, method=TaskModel.answer)
    assert isinstance(logits, Array)
    return logits


def gated_states(
    layers: Params, x: Float[Array, "B L D"], attend: Attend, gates: Gates, config: Model, compute: Compute
) -> Float[Array, "B L D"]:
    """The states after all layers.

    Args:
      layers: their parameters, as `Layers` or `PrunedLayers` holds them.
      x: projected embeddings.
      attend: attention inside the windows of these rows.
      gates: of each row.
      config: the shape.
      compute: precision of the products.
    """
    layers = folded(layers, config.residual_factor)
    for number, (heads, neurons) in enumerate(zip(gates.heads, gates.neurons, strict=True)):
        gated = functools.partial(_gated, attend, heads)
        x = block(parts_of(layers, config, number), x, gated, None, config, compute, neurons)
    return x


def _gated(attend: Attend, heads: Float[Array, "B H"], qkv: Any, dropout_keys: None) -> Float[Array, "B L D"]:
    """Attention with a factor on each head."""
    mixed = attend(qkv, heads=heads.shape[1], dropout_keys=dropout_keys)
    factors = jnp.repeat(heads, mixed.shape[-1] // heads.shape[1], axis=1)
    return mixed * factors[:, None].astype(mixed.dtype)
