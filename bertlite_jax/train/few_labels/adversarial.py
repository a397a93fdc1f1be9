"""A step away from what the model gets right: the fast gradient method on word embeddings.

Letters: B rows, L tokens, E embedding, P windows a row.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def worst_shift(
    loss: Callable[[Float[Array, "B L E"]], Float[Array, ""]],
    segments: Int[Array, "B L"],
    width: int,
    windows: int,
    size: float,
) -> Float[Array, "B L E"]:
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
    # Zeros computed from the rows vary over devices, as the rows do. The gradient of constant zeros would be a sum over
    # all devices.
    zeros = jnp.zeros((1, 1, width)) * segments[..., None].astype(jnp.float32)
    gradient = jax.grad(loss)(zeros)
    member = jax.nn.one_hot(segments - 1, windows)  # [B, L, P]; zeros at padding
    squares = jnp.einsum("bl,blp->bp", jnp.sum(jnp.square(gradient), axis=-1), member)
    scale = jnp.where(squares > 0, size * jax.lax.rsqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return jax.lax.stop_gradient(gradient * jnp.einsum("bp,blp->bl", scale, member)[..., None])
