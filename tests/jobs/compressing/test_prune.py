"""Pruning as its user meets it: smaller models that are fine-tuned runs, and what is refused early.

Latencies are made up here, so that what stays does not depend on the machine.
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest
from toy_task import recipe, write_sst2

from bertlite_jax.config import files
from bertlite_jax.config.compression.prune import Prune
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.convert import sources
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.compressing import latency, prune
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.train.compression import choice
from bertlite_jax.train.compression.choice import Latencies

pytestmark = pytest.mark.usefixtures("compiled_once", "pretended")

# Two layers with two heads and 64 neurons: 1 + 2 (2 + 4) ms.
TABLE = Latencies(
    heads=np.asarray([0.0, 1e-3, 2e-3]),
    widths=np.asarray([0, 16, 32, 48, 64]),
    neurons=np.asarray([0.0, 1e-3, 2e-3, 3e-3, 4e-3]),
    layer=0.0,
    rest=1e-3,
)


@pytest.fixture(scope="module")
def pretended():
    """Latencies by the table above; of whole models too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "table_of", lambda *given: TABLE)
        patch.setattr(
            latency,
            "seconds_of",
            lambda makers, settings, length: [choice.seconds_of(make().model, TABLE) for make in makers],
        )
        yield


@pytest.fixture(scope="module")
def run(encoder, tmp_path_factory) -> pathlib.Path:
    """A fine-tuning run of four steps."""
    place = tmp_path_factory.mktemp("prune")
    finetune(recipe(write_sst2(place / "glue")), str(place / "run"), encoder)
    return place / "run"


def config_of(run: pathlib.Path) -> Any:
    stored = prune.recipe_of(files.read_json(run / "config.json", Finetuned))
    return dataclasses.replace(stored, run=dataclasses.replace(stored.run, steps=2))


@pytest.fixture(scope="module")
def pruned(run, pretended) -> pathlib.Path:
    out = run.parent / "out"
    prune.prune(config_of(run), Prune(speed_up=(1.5, 2.0), examples=40), str(run), str(out))
    return out


def test_each_speed_up_gives_a_run_of_a_model_that_is_so_fast(pruned: pathlib.Path):
    for folder, factor in (("1.5x", 1.5), ("2x", 2.0)):
        left, trained = sources.load(pruned / f"{folder}-pruned"), sources.load(pruned / folder)
        assert left.model == trained.model
        assert choice.seconds_of(left.model, TABLE) <= 1.0001 * 13e-3 / factor
        assert (pruned / folder / "summary.json").is_file()


def test_the_head_is_that_of_the_run(pruned: pathlib.Path, run: pathlib.Path):
    """The first step starts from what pruning has left, head included."""
    left, whole = sources.load(pruned / "2x-pruned"), sources.load(run)
    np.testing.assert_array_equal(left.params["head"]["output"]["kernel"], whole.params["head"]["output"]["kernel"])
    assert files.read_json(pruned / "2x" / "config.json", Finetuned).adapt.keep_head


def test_the_summary_has_scores_beside_latencies(pruned: pathlib.Path, run: pathlib.Path):
    summary = json.loads((pruned / "summary.json").read_text())
    assert (summary["metric"], summary["milliseconds"]) == ("accuracy", pytest.approx(13.0))
    assert summary["accuracy"] == json.loads((run / "summary.json").read_text())["accuracy"]
    assert [point["speed_up"] for point in summary["points"]] == [1.5, 2.0]
    for point in summary["points"]:
        assert point["measured_speed_up"] >= point["speed_up"]
        assert point["accuracy"] == json.loads((pathlib.Path(point["folder"]) / "summary.json").read_text())["accuracy"]
        assert point["parameters"] < summary["parameters"]


def test_what_is_there_is_not_made_again(pruned: pathlib.Path, run: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    before = (pruned / "2x-pruned" / "params.safetensors").stat()
    monkeypatch.setattr(prune, "_importance", lambda *given: pytest.fail("measured again"))
    monkeypatch.setattr(latency, "table_of", lambda *given: pytest.fail("timed again"))
    summary = prune.prune(config_of(run), Prune(speed_up=(1.5, 2.0), examples=40), str(run), str(pruned))
    assert summary == json.loads((pruned / "summary.json").read_text())
    assert (pruned / "2x-pruned" / "params.safetensors").stat() == before


def test_other_settings_need_another_folder(pruned: pathlib.Path, run: pathlib.Path):
    with pytest.raises(
        UserError, match="out holds models that were pruned with examples = 40, and this is 41; name another"
    ):
        prune.prune(config_of(run), Prune(speed_up=(2.0,), examples=41), str(run), str(pruned))


def test_a_speed_up_that_cannot_be_reached_is_told_with_the_greatest(run: pathlib.Path):
    """1 ms for embeddings and head, and 1 for one head or 16 neurons: 13 / 2 = 6.5 at most."""
    out = run.parent / "fast"
    with pytest.raises(UserError, match=r"prune: --speed-up 7 cannot be reached: .* at most 6\.5"):
        prune.prune(config_of(run), Prune(speed_up=(2.0, 7.0)), str(run), str(out))
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"speed_up": ()}, "--speed-up is empty"),
        ({"speed_up": (1.0,)}, "--speed-up 1 must be greater than 1"),
        ({"speed_up": (2.0, 2.0)}, "the same number twice"),
        ({"speed_up": (float("nan"),)}, "must be a finite number"),
        ({"examples": 0}, "prune.examples = 0 must be positive"),
        ({"length": 65}, "--length 65 must be 0, or at least 2 and at most the model's 64 positions"),
    ],
)
def test_settings_that_cannot_be_are_refused(run: pathlib.Path, changes: dict[str, Any], said: str):
    with pytest.raises(UserError, match=said):
        prune.prune(config_of(run), Prune(**changes), str(run), str(run.parent / "other"))
    assert not (run.parent / "other").exists()


def test_a_folder_of_a_run_is_no_place_for_several(run: pathlib.Path):
    with pytest.raises(UserError, match="holds a single run; name another --workdir"):
        prune.prune(config_of(run), Prune(), str(run), str(run))
