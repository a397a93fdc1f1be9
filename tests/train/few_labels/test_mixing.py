"""Mixtures of examples: who, how much, and of what."""

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.train.few_labels import mixing

RNG = np.random.default_rng(0)


def test_partners_are_one_cycle_through_the_real_ones():
    """Following the partners from any real place visits all real places before it comes back."""
    real = np.array([True, False, True, True, False, True, True])
    draw = jax.jit(mixing.partners)
    seen = set()
    for seed in range(20):
        partner = np.asarray(draw(jax.random.key(seed), real))
        assert (partner[~real] == np.flatnonzero(~real)).all()
        place, visited = 0, [0]
        while (place := int(partner[place])) != 0:
            visited.append(place)
        assert sorted(visited) == np.flatnonzero(real).tolist()
        seen.add(tuple(partner))
    assert len(seen) > 10


def test_one_example_alone_is_its_own_partner_and_none_at_all_harms_nobody():
    assert mixing.partners(jax.random.key(0), jnp.array([False, True, False])).tolist() == [0, 1, 2]
    assert mixing.partners(jax.random.key(0), jnp.zeros(3, bool)).tolist() == [0, 1, 2]


def test_shares_are_the_larger_part_of_a_beta_draw():
    """E max(b, 1 - b) under Beta(1, 1), the uniform distribution, is 3/4."""
    found = np.asarray(jax.jit(mixing.shares, static_argnums=(1, 2))(jax.random.key(0), 1.0, 20_000))
    assert found.min() >= 0.5
    assert found.max() <= 1.0
    assert abs(found.mean() - 0.75) < 0.005


def test_a_mixture_is_the_weighted_sum_of_both():
    x = RNG.normal(size=(3, 2, 4)).astype(np.float32)
    partner, share = np.array([1, 2, 0]), np.array([0.5, 0.75, 1.0], np.float32)
    wanted = [share[i] * x[i] + (1 - share[i]) * x[partner[i]] for i in range(3)]
    np.testing.assert_allclose(jax.jit(mixing.mix)(x, partner, share), wanted, rtol=1e-6)


def test_a_mixture_of_texts_is_as_long_as_the_longer_one():
    """Token by token: both, or the one that is there."""
    lengths, partner, share = [2, 5, 3], [1, 2, 0], np.array([0.6, 0.7, 0.9], np.float32)
    x = RNG.normal(size=(3, 6, 4)).astype(np.float32)
    segments = np.array([[1] * n + [0] * (6 - n) for n in lengths], np.int32)
    mixed, together = jax.jit(mixing.mix_rows)(x, segments, np.array(partner), share)
    assert np.asarray(together).sum(1).tolist() == [5, 5, 3]
    for row, other in enumerate(partner):
        for place in range(max(lengths[row], lengths[other])):
            here, there = place < lengths[row], place < lengths[other]
            both = share[row] * x[row, place] + (1 - share[row]) * x[other, place]
            wanted = both if here and there else x[row, place] if here else x[other, place]
            np.testing.assert_allclose(mixed[row, place], wanted, rtol=1e-5)
