"""bfloat16 as XLA's CPU compiler leaves it alone: stored as bits, and rounded by integers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32, Shaped

from bertlite_jax.model.ops import precision


def store_bits(x: Float[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """X as it is stored for a later pass: bfloat16 as its bits, because XLA's CPU compiler widens what loops carry.

    On a TPU it would be a second copy beside the one that the next operation reads.
    """
    if x.dtype != jnp.bfloat16 or precision.target_platform() == "tpu":
        return x
    return jax.lax.bitcast_convert_type(x, jnp.int16)


def load_bits(x: Shaped[Array, "*shape"]) -> Float[Array, "*shape"]:
    """What `store_bits` was given."""
    return jax.lax.bitcast_convert_type(x, jnp.bfloat16) if x.dtype == jnp.int16 else x


def round_bits(x: Float32[Array, "*shape"], kind: jnp.dtype) -> Float[Array, "*shape"]:
    """X in `kind`, rounded to the nearest.

    On a CPU bfloat16 is rounded by integer arithmetic, ties away from zero. XLA's own conversion also takes care of
    NaNs with any payload, and slows down the loop that it is fused into; NaNs that arithmetic makes stay NaNs here too.
    Good for what one product reads next: loops that read the result several times would each compute x again.
    """
    if kind != jnp.bfloat16 or precision.target_platform() != "cpu":
        return x.astype(kind)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + jnp.uint32(0x8000)
    return jax.lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)
