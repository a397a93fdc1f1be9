"""The arithmetic modes of matrix products, and the platform that the program being traced will run on.

There are three modes. `float32` is plain. `bfloat16` is what TPUs and GPUs are built for. `cpu_bfloat16` is bfloat16 as
CPUs multiply it, by AMX or AVX-512: XLA hands those products to its library only if operands are bfloat16, the result
is float32 and the contracted axis is minor in memory, so `products.py` writes them that way. On other CPUs bfloat16 is
slower than float32; `choose_precision.py` finds out.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

Compute = Literal["float32", "bfloat16", "cpu_bfloat16"]


def activation_dtype(compute: Compute) -> jnp.dtype:
    """The dtype that hidden states are stored in between layers."""
    return jnp.dtype(jnp.float32 if compute == "float32" else jnp.bfloat16)


def target_platform() -> str:
    """The platform of the program being traced: the devices of the mesh around it, or without one this machine's.

    A step that is compiled on a CPU for a TPU must be written for the TPU.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None else jax.default_backend()


def partitioned() -> bool:
    """Whether XLA's partitioner splits the computation that is being traced along some axis of the mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return any(mesh.shape[axis] > 1 for axis in mesh.auto_axes)
