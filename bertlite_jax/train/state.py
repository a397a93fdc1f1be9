"""What training carries from step to step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from bertlite_jax.config.distillation.settings import OWN
from bertlite_jax.host import program_cache
from bertlite_jax.train import sharding


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a checkpoint holds; or, in the place of each array, its shape or where it lies."""

    step: Any
    """[] int32: updates made so far."""
    params: Any
    """Nested dict of float32 arrays."""
    opt: Any
    """The optimiser's state."""


def init_state(
    init: Callable[[Key[Array, ""]], Any],
    optimizer: optax.GradientTransformation,
    seed: int,
    layout: sharding.Layout,
    follows_from: str = "",
) -> TrainState:
    """Fresh weights and optimiser state, made on the devices that will hold them.

    Args:
      init: `init(key) -> params`.
      optimizer: whose state is made for these parameters.
      seed: of the weights. The same weights come out on any number of devices.
      layout: where the state lives.
      follows_from: all that the first two are made of, so that an earlier process's program serves
        (`program_cache.fetch`); empty: compiled here.
    """

    def make(key: Key[Array, ""]) -> TrainState:
        params = init(key)
        return TrainState(step=jnp.int32(0), params=params, opt=optimizer.init(params))

    def lower_make() -> jax.stages.Lowered:
        return jax.jit(make, out_shardings=places_of(layout, optimizer)).lower(key)

    key = jax.random.key(seed)
    follows_from = follows_from and f"first state of {follows_from}"
    return program_cache.fetch(follows_from, layout.mesh.devices.flatten().tolist(), lower_make)(key)


def places_of(layout: sharding.Layout, optimizer: optax.GradientTransformation) -> TrainState:
    """Where everything lies: a `NamedSharding` in the place of each array."""
    opt = sharding.places_of_optimizer(jax.eval_shape(optimizer.init, layout.shapes), layout)
    step = sharding.replicated(layout.mesh)
    return TrainState(step=step, params=sharding.places(layout.params, layout.mesh), opt=opt)


def shapes_of(layout: sharding.Layout, optimizer: optax.GradientTransformation) -> TrainState:
    """Shapes, dtypes and places of a state, for restoring a checkpoint into and for compiling."""
    step = jax.ShapeDtypeStruct((), jnp.int32)
    shapes = TrainState(step=step, params=layout.shapes, opt=jax.eval_shape(optimizer.init, layout.shapes))
    places = places_of(layout, optimizer)
    return jax.tree.map(lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), shapes, places)


def count_parameters(params: Any) -> int:
    """Numbers in a model's tree, without what belongs to its run alone (`OWN`)."""
    return sum(leaf.size for part, tree in params.items() if part != OWN for leaf in jax.tree.leaves(tree))
