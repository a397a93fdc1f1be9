"""Several runs as one: seeds, a grid, and recipes for each task."""

import json
import pathlib
import statistics

import pytest
from toy_task import recipe, write_sst2

from bertlite_jax.cli.main import main
from bertlite_jax.config import files
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.jobs.finetuning import seeds_and_sweeps

pytestmark = pytest.mark.usefixtures("compiled_once")

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> str:
    return write_sst2(tmp_path_factory.mktemp("glue"), train=32, dev=13)


def read(run: pathlib.Path) -> dict:
    return json.loads((run / "summary.json").read_text())


@pytest.mark.thorough
def test_seeds_give_median_least_and_greatest_and_go_on_where_they_stopped(encoder, toy, tmp_path):
    config = recipe(toy, run={"steps": 2, "seed": 5})
    seeds_and_sweeps.finetune_seeds(config, str(tmp_path), encoder, 2)
    first = (tmp_path / "seed-5/summary.json").stat().st_mtime_ns
    summary = seeds_and_sweeps.finetune_seeds(config, str(tmp_path), encoder, 3)
    assert (tmp_path / "seed-5/summary.json").stat().st_mtime_ns == first
    scores = {str(tmp_path / f"seed-{seed}"): read(tmp_path / f"seed-{seed}")["accuracy"] for seed in (5, 6, 7)}
    assert summary["accuracy"] == statistics.median(scores.values())
    assert (summary["accuracy_min"], summary["accuracy_max"]) == (min(scores.values()), max(scores.values()))
    assert scores[summary["best_run"]] == max(scores.values())
    assert read(tmp_path) == summary
    with pytest.raises(UserError, match="holds a single run"):
        seeds_and_sweeps.finetune_seeds(config, str(tmp_path / "seed-5"), encoder, 2)


@pytest.mark.thorough
def test_a_sweep_names_its_best_point_goes_on_and_survives_a_point_that_diverges(encoder, toy, tmp_path):
    config = recipe(toy, run={"steps": 2})
    seeds_and_sweeps.finetune_sweep(config, str(tmp_path), encoder, rates=(1e-3,), batches=(16,))
    first = (tmp_path / "lr-0.001-batch-16/summary.json").stat().st_mtime_ns
    summary = seeds_and_sweeps.finetune_sweep(config, str(tmp_path), encoder, rates=(1e-3, 1e30), batches=(16,))
    assert (tmp_path / "lr-0.001-batch-16/summary.json").stat().st_mtime_ns == first
    good, bad = summary["points"]
    assert good["accuracy"] == read(tmp_path / "lr-0.001-batch-16")["accuracy"] == summary["accuracy"]
    assert (summary["best_rate"], summary["best_batch"], summary["best_run"]) == (1e-3, 16, good["folder"])
    assert "step 2: loss nan" in bad["diverged"]
    assert read(tmp_path) == summary
    with pytest.raises(Diverged, match="every point of the sweep diverged"):
        seeds_and_sweeps.finetune_sweep(config, str(tmp_path), encoder, rates=(1e30,), batches=(16,))


@pytest.mark.parametrize(
    ("rates", "batches", "said"),
    [
        ((1e-3, -1.0), (16,), r"optim.learning_rate = -1.0 must be positive"),
        ((1e-3,), (16, 0), r"data.batch_examples = 0 must be positive"),
        ((1e-3, 1.0000001e-3), (16,), r"--sweep-rates has two rates that are 0.001 to six digits"),
    ],
)
def test_a_point_that_cannot_be_trained_ends_a_sweep_before_its_first(rates, batches, said, encoder, toy, tmp_path):
    config = recipe(toy, run={"steps": 2})
    with pytest.raises(UserError, match=said):
        seeds_and_sweeps.finetune_sweep(config, str(tmp_path / "run"), encoder, rates, batches)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--seeds 0", "--seeds 0 must be at least 1 and at most 10,000"),
        ("--seeds 2147483647", "--seeds 2147483647 must be at least 1 and at most 10,000"),
        ("--seeds 3 --run.seed 4294967294", "--seeds 3 from run.seed = 4294967294 on exceeds 2**32"),
    ],
)
def test_seeds_that_there_are_not_are_refused_before_the_first(options, said, tmp_path, capsys):
    command = f"finetune {ROOT}/configs/finetune_glue.py --task mrpc --data D --init I --workdir {tmp_path / 'run'}"
    assert main([*command.split(), *options.split()]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_command_sweeps_over_berts_grid(monkeypatch, tmp_path, capsys):
    asked = []

    def sweep(config, run, init, rates, batches, seeds, overwrite):
        asked.append((config.data.task, run, init, rates, batches, seeds, overwrite))
        point = {"learning_rate": 5e-5, "batch_examples": 16, "folder": "x", "accuracy": 0.9}
        return {"best_rate": 5e-5, "points": [point]}

    monkeypatch.setattr(seeds_and_sweeps, "finetune_sweep", sweep)
    monkeypatch.chdir(ROOT)
    command = "finetune configs/finetune_glue.py --task mrpc --data D --init I --workdir W --sweep --seeds 3"
    assert main(command.split()) == 0
    assert asked == [("mrpc", "W", "I", (5e-5, 4e-5, 3e-5, 2e-5), (16, 32), 3, False)]
    assert "points of the sweep" in capsys.readouterr().out


@pytest.mark.parametrize(("task", "steps", "batch"), [("cola", 5336, 16), ("mnli", 10000, 128), ("rte", 800, 32)])
def test_a_recipe_of_a_suite_has_the_papers_settings_for_each_task(task, steps, batch):
    """Lan et al. 2020, Table 14."""
    config = files.load_file(str(ROOT / "configs/finetune_albert_glue.py"), task)
    assert (config.run.steps, config.data.batch_examples) == (steps, batch)
