"""What the tests of fine-tuning share: an encoder to start from."""

import pytest
from toy_task import write_encoder


@pytest.fixture(scope="session")
def encoder(prepared, tmp_path_factory) -> str:
    """A folder with the tiny encoder of toy_task.py, random weights, and a tokenizer."""
    return write_encoder(tmp_path_factory.mktemp("encoder") / "encoder", prepared.tokenizer)
