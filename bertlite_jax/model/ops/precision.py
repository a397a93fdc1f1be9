"""The arithmetic modes of matrix products, and the platform that the program being traced will run on.

There are three modes of floats. `float32` is plain. `bfloat16` is what TPUs and GPUs are built for. `cpu_bfloat16` is
bfloat16 as CPUs multiply it, by AMX or AVX-512: XLA hands those products to its library only if operands are bfloat16,
the result is float32 and the contracted axis is minor in memory, so `products.py` writes them that way. On other CPUs
bfloat16 is slower than float32; `choose_precision.py` finds out.

Beside them, `integers_7` and its like multiply as the 8-bit files that `bertlite convert int8` writes, with weights of
so many bits (`config.int8.Bits`), for models that are trained to be served so. What lies between the products is
float32 there. `noisy_7` and its like are modes of training alone: what layers multiply are kernels that come partly
rounded (`model/weight_noise.py`) and rows of activations on their grid, as floats; all else is as with integers.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from bertlite_jax.config.int8 import Bits
from bertlite_jax.model.ops.integer_grid import bits_of

Compute = Literal[
    "float32", "bfloat16", "cpu_bfloat16", "integers_8", "integers_7", "integers_4", "noisy_8", "noisy_7", "noisy_4"
]
_OF_BITS: dict[Bits, Compute] = {8: "integers_8", 7: "integers_7", 4: "integers_4"}
_NOISY: dict[Compute, Compute] = {"integers_8": "noisy_8", "integers_7": "noisy_7", "integers_4": "noisy_4"}
_WEIGHT_BITS: dict[Compute, Bits] = {compute: bits for bits, compute in _OF_BITS.items()}
_WEIGHT_BITS |= {noisy: _WEIGHT_BITS[compute] for compute, noisy in _NOISY.items()}


def activation_dtype(compute: Compute) -> jnp.dtype:
    """The dtype that hidden states are stored in between layers."""
    return jnp.dtype(jnp.bfloat16 if compute in ("bfloat16", "cpu_bfloat16") else jnp.float32)


def weight_bits(compute: Compute) -> Bits | None:
    """The bits of the weights in a mode of integers; None in the others."""
    return _WEIGHT_BITS.get(compute)


def of_bits(bits: Bits) -> Compute:
    """The mode of integers with weights of these bits."""
    return _OF_BITS[bits]


def noisy(compute: Compute) -> Compute:
    """The mode in which a model is trained with noise that is served in this mode of integers."""
    return _NOISY[compute]


def rounds_rows_alone(compute: Compute) -> bool:
    """Whether the products of a part get a kernel that is multiplied as it is, and round their rows."""
    return compute in _NOISY.values()


def of_part(compute: Compute, part: str) -> Compute:
    """The mode of the products of a part, such as `pooler` (`integer_grid.bits_of`), in a model of this mode."""
    bits = weight_bits(compute)
    return of_bits(bits_of(part, bits)) if bits else compute


def of_head(compute: Compute, part: str) -> Compute:
    """The same of a part that is float32 in a model of floats: task heads and poolers are small."""
    return of_part(compute, part) if weight_bits(compute) else "float32"


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
