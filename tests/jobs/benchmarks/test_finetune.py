"""The benchmark of fine-tuning, on a task and an encoder that are small enough for a test."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from toy_task import MODEL, write_encoder, write_sst2

from bertlite_jax.config.files import read_json
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.benchmarks import finetune, finetune_ours, finetune_peer, predictions
from bertlite_jax.jobs.benchmarks.finetune_ours import Contender

pytestmark = pytest.mark.usefixtures("compiled_once")

CONFIG = """
from bertlite_jax.config import Adapt, Examples, Finetune, Head, Optim, TuneRun

config = Finetune(
    data=Examples(length=32, batch_examples=16), adapt=Adapt(compute="float32"), head=Head(dropout=0.1),
    optim=Optim(name="adamw", learning_rate=2e-3, warmup_steps=0, bias_correction=True),
    run=TuneRun(devices=1, epochs=2.0, eval_every=8),
)
"""


@pytest.fixture(scope="module")
def files(prepared, tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "recipe.py").write_text(CONFIG)
    init = write_encoder(folder / "encoder", prepared.tokenizer, dataclasses.replace(MODEL, share="all"))
    return {"config": str(folder / "recipe.py"), "data": write_sst2(folder / "glue"), "init": init}


def bench(files, **options):
    given = {"init": files["init"], "task": "sst2", "data": files["data"], "peer_precision": "float32"}
    return finetune.bench_finetune(files["config"], **given | options)


@pytest.fixture(scope="module")
def measured(files, tmp_path_factory):
    """(work directory, what was returned, what was printed) of one seed and one round."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import contextlib
    import io

    folder, shown = tmp_path_factory.mktemp("measured") / "run", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(shown):
        patch.setattr(finetune, "precisions", lambda: ["float32"])
        summary = bench(files, workdir=str(folder), seeds=1, rounds=1, round_steps=1)
    return folder, summary, shown.getvalue()


@pytest.mark.thorough
def test_the_table_is_in_the_summary(measured):
    folder, summary, shown = measured
    assert json.loads((folder / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert {"cpu", "flags", "cores", "packages", "load"} <= set(summary["machine"])
    ours, theirs = summary["throughput"]
    assert (ours["name"], theirs["name"], theirs["precision"]) == ("bertlite_jax", "transformers", "float32")
    assert theirs["ratio"] == pytest.approx(ours["examples_per_second"] / theirs["examples_per_second"])
    assert ours["ratio"] == ours["ratio_median"] == 1.0
    assert 0 < theirs["filled"] < 1
    assert 0 < ours["filled"] <= 1
    assert "examples/s" in shown
    assert "seed 0" in shown
    assert f"{theirs['ratio']:.2f}x" in shown
    assert f"{summary['scores']['transformers']['accuracy']:.4f}" in shown


@pytest.mark.thorough
def test_both_sides_are_scored_by_their_best_evaluation(measured):
    """Of 12 updates those after the 8th and the last are evaluated. Ours are what the run itself says."""
    folder, summary, _ = measured
    files = {"bertlite_jax": "bertlite_jax/seed-0/summary.json", "transformers": "transformers/seed-0.json"}
    for side, name in files.items():
        (run,) = summary["scores"][side]["seeds"]
        stored = json.loads((folder / name).read_text())
        assert run["accuracy"] == stored["accuracy"]
        assert run["best_step"] == stored["best_step"]
        assert run["best_step"] in (8, 12)
        assert 0 < run["accuracy"] <= 1
    losses = json.loads((folder / files["transformers"]).read_text())["losses"]
    assert len(losses) == 12
    assert np.isfinite(losses).all()


def test_seeds_are_summed_up_by_their_median():
    runs = [{"f1": f1, "best_step": 1, "compute": "cpu_bfloat16", "examples_per_second": 9.0} for f1 in (0.5, 0.9, 0.8)]
    found = finetune.medians({"bertlite_jax": runs}, ("f1",))["bertlite_jax"]
    assert found["f1"] == 0.8
    assert found["precision"] == "cpu_bfloat16"
    assert len(found["seeds"]) == 3


@pytest.mark.thorough
def test_what_was_trained_is_not_trained_again(files, measured, tmp_path, monkeypatch):
    """A copy of the folder is gone on with; PyTorch is not started."""
    folder, summary, _ = measured
    shutil.copytree(folder, tmp_path / "run")

    def started(*_):
        raise AssertionError("the peer was started again")

    monkeypatch.setattr(finetune, "start_peer", started)
    again = bench(files, workdir=str(tmp_path / "run"), seeds=1, rounds=0)
    assert again["scores"] == summary["scores"]


@pytest.mark.thorough
def test_another_recipe_is_trained_again(files, measured, tmp_path, monkeypatch):
    folder, _, _ = measured
    kept = tmp_path / "seed-0.json"
    shutil.copy(folder / "transformers" / "seed-0.json", kept)

    class Started(Exception):
        pass

    def started(*_):
        raise Started

    monkeypatch.setattr(finetune, "start_peer", started)
    other = finetune.load_recipe(files["config"], "sst2", files["data"], 48, 0)
    with pytest.raises(Started):
        finetune.peer_run(other, files["init"], kept, "float32")


@pytest.mark.thorough
def test_an_export_gives_the_same_predictions(measured, tmp_path):
    """Every one of the 29, in float32; packed rows against padded ones."""
    run = measured[0] / "bertlite_jax" / "seed-0"
    out = tmp_path / "figures.json"
    found = predictions.bench_predictions(str(run), out=str(out))
    assert found["examples"] == 29
    assert found["float32"]["different"] == []
    assert found["float32"]["largest_difference"] < 1e-4
    stored = json.loads((run / "summary.json").read_text())["accuracy"]
    assert found["transformers"]["accuracy"] == found["float32"]["figures"]["accuracy"] == stored
    assert json.loads(out.read_text()) == found


@pytest.mark.thorough
def test_differences_are_listed_with_their_margin(measured):
    """Of two examples one has the other answer; in their logits it leads by 0.5."""
    head = read_json(measured[0] / "bertlite_jax" / "seed-0" / "config.json", Finetuned).head
    ours, theirs = np.array([[1.0, 0.0], [2.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 1.5]])
    found = predictions.differences(head, "ab", ours, theirs)
    assert found == {"largest_difference": 1.0, "different": [{"id": "b", "margin": 0.5}]}


# --- Turns -----------------------------------------------------------------------------------------------------------


def test_ratios_are_of_examples_and_of_the_best_turns():
    """64 examples in 2 s at best against 32 in 4 s: 32 / s and 8 / s. By rounds: 32 / 8 and 16 / 4, both 4."""
    ours = Contender("ours", "float32", 1.0, 64, lambda: 0.0, seconds=[2.0, 4.0])
    theirs = Contender("theirs", "float32", 0.5, 32, lambda: 0.0, seconds=[4.0, 8.0])
    first, second = finetune_ours.throughput([ours, theirs])
    assert (first["examples_per_second"], second["examples_per_second"]) == (32.0, 8.0)
    assert (second["ratio"], second["ratio_median"]) == (4.0, 4.0)


def test_batches_of_a_turn_are_as_long_as_those_of_an_epoch():
    """Longest examples 1 to 100; four batches stand for quarters: 13, 38, 63, 88 of places from 0."""
    batches = [np.array([number]) for number in np.random.default_rng(0).permutation(100)]
    chosen = finetune_ours.representative(batches, np.arange(1, 101), 4)
    assert [int(batch[0]) for batch in chosen] == [12, 37, 62, 87]


# --- What is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0, "rounds": 0}, "nothing to measure"),
        ({"seeds": 1}, "--workdir is missing"),
        ({"seeds": 0, "peer_precision": "float16"}, "--peer-precision float16 must be auto, float32 or bfloat16"),
        ({"seeds": 0, "task": "sst3"}, "sst3: no such task"),
    ],
)
def test_mistakes_are_one_line(files, options, message, monkeypatch):
    monkeypatch.setattr(finetune_peer, "check_installed", lambda: None)
    with pytest.raises(UserError, match=message):
        bench(files, **options)


def test_a_config_of_another_job_is_refused(files, tmp_path, monkeypatch):
    monkeypatch.setattr(finetune_peer, "check_installed", lambda: None)
    (tmp_path / "pretrain.py").write_text("from bertlite_jax.config import Pretrain\nconfig = Pretrain()\n")
    with pytest.raises(UserError, match="config is a Pretrain; bench finetune needs a Finetune"):
        bench(files | {"config": str(tmp_path / "pretrain.py")}, seeds=0)
