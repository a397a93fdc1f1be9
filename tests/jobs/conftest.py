"""What tests of several jobs share: an encoder to start from, teachers, and trials that are pretended."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
from huggingface_examples import random_params
from toy_task import write_encoder

from bertlite_jax.config.model import Model
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights, save_weights
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.jobs.searching import training
from bertlite_jax.search import space


@pytest.fixture(scope="session")
def encoder(prepared, tmp_path_factory) -> str:
    """A folder with the tiny encoder of toy_task.py, random weights, and a tokenizer."""
    return write_encoder(tmp_path_factory.mktemp("encoder") / "encoder", prepared.tokenizer)


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


@pytest.fixture
def trained(monkeypatch) -> list[tuple[str, int, int]]:
    """What a search trains: nothing, but figures come of it at once. Shapes, members and steps are written down.

    A wider shape has less error, by 1 / D, and a longer trial, by 1 / steps; seeds add a thousandth each.
    """
    asked = []

    def train(setup, shape, members, steps):
        asked.append((space.describe(shape), len(members), steps))
        errors = np.array([1 / shape.hidden_size + member.seed / 1000 + 1 / steps for member in members])
        names = ("mlm", "accuracy", "teacher_cross_entropy", "teacher_divergence")
        points = {steps // 4, steps // 2, steps}
        return training.Trained({step: {name: errors.copy() for name in names} for step in points}, None, 1.0)

    monkeypatch.setattr(training, "train", train)
    return asked
