"""States of tokens become one vector a window.

Letters: B rows, L tokens, P windows a row, D hidden.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def mean_of_windows(states: Array, segments: Array, windows: int) -> Array:
    """The mean of each window's states, those of the specials included, as sentence-transformers takes it.

    Args:
      states: [B, L, D], any float dtype.
      segments: [B, L] int32, 1.. for the window a token belongs to, 0 for padding.
      windows: P.

    Returns:
      [B, P, D] float32; 0 where there is no window.

    Source: Reimers and Gurevych 2019 (arXiv 1908.10084), section 3.
    """
    inside = (segments[:, :, None] == 1 + jnp.arange(windows)).astype(jnp.float32)
    sums = jnp.einsum("blp,bld->bpd", inside, states.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    return sums / jnp.maximum(jnp.sum(inside, axis=1), 1.0)[..., None]


def unit_length(vectors: Array) -> Array:
    """[..., D] divided by their length (L2); a vector of nothing but zeros stays as it is."""
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
