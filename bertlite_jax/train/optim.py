"""The optimiser that a config names, composed of the parts in `train/optimizers/`.

With gradient g (clipped to a global norm), parameter p and learning rate a, LAMB and AdamW compute, as the ALBERT and
BERT releases do, element by element:

    m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2
    u = m / (sqrt(v) + eps) + wd p
    p = p - a r u                r = |p| / |u| under LAMB (1 where either norm is 0), 1 under AdamW

The papers correct m and v for their zero start, the releases do not; `bias_correction` adds it. LAMB's first version
also limits |p|, which the release does not. Biases and LayerNorm parameters get neither weight decay nor a trust
ratio: their norms start at or near 0, and the ratio would freeze them.

Muon and NorMuon (`train/optimizers/muon.py`) move the kernels of layers and projection; embeddings, biases, norms and
heads are AdamW's.

Source: You et al. 2020 (arXiv 1904.00962); google-research/albert:lamb_optimizer.py and optimization.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from bertlite_jax.config.pretrain import Optim
from bertlite_jax.train.optimizers import adam, lamb, muon
from bertlite_jax.train.optimizers.names import decay_mask
from bertlite_jax.train.schedules import schedule


def make_optimizer(
    optim: Optim,
    steps: int,
    batch_rows: int,
    params: Any,
    whole: Callable[[jax.Array], jax.Array] = lambda matrix: matrix,
) -> optax.GradientTransformation:
    """Clipping, direction, decoupled weight decay, trust ratio (LAMB), learning rate, in this order.

    The norms are sums over whole parameters. Under jit they are right however the parameters are sharded; inside a
    `shard_map` that splits parameters they would not be.

    Args:
      optim: the settings.
      steps: updates in the run, T of the schedule.
      batch_rows: rows in the global batch.
      params: parameters or their shapes; only names and structure are used.
      whole: puts a matrix that is split over devices together, for Muon (`muon.directions`).

    Raises:
      ValueError: a parameter has a name for which no rule says whether it is decayed.

    Examples:
      LAMB moves a matrix by the learning rate times its own norm, however large the gradient is. AdamW moves each of
      its sixteen weights by the learning rate.

      >>> import jax.numpy as jnp
      >>> from bertlite_jax.config import Optim
      >>> from bertlite_jax.train.optim import make_optimizer
      >>> params = {"layers": {"ffn": {"up": {"kernel": jnp.full((1, 4, 4), 0.5)}}}}  # One layer; its norm is 2.
      >>> gradient = {"layers": {"ffn": {"up": {"kernel": jnp.full((1, 4, 4), 8.0)}}}}
      >>> for name in ("lamb", "adamw"):
      ...     optim = Optim(name=name, learning_rate=0.01, warmup_steps=0, weight_decay=0.0, bias_correction=True)
      ...     optimizer = make_optimizer(optim, steps=10, batch_rows=8, params=params)
      ...     updates, _ = optimizer.update(gradient, optimizer.init(params), params)
      ...     print(name, round(float(jnp.linalg.norm(updates["layers"]["ffn"]["up"]["kernel"])), 4))
      lamb 0.02
      adamw 0.04
    """
    parts = _directions(optim, params, whole)
    return optax.chain(*parts, optax.scale_by_learning_rate(schedule(optim, steps, batch_rows)))


def make_directions(optim: Optim, params: Any) -> optax.GradientTransformation:
    """All of `make_optimizer` but the learning rate, for a caller that multiplies by rates of its own."""
    return optax.chain(*_directions(optim, params))


def _directions(
    optim: Optim, params: Any, whole: Callable[[jax.Array], jax.Array] = lambda matrix: matrix
) -> list[optax.GradientTransformation]:
    decay = optax.add_decayed_weights(optim.weight_decay, decay_mask(params))
    parts = [adam.clip_by_global_norm(optim.clip_norm)] if optim.clip_norm > 0 else []
    if optim.name in ("lamb", "adamw"):
        parts += _adam(optim, decay, params)
    else:
        neuron_decay = optim.neuron_decay if optim.name == "normuon" else None
        kernels = optax.chain(*muon.directions(optim.momentum, neuron_decay, whole), decay)
        others = optax.chain(*_adam(optim, decay, params))
        labels = jax.tree_util.tree_map_with_path(lambda path, _: "muon" if muon.is_muon(path) else "adamw", params)
        parts += [optax.partition({"muon": kernels, "adamw": others}, labels)]
    return parts


def _adam(optim: Optim, decay: optax.GradientTransformation, params: Any) -> list[optax.GradientTransformation]:
    """From gradients to what the learning rate multiplies, by LAMB or AdamW."""
    direction = adam.scale_by_adam_corrected if optim.bias_correction else adam.scale_by_adam_as_released
    parts = [direction(optim.beta1, optim.beta2, optim.epsilon), decay]
    parts += [lamb.scale_by_trust_ratio(decay_mask(params))] if optim.name == "lamb" else []
    if optim.update_clip > 0:
        return [adam.clip_updates(optax.chain(*parts), optim.update_clip, optim.beta2, optim.epsilon)]
    return parts
