"""Trees that tell the step that they belong to, and checkpoints of them."""

import pathlib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bertlite_jax.train import checkpoint
from bertlite_jax.train.optimizers.adam import promoting


def params_at(step: int) -> dict[str, Any]:
    """Parameters whose every value tells the step. No two arrays are alike, and none is constant."""
    keys = jax.random.split(jax.random.key(step), 2)
    return {
        "embeddings": {"word": {"embedding": jax.random.normal(keys[0], (64, 16))}},
        "layers": {"ffn": {"up": {"bias": jax.random.normal(keys[1], (1, 32))}}},
        "half": jnp.arange(8, dtype=jnp.bfloat16) + step,
    }


def optimiser() -> optax.GradientTransformation:
    """Nested states, empty states and masked leaves, as a real chain has them."""

    def decays(params):
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    chain = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.masked(optax.adam(1e-3), decays),
        optax.scale_by_schedule(optax.linear_schedule(1.0, 0.0, 10)),
    )
    return promoting(chain)  # One of the parameters is bfloat16, which optax widens.


def opt_at(step: int) -> optax.OptState:
    """An optimiser's state whose values tell the step."""
    params = params_at(step)
    return optimiser().update(params, optimiser().init(params), params)[1]


def like(tree: Any, sharding: jax.sharding.Sharding | None = None) -> Any:
    """Shapes, dtypes and places of a tree's arrays; by default all on the first device."""
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def assert_same_bits(one: Any, other: Any) -> None:
    """Two trees have the same structure, dtypes, shapes and bytes."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def write(folder: pathlib.Path, steps: Iterable[int], keep_last: int = 100, keep_every: int = 0) -> None:
    """Saves these steps one after the other."""
    checkpoints = checkpoint.open_checkpoints(folder, keep_last, keep_every)
    for step in steps:
        checkpoint.save(checkpoints, step, params_at(step), opt_at(step), {"step": step})
    checkpoint.finish(checkpoints)


def assert_holds(folder: pathlib.Path, step: int) -> None:
    """The checkpoint has what was saved at its step, to the bit."""
    params, opt, meta = checkpoint.restore(folder, step, like(params_at(0)), like(opt_at(0)))
    assert_same_bits(params, params_at(step))
    assert_same_bits(opt, opt_at(step))
    assert meta == {"step": step}
