"""Dropout whose masks are computed where they are used, forwards and backwards, instead of being drawn and kept.

Drawing a mask with Threefry takes a CPU longer than the layer that it belongs to. Here a bit of a mask is a hash of
the row's key and of where the bit stands, a dozen integer operations that join the loop around them, so that no mask
is ever stored. Keys come from Threefry, so that rows, layers and steps are independent of each other.

Letters: B rows, H heads, L tokens.

Source: the hash is C. Wellons' lowbias32 (github.com/skeeto/hash-prospector), its three rounds of shifts keyed twice.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Key, UInt32

EMBEDDING_SITE, FIRST_LAYER_SITE, HEAD_SITE = 0, 1, 1 << 20
"""Places in the network where masks are drawn; folded into a row's key so that no two places share a mask."""


def keys_at(keys: Key[Array, " B"] | None, site: Int[Array, ""] | int) -> Key[Array, " B"] | None:
    """The keys of one place in the network, made of those of the rows; None (no dropout) stays None."""
    return None if keys is None else jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, site)


def dropout(x: Float[Array, " B *rest"], keys: Key[Array, " B"] | None, rate: float) -> Float[Array, " B *rest"]:
    """Zeroes entries with probability `rate` and scales the rest up; without keys (evaluation) x stays as it is.

    A mask depends on its row's key alone, so devices and micro-batches do not matter.
    """
    if keys is None or rate == 0.0:
        return x
    return _dropped(rate, x, seeds_of(keys))


def seeds_of(keys: Key[Array, " B"]) -> UInt32[Array, "B 2"]:
    """The last two words of each key."""
    return jax.random.key_data(keys)[..., -2:]


def seeds_of_heads(seeds: UInt32[Array, "B 2"], heads: int) -> UInt32[Array, "B {heads} 2"]:
    """Other seeds for each head."""
    return hashed(seeds[:, None, None], jnp.arange(2 * heads, dtype=jnp.uint32).reshape(1, heads, 2))


def hashed(seeds: UInt32[Array, "*#places 2"], places: UInt32[Array, "*#places"]) -> UInt32[Array, "*#places"]:
    """32 bits for each place; the leading axes of the seeds broadcast with those of the places."""
    return mixed(seeds[..., 0], seeds[..., 1], places)


def mixed(
    first: UInt32[Array, "*#places"], second: UInt32[Array, "*#places"], places: UInt32[Array, "*#places"]
) -> UInt32[Array, "*#places"]:
    """The same as `hashed` for seeds in two arrays."""
    x = places ^ first
    x = (x ^ (x >> 16)) * np.uint32(0x21F0AAAD)
    x = x + second
    x = (x ^ (x >> 15)) * np.uint32(0xD35A2D97)
    return x ^ (x >> 15)


def keeps(
    seeds: UInt32[Array, "*#places 2"], places: UInt32[Array, "*#places"], rate: float
) -> Bool[Array, "*#places"]:
    """Whether each place keeps its value: true with probability 1 - rate, to 2^-32."""
    return keeps_by_bits(hashed(seeds, places), rate)


def keeps_by_bits(bits: UInt32[Array, "*shape"], rate: float) -> Bool[Array, "*shape"]:
    """Whether the places with these bits keep their values."""
    return bits >= np.uint32(round(rate * 2**32))


def _masked(rate: float, x: Float[Array, " B *rest"], seeds: UInt32[Array, "B 2"]) -> Float[Array, " B *rest"]:
    """X times 0 or 1 / (1 - rate)."""
    places = jnp.arange(int(np.prod(x.shape[1:])), dtype=jnp.uint32).reshape(1, *x.shape[1:])
    keep = keeps(seeds.reshape(-1, *[1] * (x.ndim - 1), 2), places, rate)
    return jnp.where(keep, x * (1 / (1 - rate)), 0).astype(x.dtype)


_dropped = jax.custom_vjp(_masked, nondiff_argnums=(0,))
_dropped.defvjp(
    lambda rate, x, seeds: (_masked(rate, x, seeds), seeds),
    lambda rate, seeds, dy: (_masked(rate, dy, seeds), None),
)


def places(length: int) -> UInt32[Array, "{length} {length}"]:
    """Numbers of the scores of a head: those of one query stand in a row."""
    return jnp.arange(length * length, dtype=jnp.uint32).reshape(length, length)
