"""What can be seen of a model on its way from ids to logits: what a student compares with its teacher.

Letters: B rows, L tokens, P windows, K predictions, D hidden, V vocabulary, C pair classes, N layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key

from bertlite_jax.config.model import Model
from bertlite_jax.model.heads import PretrainingModel, gather_rows
from bertlite_jax.model.layers import Params, parts_of, with_depth
from bertlite_jax.model.ops import products
from bertlite_jax.model.ops.elementwise import layer_norm
from bertlite_jax.model.ops.precision import Compute

Rows = Mapping[str, Array]
"""Prepared rows: `inputs`, `segments`, `positions`, `token_types`, `cls`, `predict_positions`."""


class Request(NamedTuple):
    """What is asked for beside the hidden states of the last layer."""

    masked_logits: bool = False
    """At `predict_positions`."""
    all_logits: bool = False
    """At every token."""
    pair_logits: bool = False
    states: tuple[int, ...] = ()
    """Numbers of hidden states: 0 the embeddings, n those after layer n."""
    projections: tuple[int, ...] = ()
    """Layers, from 1, whose queries, keys and values are asked for."""


def observe(
    model: PretrainingModel, request: Request, params: Any, rows: Rows, dropout_keys: Key[Array, " B"] | None
) -> dict[str, Any]:
    """Runs a model over rows, and computes nothing that is not asked for.

    Args:
      model: whose `params` these are; heads that the request does not need may be missing in them.
      request: what is returned.
      params: as in `PretrainingModel`; further ones are not read.
      rows: as the objective prepares them.
      dropout_keys: one a row; None switches dropout off.

    Returns:
      `hidden` [B, L, D]; and as asked `masked_logits` [B, K, V], `all_logits` [B, L, V], `pair_logits` [B, P, C],
      `states`, a list of [B, L, D], and `projections`, a list of (query, key, value), each [B, L, D].
    """
    variables = {"params": params}
    inputs = (rows["inputs"], rows["segments"], rows["positions"], rows["token_types"], dropout_keys)
    seen: dict[str, Any] = {}
    if request.states or request.projections:
        every = model.apply(variables, *inputs, method=PretrainingModel.hidden_states)
        assert isinstance(every, list)
        hidden = every[-1]
        seen["states"] = [every[number] for number in request.states]
        seen["projections"] = [
            queries_keys_values(params["layers"], layer - 1, every[layer - 1], model.config, model.compute)
            for layer in request.projections
        ]
    else:
        hidden = model.apply(variables, *inputs, method=PretrainingModel.last_states)
    seen["hidden"] = jnp.asarray(hidden)
    if request.masked_logits:
        predicted = gather_rows(seen["hidden"], rows["predict_positions"])
        seen["masked_logits"] = model.apply(variables, predicted, method=PretrainingModel.word_logits)
    if request.all_logits:
        seen["all_logits"] = model.apply(variables, seen["hidden"], method=PretrainingModel.word_logits)
    if request.pair_logits:
        seen["pair_logits"] = model.apply(variables, seen["hidden"], rows["cls"], method=PretrainingModel.pair_logits)
    return seen


def queries_keys_values(
    layers: Params, layer: int, x: Float[Array, "B L D"], config: Model, compute: Compute
) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"], Float[Array, "B L D"]]:
    """Queries, keys and values of one layer, computed again from its input; all heads side by side.

    Args:
      layers: stacked parameters of all layers, as `Layers` holds them.
      layer: its number, from 0.
      x: what the layer reads.
      config: shape and place of the norms.
      compute: precision of the products.
    """
    own = parts_of(layers, config, layer)
    x = with_depth(own, x)
    if config.norm == "pre":
        x = layer_norm(x, own["norms"]["attention"], config.norm_epsilon)
    query, key, value = (products.dense(x, own["attention"][name], compute) for name in ("query", "key", "value"))
    return query, key, value
