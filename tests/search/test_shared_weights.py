"""Shapes have the first entries of common arrays."""

import jax
import jax.numpy as jnp
import numpy as np

from bertlite_jax.config.search.settings import Shape
from bertlite_jax.search import shared_weights


def test_the_shape_around_others_has_the_largest_of_each_size_and_heads_that_divide_its_width():
    found = shared_weights.around([Shape(2, 12, 768, 3072), Shape(12, 16, 1024, 256), Shape(4, 4, 512, 512, 128)])
    assert found == Shape(12, 16, 1024, 3072, 128)


def test_a_part_has_the_first_entries_on_every_axis_and_the_whole_is_itself():
    whole = {"kernel": jnp.arange(24.0).reshape(2, 3, 4), "bias": jnp.arange(4.0)}
    small = {"kernel": np.zeros((1, 2, 3)), "bias": np.zeros(2)}
    part = shared_weights.cut(whole, small)
    np.testing.assert_array_equal(part["kernel"], [[[0, 1, 2], [4, 5, 6]]])
    np.testing.assert_array_equal(part["bias"], [0, 1])
    same = shared_weights.cut(whole, whole)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, same, whole)))


def test_what_a_part_does_not_have_gets_no_gradient():
    whole, small = {"kernel": jnp.ones((2, 3))}, {"kernel": np.zeros((1, 2))}
    grads = jax.grad(lambda params: jnp.sum(shared_weights.cut(params, small)["kernel"]))(whole)
    np.testing.assert_array_equal(grads["kernel"], [[1, 1, 0], [0, 0, 0]])
