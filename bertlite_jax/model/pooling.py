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

    Examples:
      Two windows in a row, of two tokens and of one, then padding.

      >>> import numpy as np
      >>> from bertlite_jax.model.pooling import mean_of_windows
      >>> states = np.array([[[1.0], [3.0], [5.0], [9.0]]], np.float32)
      >>> mean_of_windows(states, np.array([[1, 1, 2, 0]]), windows=2).tolist()
      [[[2.0], [5.0]]]
    """
    inside = (segments[:, :, None] == 1 + jnp.arange(windows)[None, None]).astype(jnp.float32)
    sums = jnp.einsum("blp,bld->bpd", inside, states.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    return sums / jnp.maximum(jnp.sum(inside, axis=1), 1.0)[..., None]


def unit_length(vectors: Float[AnyArray, "*rows D"]) -> Float[Array, "*rows D"]:
    """Vectors divided by their length (L2); a vector of zeros stays as it is.

    Examples:
      >>> import numpy as np
      >>> from bertlite_jax.model.pooling import unit_length
      >>> [round(float(value), 3) for value in unit_length(np.array([3.0, 4.0], np.float32))]
      [0.6, 0.8]
    """
    vectors = jnp.asarray(vectors)
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
