"""Runs with replaced tokens and causal steps: the same on any devices, resumed with their bits, open to every job."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import tiny
from run_files import lines_of, losses_of

from bertlite_jax.cli.main import main
from bertlite_jax.config import files
from bertlite_jax.config.pretrain import Objective, Pretrain
from bertlite_jax.config.schedule import of_kind
from bertlite_jax.jobs.pretraining import pretrain, step
from bertlite_jax.jobs.pretraining.evaluate import evaluate
from bertlite_jax.jobs.pretraining.fill_mask import fill_mask
from bertlite_jax.report.cost import flops
from bertlite_jax.report.run import html
from bertlite_jax.train import checkpoint, sharding

pytestmark = pytest.mark.usefixtures("compiled_once")

BOTH = Objective(replaced_weight=5.0, causal_every=5)
SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}


def with_objective(config: Pretrain, objective: Objective = BOTH) -> Pretrain:
    return dataclasses.replace(config, objective=objective)


def figures_of(run: pathlib.Path) -> dict[int, dict[str, float]]:
    """Step to losses and accuracies of a line, times and speeds left out."""
    kept = ("_loss", "_accuracy", "_share", "grad_norm")
    lines = [line for line in lines_of(run) if "loss" in line]
    return {line["step"]: {n: v for n, v in line.items() if n == "loss" or n.endswith(kept)} for line in lines}


def params_of(run: pathlib.Path) -> dict:
    return checkpoint.restore_params(run / "checkpoints")[0]


@pytest.fixture(scope="module")
def both(prepared, compiled, tmp_path_factory) -> pathlib.Path:
    """Twelve steps on one device, of which 5 and 10 are causal. Tests leave the run as it is."""
    from compiling import compile_once

    run = tmp_path_factory.mktemp("both") / "run"
    with compile_once(compiled):
        pretrain.pretrain(with_objective(tiny.pretrain(prepared, log_every=1)), str(run))
    return run


# --- What a run writes -----------------------------------------------------------------------------------------------


def test_lines_name_each_loss_and_never_mix_them(both):
    """A causal step's line has the figures of the step before, beside its own under their own names."""
    found = figures_of(both)
    assert sorted(found) == list(range(1, 13))
    assert [number for number, line in found.items() if "causal_loss" in line] == [5, 10]
    for causal, before in ((5, 4), (10, 9)):
        beside = {name: value for name, value in found[causal].items() if not name.startswith("causal_")}
        assert beside == found[before]
    for line in found.values():
        pairs = line["pair_loss"]
        assert line["loss"] == pytest.approx(line["mlm_loss"] + pairs + 5 * line["replaced_loss"], rel=1e-5)
        assert 0 < line["replaced_share"] < 0.3
    assert found[10]["causal_loss"] < found[5]["causal_loss"]


def test_the_summary_has_how_well_replaced_tokens_are_found(both):
    summary = json.loads((both / "summary.json").read_text())
    assert 0.1 < summary["valid_replaced_share"] < 0.2, "nearly all of the 15 % that an evaluation masks"
    assert 0.5 < summary["valid_replaced_accuracy"] <= 1
    assert summary["valid_replaced_loss"] > 0
    assert summary["parameters"] == flops.parameters(files.read_json(both / "config.json").model)["total"]


def test_flops_count_the_second_pass_and_causal_steps(both, prepared):
    config = files.read_json(both / "config.json")
    made = np.diff([line["total_flops"] for line in lines_of(both) if "total_flops" in line], prepend=0)
    ordinary, causal = (flops.train_flops_per_step(of_kind(config, causal)) for causal in (False, True))
    assert made.tolist() == [causal if number in (5, 10) else ordinary for number in range(1, 13)]
    assert flops.run_flops(config) == 10 * ordinary + 2 * causal
    assert ordinary > 1.5 * flops.train_flops_per_step(tiny.pretrain(prepared)), "nearly a pass more"


@pytest.mark.thorough
def test_where_every_line_falls_on_a_causal_step_the_others_are_still_logged(prepared, tmp_path):
    config = with_objective(tiny.pretrain(prepared, steps=8, log_every=2, eval_every=0), Objective(causal_every=2))
    pretrain.pretrain(config, str(tmp_path / "run"))
    lines = figures_of(tmp_path / "run")
    assert sorted(lines) == [2, 4, 6, 8]
    assert all({"loss", "mlm_loss", "causal_loss", "causal_accuracy"} <= line.keys() for line in lines.values())


@pytest.mark.thorough
def test_steps_before_the_first_causal_one_are_those_of_a_run_without(prepared, tmp_path, trained, capsys):
    """To the bit; from then on the weights differ."""
    config = with_objective(tiny.pretrain(prepared), Objective(causal_every=7))
    pretrain.pretrain(config, str(tmp_path / "run"))
    assert "pretrain: one step in 7 is causal, from step 7 on" in capsys.readouterr().out
    wanted, found = losses_of(trained), losses_of(tmp_path / "run")
    assert [number for number in wanted if found[number] == wanted[number]] == [2, 4, 6]


# --- The programs ----------------------------------------------------------------------------------------------------


def lowered(config: Pretrain, replaced: bool = False) -> str:
    """The program of a step before XLA optimises it, without the places in our files that it comes from."""
    model = dataclasses.replace(config.model, replaced_head=replaced)
    config = dataclasses.replace(config, model=model)
    mesh = sharding.make_mesh(1)
    return step.lower(config, step.make_pretraining(config, "float32", mesh, SPECIAL), mesh).as_text()


@pytest.mark.thorough
def test_causal_steps_leave_the_others_program_as_it_is(prepared):
    config = tiny.pretrain(prepared)
    assert lowered(with_objective(config, Objective(causal_every=5))) == lowered(config)
    assert lowered(of_kind(with_objective(config), causal=True)) != lowered(config)


@pytest.mark.thorough
def test_each_kind_of_step_is_compiled_once_in_each_stage(prepared, tmp_path, monkeypatch):
    """One layer up to step 4, two from there on; 3, 6, 9 and 12 are causal, also in a stage of its own depth."""
    compiled = []
    real = step.compile_beside
    monkeypatch.setattr(
        step, "compile_beside", lambda stage, mesh: (compiled.append(stage.config), real(stage, mesh))[1]
    )
    config = with_objective(
        tiny.pretrain(prepared, depths=((1, 4),), eval_every=0, log_every=1), Objective(causal_every=3)
    )
    pretrain.pretrain(config, str(tmp_path / "run"))
    found = [(stage.model.num_layers, stage.objective.causal) for stage in compiled]
    assert sorted(found) == [(1, False), (1, True), (2, False), (2, True)]
    assert len(losses_of(tmp_path / "run")) == 12


# --- Anywhere the same, and again -----------------------------------------------------------------------------------


def assert_close(run: pathlib.Path, wanted: pathlib.Path) -> None:
    """All losses, accuracies and shares within 1e-5; of accuracies that is the same tokens."""
    found, figures = figures_of(run), figures_of(wanted)
    assert found.keys() == figures.keys()
    for number, line in figures.items():
        assert found[number].keys() == line.keys()
        for name, value in line.items():
            assert found[number][name] == pytest.approx(value, abs=1e-5, rel=1e-5), (number, name)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("run", "micro_batches"),
    [
        pytest.param({"devices": 8}, 1, marks=pytest.mark.slow),
        ({"devices": 2}, 4),
        pytest.param({"devices": 1}, 4, marks=pytest.mark.slow),
        pytest.param({"devices": 8, "fsdp": 4, "tensor": 2, "zero1": True}, 1, marks=pytest.mark.slow),
    ],
    ids=["eight devices", "two devices, four micro-batches", "four micro-batches", "everything split"],
)
def test_devices_and_micro_batches_do_not_matter(both, prepared, tmp_path, run, micro_batches):
    config = with_objective(tiny.pretrain(prepared, log_every=1, eval_every=0, **run))
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, micro_batches=micro_batches))
    pretrain.pretrain(config, str(tmp_path / "run"))
    assert_close(tmp_path / "run", both)


@pytest.mark.parametrize("lost", [pytest.param((8, 12), marks=pytest.mark.thorough), (12,)])
def test_a_run_that_lost_its_last_steps_makes_them_again_to_the_bit(both, prepared, tmp_path, lost):
    """Back to step 4, before the causal step 5, and to step 8: lines with all figures, and weights."""
    run = tmp_path / "run"
    shutil.copytree(both, run)
    for number in lost:
        shutil.rmtree(run / "checkpoints" / str(number))
    (run / "summary.json").unlink()
    pretrain.pretrain(with_objective(tiny.pretrain(prepared, log_every=1)), str(run))
    assert figures_of(run) == figures_of(both)
    jax.tree.map(np.testing.assert_array_equal, params_of(run), params_of(both))
    assert (
        json.loads((run / "summary.json").read_text())["valid_mlm_loss"]
        == (json.loads((both / "summary.json").read_text())["valid_mlm_loss"])
    )


@pytest.mark.thorough
def test_what_a_line_says_of_the_step_before_survives_a_restart_in_between(prepared, tmp_path):
    """The last checkpoint is of step 4, whose losses are in the line of the causal step 5; step 4 is not made again."""
    config = with_objective(tiny.pretrain(prepared, steps=5, log_every=5, eval_every=0))
    run = tmp_path / "run"
    pretrain.pretrain(config, str(run))
    wanted = figures_of(run)
    assert {"mlm_loss", "causal_loss"} <= wanted[5].keys()
    shutil.rmtree(run / "checkpoints" / "5")
    pretrain.pretrain(config, str(run))
    assert figures_of(run) == wanted


@pytest.mark.slow
def test_with_all_schedules_and_parts_of_single_layers_one_device_and_eight_agree(prepared, shorter, tmp_path):
    """Lengths, batches, a mask rate that falls; own norms, vectors, low-rank pairs, the factor of the depth."""
    config = tiny.scheduled(
        tiny.pretrain(prepared, log_every=1, eval_every=0), shorter, batches=((16, 6),), lengths=((32, 7),)
    )
    model = tiny.trained_model(residual_scale="depth", own_norms=True, depth_vector=True, low_rank=2, norm="pre")
    config = with_objective(dataclasses.replace(config, model=model), Objective(replaced_weight=5.0, causal_every=3))
    pretrain.pretrain(config, str(tmp_path / "one"))
    eight = dataclasses.replace(config, run=dataclasses.replace(config.run, devices=8))
    pretrain.pretrain(eight, str(tmp_path / "eight"))
    assert_close(tmp_path / "eight", tmp_path / "one")


# --- Other jobs ------------------------------------------------------------------------------------------------------


def test_evaluate_gives_the_figures_of_the_run(both):
    summary = json.loads((both / "summary.json").read_text())
    again = evaluate(str(both), rows=8)
    for name in ("valid_mlm_loss", "valid_replaced_loss", "valid_replaced_accuracy", "valid_replaced_share"):
        assert again[name] == pytest.approx(summary[name], abs=1e-5)


def test_fill_mask_and_report_take_such_a_run(both):
    assert len(fill_mask(str(both), "alice was [MASK] tired")[0]) == 5
    run = html.Run(
        "both", files.read_json(both / "config.json"), lines_of(both), json.loads((both / "summary.json").read_text())
    )
    page = html.render(run)
    assert "Replaced tokens: accuracy" in page
    assert "Causal steps: loss" in page
    assert "One step in 5 is causal and costs" in page
    assert "head for replaced tokens" in page


@pytest.mark.thorough
@pytest.mark.parametrize(("objective", "note"), [(BOTH, ""), (Objective(), "is not used by this config")])
def test_a_run_starts_from_its_weights_with_and_without_the_head(both, prepared, tmp_path, capsys, objective, note):
    config = with_objective(tiny.pretrain(prepared, steps=5, eval_every=0), objective)
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, learning_rate=1e-12))
    summary = pretrain.pretrain(config, str(tmp_path / "run"), init=str(both))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("init: ")]
    assert len(said) == (4 if note else 0)
    assert all("replaced/" in line and note in line for line in said)
    wanted = json.loads((both / "summary.json").read_text())
    assert summary["valid_mlm_loss"] == pytest.approx(wanted["valid_mlm_loss"], abs=1e-4)


@pytest.mark.thorough
def test_a_run_with_the_head_starts_from_one_without(trained, prepared, tmp_path, capsys):
    config = with_objective(tiny.pretrain(prepared, steps=5, eval_every=0))
    pretrain.pretrain(config, str(tmp_path / "run"), init=str(trained))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("init: ")]
    assert len(said) == 4
    assert all("replaced/" in line and "initialised randomly" in line for line in said)


# --- What cannot be learnt -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objective.replaced-weight", "-1"], "objective.replaced_weight = -1.0 cannot be negative"),
        (["--objective.replaced-weight", "nan"], "objective.replaced_weight = nan must be a finite number"),
        (["--objective.causal-every", "1"], "objective.causal_every = 1 leaves no step for the masked language model"),
        (["--objective.causal-every", "-2"], "objective.causal_every = -2 cannot be negative"),
        (["--objective.causal-every", "41"], "objective.causal_every = 41 must be at most run.steps = 40"),
        (["--model.replaced-head"], "model.replaced_head needs its loss; pass --objective.replaced-weight 50"),
    ],
)
def test_what_cannot_be_learnt_is_one_line_and_nothing_is_written(prepared, tmp_path, capsys, options, message):
    run = tmp_path / "run"
    data = ["--data.corpus", prepared.corpus, "--data.tokenizer", prepared.tokenizer]
    code = main(["pretrain", "configs/debug_cpu.py", "--workdir", str(run), *data, *options])
    assert code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"config: {message}" in line
    assert not run.exists()
