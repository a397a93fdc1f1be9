"""Two integers of 4 bits in a byte."""

import numpy as np

from bertlite_jax.convert.weights.packed import pack, unpack


def test_a_byte_by_hand():
    """-8 is 0 and goes low, 7 is 15 and goes high; -7 is 1, 0 is 8: 0xF0 and 0x81."""
    assert pack(np.array([-8, 7, -7, 0], np.int8)).tolist() == [0xF0, 0x81]


def test_every_pair_comes_back_in_its_place():
    low, high = np.meshgrid(np.arange(-8, 8), np.arange(-8, 8))
    pairs = np.stack([low, high], -1).astype(np.int8)
    np.testing.assert_array_equal(unpack(pack(pairs), pairs.shape), pairs)
