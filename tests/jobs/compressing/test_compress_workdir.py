"""The work directory of compression: whose family it holds, and when it is refused."""

import copy
import pathlib
from collections.abc import Sequence
from typing import Any

import damage
import numpy as np
import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.jobs.compressing import compress_workdir
from bertlite_jax.jobs.compressing.compress_workdir import Decided
from bertlite_jax.train.compression.choice import Latencies

TABLE = Latencies(np.asarray([0.0, 0.5]), np.asarray([0, 4]), np.asarray([0.0, 1.5]), 0.25, 2.0)
SOURCE: dict[str, Any] = {
    "settings": {"keep": "alternate", "examples": 512},
    "recipe": {"optim.learning_rate": 2e-5, "learn.unlabelled": ""},
    **{"run": "/runs/sst2", "weights": "0123", "cpu": "this"},
    "data": {"glue (train)": "45", "glue (validation)": "67"},
    "teachers": {"runs/large": "89"},
}


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    compress_workdir.write_source(tmp_path, SOURCE, Decided(("6-7bit", "6-2x-7bit"), {"6-int8": TABLE}))
    return tmp_path


def test_what_was_decided_is_found_again(place: pathlib.Path):
    found = compress_workdir.decided_in(place, SOURCE)
    assert found.usual == ("6-7bit", "6-2x-7bit")
    for ours, theirs in zip(found.latencies["6-int8"], TABLE, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_new_directory_has_decided_nothing(tmp_path: pathlib.Path):
    assert compress_workdir.decided_in(tmp_path, SOURCE) == Decided()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (("run",), "/runs/mnli", "from another teacher"),
        (("weights",), "3210", "from another teacher"),
        (("cpu",), "that", "with cpu = this, and this is that"),
        (("settings", "keep"), "first", "with keep = alternate, and this is first"),
        (("recipe", "learn.unlabelled"), "more.txt", r"with learn\.unlabelled = nothing, and this is more\.txt"),
        (("data", "glue (validation)"), "76", r"with other data than glue \(validation\) now holds"),
        (("teachers", "runs/large"), "98", "with other weights than runs/large now holds"),
    ],
)
def test_a_family_of_something_else_is_refused(place: pathlib.Path, key: Sequence[str], value: str, said: str):
    now = copy.deepcopy(SOURCE)
    inner = now[key[0]] if len(key) > 1 else now
    inner[key[-1]] = value
    with pytest.raises(UserError, match=f"^workdir: .* were made {said}; name another --workdir, or pass --overwrite"):
        compress_workdir.decided_in(place, now)


def test_a_setting_is_told_before_the_hash_that_follows_from_it(place: pathlib.Path):
    """As of --adapt.dropout, which is part of the model's shape."""
    now: dict[str, Any] = copy.deepcopy(SOURCE) | {"weights": "3210"}
    now["recipe"]["optim.learning_rate"] = 1e-5
    with pytest.raises(UserError, match=r"with optim\.learning_rate = 2e-05, and this is 1e-05"):
        compress_workdir.decided_in(place, now)


@pytest.mark.parametrize("name", damage.JSON)
def test_a_damaged_file_is_named(place: pathlib.Path, name: str):
    damage.apply(place / compress_workdir.SOURCE, damage.JSON[name])
    with pytest.raises(UserError, match=r"^compress: .*compress\.json"):
        compress_workdir.decided_in(place, SOURCE)
