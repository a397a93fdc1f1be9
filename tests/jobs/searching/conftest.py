"""Trials that are pretended, and what a search has written."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny

from bertlite_jax.config.search.settings import Search, Surrogate
from bertlite_jax.jobs.searching import results, training
from bertlite_jax.search import space

SHORT = Surrogate("mlm", steps=8, learning_rates=(2e-3,))


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


@pytest.fixture
def lines_of() -> Callable[[pathlib.Path], list[dict[str, Any]]]:
    """The whole lines of results.jsonl in a folder; none before there is a file."""

    def read(place: pathlib.Path) -> list[dict[str, Any]]:
        file = place / results.FILE
        text = file.read_text() if file.is_file() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    return read


@pytest.fixture
def of_text(prepared) -> Callable[..., Search]:
    """`tiny.search` that scores by the loss of the masked language model, so that the maximum point is not trained."""
    return lambda **groups: tiny.search(prepared, **{"surrogate": SHORT, **groups})
