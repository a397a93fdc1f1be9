"""A finished run of distillation, and one recipe on devices and batches that are split in several ways."""

import dataclasses
import pathlib
from collections.abc import Callable

import pytest
import tiny
from run_files import losses_of

from bertlite_jax.config.distillation.settings import Distill
from bertlite_jax.config.effects import replaced
from bertlite_jax.jobs.distilling.distill import distill


@pytest.fixture(scope="session")
def distilled(prepared, teacher, compiled, tmp_path_factory) -> pathlib.Path:
    """Work directory of a finished run of `tiny.distil`. Tests leave it as it is."""
    from compiling import compile_once

    run = tmp_path_factory.mktemp("distilled") / "run"
    with compile_once(compiled):
        distill(tiny.distil(prepared, teacher), str(run))
    return run


@pytest.fixture
def losses_however_split(tmp_path) -> Callable[[Distill], list[list[float]]]:
    """The losses of a recipe as one batch on one device; four parts on one; two parts on eight, everything split."""

    def train(config: Distill) -> list[list[float]]:
        split = {"devices": 8, "fsdp": 4, "tensor": 2, "zero1": True}
        found = []
        for name, parts, run in (("one", 1, {}), ("parts", 4, {}), ("devices", 2, split)):
            of_parts = replaced(config, "optim.micro_batches", parts)
            distill(dataclasses.replace(of_parts, run=dataclasses.replace(config.run, **run)), str(tmp_path / name))
            found.append(list(losses_of(tmp_path / name).values()))
        return found

    return train
