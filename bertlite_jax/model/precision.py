"""Which arithmetic the matrix products use on this machine, and a small trial before relying on it.

Three modes. `float32` is plain. `bfloat16` is what TPUs and GPUs are built for. `amx` is bfloat16 on CPUs: XLA reaches
the tile unit only for products of bfloat16 operands with a float32 result and the contracted axis minor, so
`model/dense.py` writes them that way. On a CPU without AMX bfloat16 is many times slower than float32 and never chosen.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.model import cpu

Compute = Literal["float32", "bfloat16", "amx"]

log = logging.getLogger(__name__)


def target_platform() -> str:
    """What the program being traced will run on: the devices of the mesh around it, or without one this machine's.

    A step that is compiled on a CPU for a TPU must be written for the TPU.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None else jax.default_backend()


def resolve(setting: Literal["auto", "float32", "bfloat16"], platform: str) -> Compute:
    """The mode of the products for a config value on a platform.

    Args:
      setting: `Model.compute`.
      platform: `jax.devices()[0].platform`: cpu, gpu or tpu.

    Returns:
      `auto` on CPU is `amx` where the CPU has AMX and a trial of the products succeeds, else `float32`. `bfloat16` on
      CPU falls back the same way, with a warning: there is no other fast bfloat16 there.
    """
    if setting == "float32":
        return "float32"
    if platform != "cpu":
        return "bfloat16"
    level = logging.WARNING if setting == "bfloat16" else logging.INFO
    if "amx_bf16" not in cpu.flags():
        log.log(level, "precision: this CPU has no AMX; the products use float32")
        return "float32"
    reason = trial()
    if reason:
        log.warning("precision: a trial of AMX products failed (%s); the products use float32", reason)
        return "float32"
    return "amx"


@functools.cache
def trial() -> str:
    """Compiles and runs a small layer with its gradients in mode `amx`; the reason of a failure, or "".

    XLA refuses some products of this kind only when they run (`Unsupported element type for DotThunk::Execute`), so
    the trial has each kind: dense layers, attention, the product with a transposed table.
    """
    from bertlite_jax.model import attention, dense

    size, length = dense.AMX_MIN_SIZE, dense.AMX_MIN_ROWS
    generator = np.random.default_rng(0)
    draw = functools.partial(generator.normal, scale=size**-0.5)
    values = {
        "x": generator.normal(size=(2, length, size)),
        "parts": {name: {"kernel": draw(size=(size, size)), "bias": draw(size=size)} for name in _TRIAL_LAYERS},
        "table": draw(size=(4 * size, size)),
    }
    values = jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), values)
    segments = jnp.tile(jnp.arange(length) // (length // 2), (2, 1))
    attend = functools.partial(
        attention.joined_attention, heads=2, segments=segments, mask=attention.segment_mask(segments), impl="xla"
    )

    def loss(values: Any, compute: Compute) -> jax.Array:
        mixed = attend(dense.qkv(values["x"], values["parts"], compute), compute=compute)
        hidden = dense.activation(dense.dense(mixed, values["parts"]["output"], compute), "gelu_tanh")
        return jnp.mean(jnp.square(dense.matmul(hidden, values["table"].T, compute)))

    def with_gradient(compute: Compute) -> np.ndarray:
        value, gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)(values, compute)
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves((value, gradient))])

    right = with_gradient("float32")
    try:
        error = np.linalg.norm(with_gradient("amx") - right) / np.linalg.norm(right)
    except jax.errors.JaxRuntimeError as refused:
        return str(refused).splitlines()[0]
    return "" if error < 0.02 else f"its results are off by {error:.1%}"


_TRIAL_LAYERS = ("query", "key", "value", "output")


def partitioned() -> bool:
    """Whether XLA's partitioner splits the computation that is being traced along some axis of the mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return any(mesh.shape[axis] > 1 for axis in mesh.auto_axes)
