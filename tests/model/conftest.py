"""What all tests of the model share: arrays are converted in so many words, or not at all."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def _no_silent_promotion() -> Iterator[None]:
    """An array of another dtype or rank than its neighbours is a mistake."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
