"""A step away from what the model gets right: the fast gradient method on word embeddings.

Letters: B rows, L tokens, E embedding, P windows a row.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array


def worst_shift(loss: Callable[[Array], Array], segments: Array, width: int, windows: int, size: float) -> Array:
    """Size g / |g| for each window: where its loss grows fastest, to first order.

    g is the gradient by the window's word vectors, |g| its norm over all of them; so a text is moved by `size`,
    whatever else is in its row, its batch, or on its device. No gradient runs through the shift.

    Args:
      loss: [B, L, E] added to the word vectors -> scalar.
      segments: [B, L] int32, 1..P for windows, 0 for padding.
      width: E.
      windows: P.
      size: epsilon, in units of the embedding.

    Returns:
      [B, L, E] float32; 0 at padding and where a window has no gradient.

    Source: Miyato et al. 2017 (arXiv 1605.07725), equation 5; here without their normalisation of the embeddings, as
    LayerNorm follows.
    """
    # Zeros that are made of the rows belong to one device, as the rows do; of others the gradient would be a sum over
    # devices.
    zeros = jnp.zeros(width) * segments[..., None].astype(jnp.float32)
    gradient = jax.grad(loss)(zeros)
    member = jax.nn.one_hot(segments - 1, windows)  # [B, L, P]; zeros at padding
    squares = jnp.einsum("bl,blp->bp", jnp.sum(jnp.square(gradient), axis=-1), member)
    scale = jnp.where(squares > 0, size * jax.lax.rsqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return jax.lax.stop_gradient(gradient * jnp.einsum("bp,blp->bl", scale, member)[..., None])
