"""Mixtures of two examples: the partner of each, the shares, and the mixture itself.

Letters: N examples or rows, B rows, L tokens, D hidden.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


def partners(key: Key[Array, ""], real: Bool[Array, " N"]) -> Int[Array, " N"]:
    """Another example for each one, drawn so that each is somebody's partner once.

    Args:
      key: of the draw.
      real: the others are places without an example, which are their own partners.

    Returns:
      A random cycle through all real ones; with one alone, itself.
    """
    places = jnp.arange(real.shape[0])
    order = jnp.argsort(jnp.where(real, jax.random.uniform(key, real.shape), 2.0 + places.astype(jnp.float32)))
    count = jnp.maximum(jnp.sum(real), 1)
    following = order[jnp.where(places < count, (places + 1) % count, places)]
    return jnp.zeros_like(order).at[order].set(following).astype(jnp.int32)


def shares(key: Key[Array, ""], alpha: float, count: int) -> Float[Array, " N"]:
    """How much of itself each example keeps: in [1/2, 1], max(b, 1 - b) with b ~ Beta(alpha, alpha).

    At least half, so that a mixture is nearer to the example than to its partner.

    Source: Zhang et al. 2018 (arXiv 1710.09412), section 2; the maximum from Chen et al. 2020 (arXiv 2004.12239).
    """
    drawn = jax.random.beta(key, alpha, alpha, (count,))
    return jnp.maximum(drawn, 1.0 - drawn)


def mix(x: Float[Array, " N *S"], partner: Int[Array, " N"], share: Float[Array, " N"]) -> Float[Array, " N *S"]:
    """`share` x + (1 - `share`) x[`partner`].

    Source: Zhang et al. 2018 (arXiv 1710.09412), section 2; of text Guo et al. 2019 (arXiv 1905.08941), equation 5.
    """
    share = share.reshape(-1, *(1,) * (x.ndim - 1)).astype(x.dtype)
    return share * x + (1 - share) * jnp.take(x, partner, axis=0)


def mix_rows(
    x: Float[Array, "B L D"], segments: Int[Array, "B L"], partner: Int[Array, " B"], share: Float[Array, " B"]
) -> tuple[Float[Array, "B L D"], Int[Array, "B L"]]:
    """Mixes the states of rows that hold one text each; the mixture is as long as the longer of the two.

    Where only one of the two has a token the state there is that token's alone: a mixture with padding would be a
    state that the model never sees.

    Args:
      x: states; both texts begin at column 0.
      segments: 1 at tokens, 0 at padding.
      partner: of each row.
      share: how much of itself each row keeps.

    Returns:
      States and segments of the mixtures.

    Source: Chen et al. 2020 (arXiv 2004.12239), section 3.1 (TMix), which mixes padding, too.
    """
    here, there = segments > 0, jnp.take(segments, partner, axis=0) > 0
    mixed = mix(x, partner, share)
    alone = jnp.where(here[..., None], x, jnp.take(x, partner, axis=0))
    return jnp.where((here & there)[..., None], mixed, alone), (here | there).astype(segments.dtype)
