"""The work directory of pruning: whose models it holds, and when it is refused or cleared."""

import contextlib
import pathlib
from typing import Any

import damage
import numpy as np
import pytest

from bertlite_jax.errors import UserError
from bertlite_jax.host import folder_lock
from bertlite_jax.jobs.compressing import family
from bertlite_jax.train.compression.choice import Latencies

LATENCIES = Latencies(np.asarray([0.0, 0.5]), np.asarray([0, 4]), np.asarray([0.0, 1.5]), 0.25, 2.0)
SOURCE: dict[str, Any] = {"cpu": "this", "run": "/runs/a", "model": {"pruned_heads": (1, 2)}, "length": 128}


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    """With a table, a run, the model that it started from, and what a user has put there."""
    family.write_table(tmp_path, SOURCE, LATENCIES)
    for name in (family.IMPORTANCE, family.SUMMARY):
        (tmp_path / name).write_text("{}")
    made(tmp_path, "4x-pruned", "params.safetensors", "config.json")
    made(tmp_path, "4x", "summary.json")
    (tmp_path / "4x" / "config.json").write_text('{"run": {}, "data": {}}')
    made(tmp_path, "onnx-of-4x", "model.onnx")
    return tmp_path


def made(folder: pathlib.Path, name: str, *files: str) -> None:
    (folder / name).mkdir()
    for file in files:
        (folder / name / file).write_text("")


def test_a_table_is_found_again(place: pathlib.Path):
    found = family.stored_table(place, SOURCE)
    assert found is not None
    assert (found.layer, found.rest) == (0.25, 2.0)
    for name in ("heads", "widths", "neurons"):
        np.testing.assert_array_equal(getattr(found, name), getattr(LATENCIES, name))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"length": 64}, "pruned with length = 128, and this is 64"),
        ({"cpu": "that"}, "pruned with cpu = this, and this is that"),
        ({"model": {"pruned_heads": (2, 2)}}, "pruned from another model"),
    ],
)
def test_a_table_of_something_else_is_refused(place: pathlib.Path, change: dict[str, Any], said: str):
    with pytest.raises(UserError, match=f"^workdir: .* {said}; name another --workdir, or pass --overwrite"):
        family.stored_table(place, SOURCE | change)


@pytest.mark.parametrize("name", damage.JSON)
def test_a_damaged_table_is_named(place: pathlib.Path, name: str):
    damage.apply(place / family.TABLE, damage.JSON[name])
    with pytest.raises(UserError, match=r"^prune: .*latencies\.json"):
        family.stored_table(place, SOURCE)


@pytest.mark.parametrize("key", ["heads", "widths", "rest"])
def test_a_table_without_a_part_is_named(place: pathlib.Path, key: str):
    damage.apply(place / family.TABLE, damage.edit_json(key, to=...))
    with pytest.raises(UserError, match=rf"^prune: .*latencies\.json: {key} is missing"):
        family.stored_table(place, SOURCE)


def test_a_folder_of_anything_else_is_refused(tmp_path: pathlib.Path):
    """But not what a kill leaves during the first write, nor a folder with a table."""
    (tmp_path / folder_lock.FILE).write_text("")
    (tmp_path / f".{family.TABLE}.0123456789ab.tmp").write_text("")
    family.refuse_foreign(tmp_path)
    made(tmp_path, "2x-pruned", "params.safetensors")
    with pytest.raises(UserError, match=r"is not empty \(2x-pruned\) and holds no latencies\.json of pruning"):
        family.refuse_foreign(tmp_path)
    family.write_table(tmp_path, SOURCE, LATENCIES)
    family.refuse_foreign(tmp_path)


def test_clearing_removes_the_models_of_all_speed_ups_and_nothing_else(place: pathlib.Path):
    """What a user has put into a run's folder stays, and the table until another one replaces it."""
    (place / "4x" / "notes.txt").write_text("years of work")
    family.clear(place, ())
    assert sorted(str(path.relative_to(place)) for path in place.rglob("*")) == [
        *("4x", "4x/notes.txt", "latencies.json", "onnx-of-4x", "onnx-of-4x/model.onnx")
    ]


def test_what_is_read_is_not_cleared(place: pathlib.Path):
    """A model of this folder that is pruned again, into the same folder."""
    before = sorted(place.rglob("*"))
    with pytest.raises(UserError, match=r"--overwrite would delete .*4x, which this run reads"):
        family.clear(place, (str(place / "4x"),))
    assert sorted(place.rglob("*")) == before


def test_a_run_that_another_job_trains_is_not_cleared(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    before = sorted(place.rglob("*"))
    monkeypatch.setattr(folder_lock, "held", lambda folder: contextlib.nullcontext("process 12"))
    with pytest.raises(UserError, match="4x is in use by process 12"):
        family.clear(place, ())
    assert sorted(place.rglob("*")) == before
