"""Teachers, and a finished run of distillation."""

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import tiny
from huggingface_examples import random_params

from bertlite_jax.config.model import Model
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights, save_weights
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.jobs.distilling.distill import distill

MakeTeacher = Callable[..., str]
"""`make_teacher(model, seed, without)`: writes a folder with drawn weights."""


@pytest.fixture(scope="session")
def make_teacher(prepared, tmp_path_factory) -> MakeTeacher:
    def make(model: Model = tiny.TEACHER, seed: int = 0, without: str = "", **changes: Any) -> str:
        flat = parameters.flatten(random_params(model, seed)) | changes
        flat = {name: value for name, value in flat.items() if not without or not name.startswith(without)}
        folder = tmp_path_factory.mktemp("teacher") / "teacher"
        save_weights(Weights(parameters.nest(flat), model, None, load_tokenizer(prepared.tokenizer)), folder)
        return str(folder)

    return make


@pytest.fixture(scope="session")
def teacher(make_teacher) -> str:
    """A folder of ours with the shape `tiny.TEACHER` and the tokenizer of `prepared`."""
    return make_teacher()


@pytest.fixture(scope="session")
def distilled(prepared, teacher, compiled, tmp_path_factory) -> pathlib.Path:
    """Work directory of a finished run of `tiny.distil`. Tests leave it as it is."""
    from compiling import compile_once

    run = tmp_path_factory.mktemp("distilled") / "run"
    with compile_once(compiled):
        distill(tiny.distil(prepared, teacher), str(run))
    return run
