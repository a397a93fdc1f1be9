"""What a search has written, and searches whose maximum point is not trained."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import tiny

from bertlite_jax.config.search.settings import Search, Surrogate
from bertlite_jax.jobs.searching import results

SHORT = Surrogate("mlm", steps=8, learning_rates=(2e-3,))


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
