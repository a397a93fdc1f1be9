"""The guide to fine-tuning: its commands are ones that the command line takes, its recipes and tasks exist."""

import pathlib
import re
import shlex

import pytest

from bertlite_jax.cli.main import main
from bertlite_jax.config import files
from bertlite_jax.data import tasks
from bertlite_jax.jobs.answering import predict, predict_split
from bertlite_jax.jobs.benchmarks.finetune import bench_finetune
from bertlite_jax.jobs.benchmarks.predictions import bench_predictions
from bertlite_jax.jobs.finetuning import finetune, suite

ROOT = pathlib.Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs/finetune.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```\n(.*?)^```", GUIDE, re.M | re.S)
COMMANDS = [line for block in FENCED for line in block.splitlines() if line.startswith("bertlite ") and "[" not in line]
OPTIONS = [
    "--seeds 5",
    "--data.no-pack",
    "--adapt.keep-head",
    "--adapt.layer-decay 0.9",
    "--adapt.freeze-layers 2",
    "--run.average ema",
    "--run.average tail",
    "--run.patience 3",
    "--head.hidden 128",
    "--head.dropout 0.2",
    "--adapt.dropout 0.0",
    "--data.window-step 96",
    "--head.span independent",
    "--data.text-column a --data.label-column c",
    "--data.kind multi_label",
    "--data.validation-file dev.csv",
    "--learn.class-weights balanced",
    "--run.epochs 1",
]


@pytest.fixture
def called(monkeypatch) -> list[str]:
    """Which jobs would have run."""
    names: list[str] = []

    def pretended(name: str):
        def job(*arguments, **named):
            names.append(name)
            return {}

        return job

    monkeypatch.chdir(ROOT)
    for module, name in (
        (finetune, "finetune"),
        (suite, "finetune_suite"),
        (predict, "predict"),
        (predict_split, "predict_split"),
    ):
        monkeypatch.setattr(module, name, pretended(name))
    monkeypatch.setattr("bertlite_jax.jobs.finetuning.seeds_and_sweeps.finetune_seeds", pretended("finetune_seeds"))
    return names


@pytest.mark.parametrize("command", [c for c in COMMANDS if " bench " not in c])
def test_the_command_line_takes_every_command(command, called, capsys):
    assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    assert len(called) == 1


def test_there_are_commands_for_every_family():
    named = {name for command in COMMANDS for name in re.findall(r"--task (\w+)", command)}
    assert {tasks.TASKS[name].head.kind for name in named} == {"classify", "choose", "tag", "span"}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_that_is_named_exists(option, called, capsys):
    about_texts = re.search("window-step|question-length|answer-length", option)
    data = "--task squad1 --data SQUAD" if about_texts else "--data own.csv"
    start = f"finetune finetune_glue {data} --init E --workdir R"
    assert main(shlex.split(f"{start} {option}")) == 0, capsys.readouterr().err
    assert all(part.removesuffix(" ") in GUIDE for part in re.findall(r"--[\w.-]+", option))


def test_the_benchmarks_take_what_the_guide_gives_them(monkeypatch):
    assert "seeds" in bench_finetune.__annotations__
    assert "run" in bench_predictions.__annotations__


def test_every_recipe_of_fine_tuning_is_named():
    assert set(re.findall(r"`(finetune_\w+)`", GUIDE)) == {name for name in files.shipped() if "finetune" in name}
