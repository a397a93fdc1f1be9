"""What training carries from step to step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from bertlite_jax.train import sharding


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a checkpoint holds."""

    step: Array
    """[] int32: updates made so far."""
    params: Any
    """Nested dict of float32 arrays."""
    opt: Any
    """The optimiser's state."""


def init_state(
    init: Callable[[Array], Any], optimizer: optax.GradientTransformation, seed: int, mesh: Mesh
) -> TrainState:
    """Fresh weights and optimiser state, made on the devices that will hold them.

    Args:
      init: `init(key) -> params`.
      optimizer: whose state is made for these parameters.
      seed: of the weights. The same weights come out on any number of devices.
      mesh: where the state lives.
    """

    def make(key: Array) -> TrainState:
        params = init(key)
        return TrainState(step=jnp.int32(0), params=params, opt=optimizer.init(params))

    return jax.jit(make, out_shardings=sharding.replicated(mesh))(jax.random.key(seed))


def shapes_of(tree: Any, mesh: Mesh) -> Any:
    """The tree's shapes, dtypes and places, for restoring a checkpoint into."""
    place = sharding.replicated(mesh)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), tree)


def count_parameters(params: Any) -> int:
    """Numbers in the tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
