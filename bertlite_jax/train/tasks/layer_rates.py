"""Learning rates that differ by depth: decay from layer to layer, and layers that stay as they are."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax

from bertlite_jax.config.finetune import Adapt
from bertlite_jax.train.optimizers.names import STACKED

LOWEST = ("embeddings", "projection")
ABOVE = ("final_norm", "pooler", "head", "domains")


def scale_by_depth(adapt: Adapt, num_layers: int, params: Any) -> optax.GradientTransformation:
    """Multiplies finished updates, weight decay included, by a factor for each depth.

    With N layers, counted from 0, and d = `layer_decay`: head and pooler 1, layer i d^(N - i), embeddings d^(N + 1);
    0 for what is frozen.

    Args:
      adapt: `layer_decay` and `freeze_layers`.
      num_layers: N; stacked parameters have N layers on axis 0 where either setting needs to tell them apart.
      params: parameters or their shapes.

    Source: Howard and Ruder 2018 (arXiv 1801.06146), section 3.2; google-research/electra:model/optimization.py.
    """
    if adapt.layer_decay == 1.0 and not adapt.freeze_layers:
        return optax.identity()
    factors = jax.tree_util.tree_map_with_path(lambda path, leaf: _factor(adapt, num_layers, path, leaf), params)

    def update(updates: optax.Updates, state: Any, params: Any = None) -> tuple[optax.Updates, Any]:
        del params
        return jax.tree.map(lambda u, factor: u * factor, updates, factors), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _factor(adapt: Adapt, num_layers: int, path: tuple[Any, ...], leaf: Any) -> np.ndarray | np.float32:
    """Of one parameter: [] or [N, 1, ...]."""
    part = str(getattr(path[0], "key", path[0]))
    if part in ABOVE:
        return np.float32(1)
    if adapt.freeze_layers < 0:
        return np.float32(0)
    if part in LOWEST:
        return np.float32(0 if adapt.freeze_layers else adapt.layer_decay ** (num_layers + 1))
    if part != STACKED:
        raise ValueError(f"no depth is known for parameter {part}")
    depth = np.arange(num_layers)
    place = str(getattr(path[1], "key", path[1]))
    if place.isdigit():  # Of a pruned model.
        depth = depth[int(place) : int(place) + 1]
    factors = np.where(depth < adapt.freeze_layers, 0.0, adapt.layer_decay ** (num_layers - depth))
    factors = factors.astype(np.float32)
    return np.float32(factors[0]) if place.isdigit() else factors.reshape(-1, *[1] * (len(leaf.shape) - 1))
