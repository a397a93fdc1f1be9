"""Pruning as its user meets it: smaller models that are fine-tuned runs, and what is refused early.

Latencies are made up (conftest.py), so that what stays does not depend on the machine.
"""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import jax
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
from bertlite_jax.jobs.reports.report import report
from bertlite_jax.train.compression import choice
from bertlite_jax.train.compression.choice import Latencies

pytestmark = pytest.mark.usefixtures("compiled_once", "pretended")


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


@pytest.mark.thorough
def test_each_speed_up_gives_a_run_of_a_model_that_is_so_fast(pruned: pathlib.Path, pretended: Latencies):
    for folder, factor in (("1.5x", 1.5), ("2x", 2.0)):
        left, trained = sources.load(pruned / f"{folder}-pruned"), sources.load(pruned / folder)
        assert left.model == trained.model
        assert choice.seconds_of(left.model, pretended) <= 1.0001 * 13e-3 / factor
        assert (pruned / folder / "summary.json").is_file()


@pytest.mark.thorough
def test_the_head_is_that_of_the_run(pruned: pathlib.Path, run: pathlib.Path):
    """The first step starts from what pruning has left, head included."""
    left, whole = sources.load(pruned / "2x-pruned"), sources.load(run)
    np.testing.assert_array_equal(left.params["head"]["output"]["kernel"], whole.params["head"]["output"]["kernel"])
    assert files.read_json(pruned / "2x" / "config.json", Finetuned).adapt.keep_head


@pytest.mark.thorough
def test_the_summary_has_scores_beside_latencies_and_the_whole_model_first(pruned: pathlib.Path, run: pathlib.Path):
    summary = json.loads((pruned / "summary.json").read_text())
    assert (summary["metric"], summary["pruned_from"], summary["length"]) == ("accuracy", str(run), 32)
    whole, *others = summary["models"]
    assert (whole["speed_up"], whole["measured_speed_up"], whole["folder"]) == (1.0, 1.0, str(run))
    assert whole["milliseconds"] == pytest.approx(13.0)
    assert [row["speed_up"] for row in others] == [1.5, 2.0]
    for row in others:
        assert row["measured_speed_up"] >= 0.9999 * row["speed_up"]
        assert row["parameters"] < whole["parameters"]
    for row in summary["models"]:
        assert row["accuracy"] == json.loads((pathlib.Path(row["folder"]) / "summary.json").read_text())["accuracy"]


@pytest.mark.thorough
def test_it_has_a_report(pruned: pathlib.Path):
    text = report(pruned).read_text(encoding="utf-8")
    for wanted in ("Pruning: out", "Score against latency", "1.5x: accuracy", "13.000"):
        assert wanted in text
    (pruned / "report.html").unlink()


@pytest.mark.thorough
def test_what_is_there_is_not_made_again(pruned: pathlib.Path, run: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    before = (pruned / "2x-pruned" / "params.safetensors").stat()
    monkeypatch.setattr(prune, "_measured", lambda *given: pytest.fail("measured again"))
    monkeypatch.setattr(latency, "table_of", lambda *given: pytest.fail("timed again"))
    summary = prune.prune(config_of(run), Prune(speed_up=(1.5, 2.0), examples=40), str(run), str(pruned))
    assert summary == json.loads((pruned / "summary.json").read_text())
    assert (pruned / "2x-pruned" / "params.safetensors").stat() == before


@pytest.mark.thorough
def test_what_a_kill_has_left_out_is_made_and_the_same(run: pathlib.Path, pruned: pathlib.Path, tmp_path: pathlib.Path):
    """Killed after the first model was pruned: the other one is that of an undisturbed start."""
    for name in ("latencies.json", "importance.json"):
        shutil.copy(pruned / name, tmp_path)
    shutil.copytree(pruned / "1.5x-pruned", tmp_path / "1.5x-pruned")
    prune.prune(config_of(run), Prune(speed_up=(1.5, 2.0), examples=40), str(run), str(tmp_path))
    for name in ("1.5x-pruned", "2x-pruned"):
        kept, again = sources.load(pruned / name), sources.load(tmp_path / name)
        jax.tree.map(np.testing.assert_array_equal, again.params, kept.params)


@pytest.mark.thorough
def test_a_stopped_run_is_told_and_gone_on_with(run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch):
    """The second speed-up waits for the next start."""
    stopped = {"stopped": True, "steps": 1}
    with monkeypatch.context() as patch:
        patch.setattr(prune, "finetune", lambda *given: stopped)
        assert prune.prune(config_of(run), Prune(speed_up=(2.0,)), str(run), str(tmp_path)) == stopped
    assert not (tmp_path / "summary.json").exists()
    summary = prune.prune(config_of(run), Prune(speed_up=(2.0,)), str(run), str(tmp_path))
    assert [row["speed_up"] for row in summary["models"]] == [1.0, 2.0]


@pytest.mark.thorough
def test_overwriting_leaves_no_model_of_an_earlier_start(
    run: pathlib.Path, pruned: pathlib.Path, tmp_path: pathlib.Path
):
    """Nor one whose speed-up is not asked for again: a later start would take it for its own."""
    out = tmp_path / "out"
    shutil.copytree(pruned, out)
    settings = Prune(speed_up=(2.0,), examples=41)
    prune.prune(config_of(run), settings, str(run), str(out), overwrite=True)
    names = ["2x", "2x-pruned", "importance.json", "latencies.json", "summary.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert json.loads((out / "importance.json").read_text())["examples"] == 41


@pytest.mark.thorough
def test_a_model_that_is_overwritten_is_not_read(run: pathlib.Path, pruned: pathlib.Path):
    """Pruned once more into the folder that it lies in."""
    before = sorted(pruned.rglob("*"))
    inner = pruned / "2x"
    with pytest.raises(UserError, match=r"--overwrite would delete .*2x, which this run reads"):
        prune.prune(config_of(inner), Prune(speed_up=(1.1,)), str(inner), str(pruned), overwrite=True)
    assert sorted(pruned.rglob("*")) == before


@pytest.mark.thorough
def test_other_settings_need_another_folder(pruned: pathlib.Path, run: pathlib.Path):
    with pytest.raises(
        UserError, match="out holds models that were pruned with examples = 40, and this is 41; name another"
    ):
        prune.prune(config_of(run), Prune(speed_up=(2.0,), examples=41), str(run), str(pruned))


def test_a_speed_up_that_cannot_be_reached_is_told_with_the_greatest(run: pathlib.Path):
    """1 ms for embeddings and pooler, and 1 for one head or 16 neurons: 13 / 2 = 6.5 at most, 6.49 to be sure."""
    out = run.parent / "fast"
    with pytest.raises(UserError, match=r"prune: --speed-up 7 cannot be reached: .* at most 6\.49"):
        prune.prune(config_of(run), Prune(speed_up=(2.0, 7.0)), str(run), str(out))
    assert not out.exists()


def test_a_table_that_has_been_measured_already_is_used(run: pathlib.Path, pretended: Latencies):
    """With a second for embeddings and pooler, 1.012 s become 1.001 at best."""
    out, slow = run.parent / "slow", pretended._replace(rest=1.0)
    with pytest.raises(UserError, match=r"--speed-up 2 cannot be reached: of 1012\.00 ms .* at most 1\.01"):
        prune.prune(config_of(run), Prune(speed_up=(2.0,)), str(run), str(out), latencies=slow)
    assert not out.exists()


def test_the_greatest_that_is_told_can_be_reached(run: pathlib.Path, tmp_path: pathlib.Path):
    summary = prune.prune(config_of(run), Prune(speed_up=(6.49,), examples=8), str(run), str(tmp_path))
    assert summary["models"][1]["layers"] == 1
    assert summary["models"][1]["measured_speed_up"] == pytest.approx(6.5)


def test_the_head_of_the_run_is_needed(run: pathlib.Path, tmp_path: pathlib.Path):
    config = config_of(run)
    config = dataclasses.replace(config, adapt=dataclasses.replace(config.adapt, keep_head=False))
    with pytest.raises(UserError, match=r"prune: adapt\.keep_head must stay on"):
        prune.prune(config, Prune(), str(run), str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"speed_up": ()}, "--speed-up is empty"),
        ({"speed_up": (1.0,)}, "--speed-up 1 must be greater than 1"),
        ({"speed_up": (2.0, 2.0)}, "the same number twice"),
        ({"speed_up": (float("nan"),)}, "must be a finite number"),
        ({"examples": 0}, "--examples 0 must be at least 1"),
        ({"threads": 10_000}, "--threads 10000 must be at least 1 and at most"),
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
