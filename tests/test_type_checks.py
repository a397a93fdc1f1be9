"""The annotations of the checked rooms hold in this test run."""

import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from bertlite_jax.model import pooling


def test_an_array_of_another_shape_is_refused():
    """Three segments for the four states of a row."""
    with pytest.raises(TypeCheckError, match="mean_of_windows"):
        pooling.mean_of_windows(jnp.zeros((1, 4, 8)), jnp.ones((1, 3), jnp.int32), 2)


def test_an_array_of_another_dtype_is_refused():
    with pytest.raises(TypeCheckError, match="mean_of_windows"):
        pooling.mean_of_windows(jnp.zeros((1, 4, 8)), jnp.ones((1, 4)), 2)
