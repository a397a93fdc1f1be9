"""Masks are a function of key and place, look like coins, and are the same backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertlite_jax.model.ops import dropout


def masks(rate: float = 0.5, rows: int = 64, places: int = 4096) -> np.ndarray:
    """[rows, places] bool of neighbouring keys, as fold_in makes them."""
    keys = jax.vmap(lambda row: jax.random.fold_in(jax.random.key(3), row))(jnp.arange(rows))
    return np.asarray(dropout.dropout(jnp.ones((rows, places)), keys, rate)) > 0


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Of independent fair coins one half; in standard deviations from it."""
    return abs(float(np.mean(first == second)) - 0.5) * 2 * np.sqrt(first.size)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_is_the_rate(rate: float):
    drawn = masks(rate, rows=256)
    assert abs(float(np.mean(~drawn)) - rate) < 4 * np.sqrt(rate * (1 - rate) / drawn.size)
    # In each row, too: the spread of their shares is that of independent draws.
    spread = np.std(drawn.mean(axis=1)) / np.sqrt(rate * (1 - rate) / drawn.shape[1])
    assert 0.8 < spread < 1.2


@pytest.mark.parametrize("distance", [1, 2, 3, 8, 16, 64, 384, 1024])
def test_neighbours_are_independent_coins(distance: int):
    """Places of a row, and the rows of neighbouring keys."""
    drawn = masks()
    assert agreement(drawn[:, distance:], drawn[:, :-distance]) < 4
    assert agreement(np.roll(drawn, distance % 63 + 1, axis=0), drawn) < 4


def test_every_bit_of_a_place_and_of_a_key_turns_half_of_the_bits():
    """The avalanche criterion, over 4,096 places: flipping one input bit flips each output bit half of the time."""
    generator = np.random.default_rng(0)
    places, seed = generator.integers(0, 2**32, (2, 4096), np.uint32)
    seeds = np.stack([seed, generator.integers(0, 2**32, 4096, np.uint32)], axis=-1)
    before = np.asarray(dropout.hashed(jnp.asarray(seeds), jnp.asarray(places)))
    for bit in np.uint32(1) << np.arange(32, dtype=np.uint32):
        for changed in (
            dropout.hashed(jnp.asarray(seeds), jnp.asarray(places ^ bit)),
            dropout.hashed(jnp.asarray(seeds ^ np.array([bit, 0], np.uint32)), jnp.asarray(places)),
        ):
            turned = np.unpackbits((before ^ np.asarray(changed)).view(np.uint8).reshape(4096, 4), axis=1)
            assert turned.mean(axis=0).min() > 0.4
            assert turned.mean(axis=0).max() < 0.6
            assert abs(turned.mean() - 0.5) < 0.02


def test_heads_have_masks_of_their_own():
    seeds = dropout.seeds_of(jax.random.split(jax.random.key(0), 3))
    of_heads = np.asarray(dropout.seeds_of_heads(seeds, 12)).reshape(-1, 2)
    assert len(np.unique(of_heads, axis=0)) == 36
    drawn = np.asarray(dropout.keeps(jnp.asarray(of_heads)[:, None], jnp.arange(4096, dtype=jnp.uint32)[None], 0.5))
    for distance in range(1, 36):
        assert agreement(np.roll(drawn, distance, axis=0), drawn) < 4.5


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_gradient_has_the_mask_of_the_value(dtype):
    keys = jax.random.split(jax.random.key(1), 4)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 10)), dtype)
    value, pull = jax.vjp(lambda x: dropout.dropout(x, keys, 0.3), x)
    (slope,) = pull(jnp.ones_like(x))
    assert value.dtype == slope.dtype == dtype
    kept = np.asarray(value, np.float32) != 0
    np.testing.assert_allclose(np.asarray(slope, np.float32), np.where(kept, 1 / 0.7, 0), rtol=1e-2)
    np.testing.assert_allclose(np.asarray(value, np.float32)[kept], np.asarray(x, np.float32)[kept] / 0.7, rtol=2e-2)
    assert 0.4 < kept.mean() < 0.95


def test_dropout_keeps_the_mean_and_the_published_share():
    keys = jax.random.split(jax.random.key(0), 100)
    dropped = np.asarray(dropout.dropout(jnp.ones((100, 1000)), keys, 0.1))
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.9)}
    assert abs((dropped == 0).mean() - 0.1) < 3 * np.sqrt(0.09 / 1e5)
