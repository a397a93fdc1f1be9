"""Which arithmetic the matrix products use on this machine, and a small trial before relying on it.

Three modes. `float32` is plain. `bfloat16` is what TPUs and GPUs are built for. `amx` is bfloat16 on CPUs: XLA reaches
the tile unit only for products of bfloat16 operands with a float32 result and the contracted axis minor, so
`model/dense.py` writes them that way. On a CPU without AMX bfloat16 is many times slower than float32 and never chosen.
"""

from __future__ import annotations

import functools
import logging
import pathlib
from typing import Literal

import jax
import jax.numpy as jnp

Compute = Literal["float32", "bfloat16", "amx"]

log = logging.getLogger(__name__)


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
    if "amx_bf16" not in cpu_flags():
        log.log(level, "precision: this CPU has no AMX; the products use float32")
        return "float32"
    reason = trial()
    if reason:
        log.warning("precision: a trial of AMX products failed (%s); the products use float32", reason)
        return "float32"
    return "amx"


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The instruction sets that Linux reports for the first CPU; empty elsewhere."""
    path = pathlib.Path("/proc/cpuinfo")
    if not path.is_file():
        return frozenset()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


@functools.cache
def trial() -> str:
    """Compiles and runs a small product with its gradients in mode `amx`; the reason of a failure, or "".

    XLA refuses some products of this kind only when they run (`Unsupported element type for DotThunk::Execute`).
    """
    from bertlite_jax.model import dense

    size = dense.AMX_MIN_SIZE

    def loss(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(dense.matmul(x, kernel, "amx")))

    x, kernel = jnp.full((dense.AMX_MIN_ROWS, size), 0.5), jnp.full((size, 2 * size), 0.25)
    try:
        value, (dx, dkernel) = jax.jit(jax.value_and_grad(loss, (0, 1)))(x, kernel)
        # Small powers of two: exact in bfloat16, so that wrong arithmetic shows.
        wanted = x.shape[0] * 2 * size * (size / 8) ** 2
        if not (abs(float(value) / wanted - 1) < 1e-3 and bool(jnp.isfinite(dx).all() & jnp.isfinite(dkernel).all())):
            return f"the result is {float(value)} where {wanted} is right"
    except jax.errors.JaxRuntimeError as error:
        return str(error).splitlines()[0]
    return ""
