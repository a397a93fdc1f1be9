"""States of tokens become one vector a window.

Letters: B rows, L tokens, P windows a row, D hidden.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from bertlite_jax.model.ops.arrays import AnyArray


def mean_of_windows(
    states: Float[AnyArray, "B L D"], segments: Int[AnyArray, "B L"], windows: int
) -> Float[Array, "B P D"]:
    """The mean of each window's states, special tokens included, as sentence-transformers takes it.

    Args:
      states: any float dtype.
      segments: 1..P for the window a token belongs to, 0 for padding.
      windows: P.

    Returns:
      Float32; 0 where there is no window.

    Source: Reimers and Gurevych 2019 (arXiv 1908.10084), section 3.
    """
    inside = (segments[:, :, None] == 1 + jnp.arange(windows)[None, None]).astype(jnp.float32)
    sums = jnp.einsum("blp,bld->bpd", inside, states.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    return sums / jnp.maximum(jnp.sum(inside, axis=1), 1.0)[..., None]


def unit_length(vectors: Float[AnyArray, "*rows D"]) -> Float[Array, "*rows D"]:
    """Vectors divided by their length (L2); a vector of zeros stays as it is."""
    vectors = jnp.asarray(vectors)
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
