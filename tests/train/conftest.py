"""A checkpoint to read from."""

import pathlib

import pytest
from checkpoint_examples import write


@pytest.fixture(scope="module")
def one_step(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the sealed step 7; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("one") / "checkpoints"
    write(folder, [7])
    return folder
