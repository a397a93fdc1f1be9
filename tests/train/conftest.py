"""What all tests of training share: no silent promotion of arrays, and a checkpoint to read from."""

import pathlib
from collections.abc import Iterator

import jax
import pytest
from checkpoint_examples import write


@pytest.fixture(autouse=True)
def _no_silent_promotion() -> Iterator[None]:
    """An array of another dtype or rank than its neighbours is a mistake."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="module")
def one_step(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the sealed step 7; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("one") / "checkpoints"
    write(folder, [7])
    return folder
