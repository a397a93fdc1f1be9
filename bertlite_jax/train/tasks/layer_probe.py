"""Task heads on frozen states, those of all layers at once: only the heads learn.

Letters: N + 1 layers (0 the embeddings; `layers` in shapes), B examples in a batch, P states of an example (its
choices; else 1), D hidden, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from bertlite_jax.config.model import Head
from bertlite_jax.train.optimizers.adam import promoting
from bertlite_jax.train.step import row_keys
from bertlite_jax.train.tasks import task_loss

Batch = dict[str, np.ndarray]
"""states [N + 1, B, P, D] float32; labels and weights [B, P] or [B, P, C], choices [B, P], as `batches.Layout`."""
Apply = Callable[[Any, Float[Array, "B P D"], Key[Array, " B"] | None], Float[Array, "B P C"]]
"""Of one head: (parameters, states, dropout keys) -> logits."""


class Scale(NamedTuple):
    """Of the training states, so that layers of different sizes are learnt from alike."""

    mean: Float[np.ndarray, "layers 1 1 D"]
    deviation: Float[np.ndarray, "layers 1 1 D"]


def fit(
    init: Callable[[Key[Array, ""]], Any],
    apply: Apply,
    head: Head,
    layers: int,
    batches: Iterator[Batch],
    scale: Scale,
    rate: Callable[[Any], Any] | float,
    seed: int,
) -> Any:
    """Trains one head for each layer with AdamW, all from the same beginning and on the same batches.

    Args:
      init: key -> parameters of one head.
      apply: of one head.
      head: what its logits mean.
      layers: N + 1.
      batches: all that is learnt from, in order.
      scale: of the states.
      rate: learning rate, or a schedule.
      seed: of the heads and their dropout.

    Returns:
      Parameters with a leading axis [N + 1].

    Source: the probes of Alain and Bengio 2016 (arXiv 1610.01644); heads that are compared between layers, Tenney et
    al. 2019 (arXiv 1905.05950).
    """
    key = jax.random.key(seed)
    params = jax.tree.map(lambda leaf: jnp.stack([leaf] * layers), init(key))
    optimizer = promoting(optax.adamw(rate, weight_decay=0.01))
    opt = optimizer.init(params)

    @jax.jit
    def step(params: Any, opt: Any, batch: dict[str, Array], number: Array) -> tuple[Any, Any]:
        rows = jnp.arange(batch["weights"].shape[0])
        keys = None
        if head.dropout:
            keys = row_keys(jax.random.fold_in(key, number), rows)

        def loss(params: Any) -> Float[Array, ""]:
            logits = jax.vmap(apply, in_axes=(0, 0, None))(params, scaled(batch["states"], scale), keys)
            totals = jax.vmap(lambda each: task_loss.sum_of(head, each, batch)[0])(logits)
            return jnp.sum(totals) / jnp.maximum(jnp.sum(batch["weights"]), 1.0)

        updates, opt = optimizer.update(jax.grad(loss)(params), opt, params)
        return optax.apply_updates(params, updates), opt

    for number, batch in enumerate(batches):
        params, opt = step(params, opt, batch, np.int32(number))
    return params


def scaled(states: Any, scale: Scale) -> Any:
    """States with mean 0 and deviation 1 in each direction of each layer."""
    return (states - scale.mean) / scale.deviation


def make_answers(
    apply: Apply, scale: Scale
) -> Callable[[Any, Float[Array, "layers B P D"]], Float[Array, "layers B P C"]]:
    """Returns (parameters of all heads, states) -> logits."""
    return jax.jit(lambda params, states: jax.vmap(lambda p, s: apply(p, s, None))(params, scaled(states, scale)))
