"""What the tests of fine-tuning share: an encoder to start from, and programs compiled once for all of them."""

import pathlib

import pytest
from toy_task import compile_once, write_encoder


@pytest.fixture(scope="session")
def encoder(prepared, tmp_path_factory) -> str:
    """A folder with the tiny encoder of toy_task.py, random weights, and a tokenizer."""
    return write_encoder(tmp_path_factory.mktemp("encoder") / "encoder", prepared.tokenizer)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> pathlib.Path:
    """Where compiled programs are kept, for the other process of `pytest -n 2` too."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if base.name.startswith("popen-") else base) / "compiled"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(scope="module")
def compiled_once(compiled):
    """Programs that this module compiles are kept, and those of other such modules are found."""
    with compile_once(compiled):
        yield
