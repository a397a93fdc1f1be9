"""A finished run of distillation."""

import pathlib

import pytest
import tiny

from bertlite_jax.jobs.distilling.distill import distill


@pytest.fixture(scope="session")
def distilled(prepared, teacher, compiled, tmp_path_factory) -> pathlib.Path:
    """Work directory of a finished run of `tiny.distil`. Tests leave it as it is."""
    from compiling import compile_once

    run = tmp_path_factory.mktemp("distilled") / "run"
    with compile_once(compiled):
        distill(tiny.distil(prepared, teacher), str(run))
    return run
