"""Dropout whose masks are computed where they are used, forwards and backwards, instead of being drawn and kept.

Drawing a mask with Threefry takes a CPU longer than the layer that it belongs to. Here a bit of a mask is a hash of
the row's key and of where the bit stands, a dozen integer operations that join the loop around them, so that no mask
is ever stored. Keys still come from Threefry, so rows, layers and steps are as independent as before.

Source: the hash is C. Wellons' lowbias32 (github.com/skeeto/hash-prospector), its three rounds of shifts keyed twice.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def dropout(x: Array, keys: Array | None, rate: float) -> Array:
    """Zeroes entries with probability `rate` and scales the rest up; [B, ...] with one key a row.

    A mask depends on its row's key alone, so devices and micro-batches do not matter. `keys` None: evaluation.
    """
    if keys is None or rate == 0.0:
        return x
    return _dropped(rate, x, seeds_of(keys))


def seeds_of(keys: Array) -> Array:
    """[B] typed keys -> [B, 2] uint32."""
    return jax.random.key_data(keys)[..., -2:]


def seeds_of_heads(seeds: Array, heads: int) -> Array:
    """Other seeds for each head: [B, 2] -> [B, H, 2] uint32."""
    return hashed(seeds[:, None, None], jnp.arange(2 * heads, dtype=jnp.uint32).reshape(heads, 2))


def hashed(seeds: Array, places: Array) -> Array:
    """32 bits for each place: seeds [..., 2] uint32 whose leading axes broadcast with `places`, uint32."""
    return mixed(seeds[..., 0], seeds[..., 1], places)


def mixed(first: Array, second: Array, places: Array) -> Array:
    """The same for seeds in two arrays."""
    x = places ^ first
    x = (x ^ (x >> 16)) * np.uint32(0x21F0AAAD)
    x = x + second
    x = (x ^ (x >> 15)) * np.uint32(0xD35A2D97)
    return x ^ (x >> 15)


def keeps(seeds: Array, places: Array, rate: float) -> Array:
    """Whether each place keeps its value: bool, True with probability 1 - rate, to 2^-32."""
    return kept(hashed(seeds, places), rate)


def kept(bits: Array, rate: float) -> Array:
    """Whether the place with these bits keeps its value."""
    return bits >= np.uint32(round(rate * 2**32))


def _masked(rate: float, x: Array, seeds: Array) -> Array:
    """X [B, ...] times 0 or 1 / (1 - rate)."""
    places = jnp.arange(int(np.prod(x.shape[1:])), dtype=jnp.uint32).reshape(x.shape[1:])
    keep = keeps(seeds.reshape(-1, *[1] * (x.ndim - 1), 2), places, rate)
    return jnp.where(keep, x * (1 / (1 - rate)), 0).astype(x.dtype)


_dropped = jax.custom_vjp(_masked, nondiff_argnums=(0,))
_dropped.defvjp(
    lambda rate, x, seeds: (_masked(rate, x, seeds), seeds),
    lambda rate, seeds, dy: (_masked(rate, dy, seeds), None),
)


def places(length: int) -> Array:
    """Numbers of the scores of a head, [L, L] uint32: a query's in a row."""
    return jnp.arange(length * length, dtype=jnp.uint32).reshape(length, length)
