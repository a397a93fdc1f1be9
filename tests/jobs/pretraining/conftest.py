"""A pretraining run that several files look at."""

import pathlib

import pytest
import tiny

from bertlite_jax.jobs.pretraining import pretrain


@pytest.fixture(scope="session")
def trained(prepared, compiled, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Work directory of a finished run of `tiny.pretrain`. Tests leave it as it is."""
    from compiling import compile_once

    run = tmp_path_factory.mktemp("run") / "run"
    with compile_once(compiled):
        pretrain.pretrain(tiny.pretrain(prepared), str(run))
    return run
