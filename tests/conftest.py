"""What all tests share: where optional data lies, and JAX on eight pretended CPU devices."""

import os
import pathlib

import pytest

# Before the first import of jax: tests of data parallelism need several devices.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Folder with real text and vocabularies that may not be redistributed; tests that need it skip without it."""
    folder = ROOT / os.environ.get("BERTLITE_SHARED", "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"no benchmark data at {folder}; set BERTLITE_SHARED to its folder")
    return folder
