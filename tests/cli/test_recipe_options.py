"""What is given on the command line has an effect: it wins over the recipe, or is refused with what it needs."""

import dataclasses
import pathlib

import pytest

from bertlite_jax.cli import runs, tasks
from bertlite_jax.cli.main import main
from bertlite_jax.cli.recipe import fields_given
from bertlite_jax.config import effects, files
from bertlite_jax.config.finetune import Finetune, check_finetune
from bertlite_jax.data.tasks import TASKS

ROOT = pathlib.Path(__file__).parents[2]
GLUE = str(ROOT / "configs" / "finetune_glue.py")
ALBERT = str(ROOT / "configs" / "finetune_albert_glue.py")
PRETRAIN = str(ROOT / "configs" / "debug_cpu.py")


@pytest.fixture
def started(monkeypatch) -> list:
    """The recipes that training would have started with."""
    recipes: list = []

    def pretended(config, *arguments, **named):
        recipes.append(config)
        return {}

    monkeypatch.setattr("bertlite_jax.jobs.finetuning.finetune.finetune", pretended)
    monkeypatch.setattr("bertlite_jax.jobs.pretraining.pretrain.pretrain", pretended)
    monkeypatch.setattr("bertlite_jax.jobs.finetuning.seeds_and_sweeps.finetune_sweep", pretended)
    return recipes


def finetune(recipe: str, options: str) -> int:
    return main(["finetune", recipe, *options.split(), "--init", "E", "--workdir", "R"])


def test_epochs_on_the_command_line_win_over_a_recipes_steps(started, capsys):
    """MNLI's row has 10,000 steps of which 1,000 are warm-up, and evaluations counted in steps."""
    assert finetune(ALBERT, "--task mnli --data D --run.epochs 1") == 0
    (config,) = started
    assert (config.run.steps, config.run.epochs, config.run.eval_every) == (0, 1.0, 0)
    assert (config.optim.warmup_steps, config.run.warmup_fraction) == (0, 0.1)
    said = capsys.readouterr().out
    assert "--run.epochs 1.0 takes the place of the recipe's run.steps = 10000" in said
    assert "warm-up is 10.0% of the steps" in said
    check_finetune(config)


def test_what_is_given_beside_epochs_stays(started):
    finetune(ALBERT, "--task mnli --data D --run.epochs 1 --optim.warmup-steps 7 --run.eval-every 5")
    assert (started[0].optim.warmup_steps, started[0].run.eval_every) == (7, 5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--run.epochs 1 --run.steps 5", "--run.epochs and --run.steps cannot be combined"),
        ("--run.warmup-fraction 0.2 --optim.warmup-steps 5", "--run.warmup-fraction and --optim.warmup-steps cannot"),
        (
            "--run.average-decay 0.5",
            "--run.average-decay has no effect with run.average = none; pass --run.average ema",
        ),
        ("--run.average ema --run.average-steps 5", "--run.average-steps has no effect with run.average = ema"),
        ("--task sst2 --data.text-column a", "--data.text-column has no effect with data.task = sst2; it is for files"),
        ("--task sst2 --data.kind regression", "--data.kind has no effect with data.task = sst2"),
        ("--task sst2 --data.validation-file f", "--data.validation-file has no effect with data.task = sst2"),
        (
            "--data.validation-file f --data.validation-fraction 0.2",
            "--data.validation-fraction and --data.validation-file",
        ),
        ("--task sst2 --data.task cola", "--task sst2 and --data.task cola differ"),
        ("--task sst2 --head.labels a b", "--head.labels has no effect with --task sst2"),
        ("--head.labels a b --data.label-names c d", "--head.labels and --data.label-names differ"),
        (
            "--data.kind regression --data.label-names a b",
            "--data.label-names has no effect with data.kind = regression",
        ),
        ("--data.kind tag --data.pair-column b", "--data.pair-column has no effect with data.kind = tag"),
        ("--data.window-step 64", "--data.window-step has no effect with data.task = not set; it is for questions"),
        ("--task sst2 --head.span conditioned", "--head.span has no effect with data.task = sst2; it is for questions"),
        ("--learn.confidence 0.5", "--learn.confidence has no effect with learn.consistency = 0.0"),
        ("--learn.temperature 3", "--learn.temperature has no effect with learn.teacher = not set"),
        ("--optim.momentum 0.9", "--optim.momentum has no effect with optim.name = adamw; pass --optim.name muon"),
        ("--data.no-pack --data.row-length 256", "--data.row-length has no effect with data.pack = False"),
        ("--sweep --optim.learning-rate 1e-5", "--optim.learning-rate has no effect with --sweep; pass --sweep-rates"),
        ("--sweep-rates 1e-5", "--sweep-rates has no effect without --sweep"),
        ("--probe layers --run.epochs 1", "--run.epochs has no effect with --probe layers"),
        ("--probe layers --quantise.bits 4", "--quantise.bits has no effect with --probe layers"),
    ],
)
def test_an_option_without_an_effect_is_refused(options, said, started, capsys):
    assert finetune(GLUE, f"{options} --data D") == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not started


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--data.no-pack --data.windows-per-row 4", "--data.windows-per-row has no effect with data.pack = False"),
        ("--mask.scheme word --mask.max-ngram 2", "--mask.max-ngram has no effect with mask.scheme = word"),
        ("--optim.decay-steps 5", "--optim.decay-steps has no effect with optim.schedule = "),
        ("--optim.schedule reference --optim.end-fraction 0.1", "--optim.end-fraction has no effect"),
        ("--optim.name lamb --optim.momentum 0.9", "--optim.momentum has no effect with optim.name = lamb"),
        ("--optim.name muon --optim.neuron-decay 0.9", "--optim.neuron-decay has no effect with optim.name = muon"),
    ],
)
def test_of_pretraining_too(options, said, started, capsys):
    assert main(["pretrain", PRETRAIN, *options.split(), "--workdir", "R"]) == 2
    assert said in capsys.readouterr().err
    assert not started


def test_a_recipe_may_hold_what_is_idle():
    """Whoever switches the other setting on finds it there."""
    idle = effects.replaced(Finetune(), "run.average_decay", 0.5)
    assert tasks.finetune_settings(idle, set()) == (idle, [])


def test_the_tasks_about_texts_are_those_of_spans():
    assert set(effects.ABOUT_TEXTS) == {name for name, task in TASKS.items() if task.head.kind == "span"}


def test_every_field_of_the_tables_exists():
    finetune_fields, pretrain_fields = files.flat(Finetune()), files.flat(runs.Pretrain())
    for needs, known in ((effects.FINETUNE_NEEDS, finetune_fields), (effects.PRETRAIN_NEEDS, pretrain_fields)):
        named = {name for need in needs for name in (*need.fields, need.owner)}
        assert named - set(known) == set()
    pairs = {name for override in effects.FINETUNE_OVERRIDES for name in (override.weaker, override.stronger)}
    assert pairs - set(finetune_fields) == set()


def test_options_are_found_however_they_are_typed():
    given = fields_given(["--run.epochs=1", "--data.no-pack", "--optim.learning-rate", "1e-3", "-h"], Finetune())
    assert given == {"run.epochs", "data.pack", "optim.learning_rate"}


def test_labels_of_ones_own_may_be_named_as_the_heads(started):
    assert finetune(GLUE, "--data own.csv --head.labels neg pos") == 0
    assert started[0].data.label_names == ("neg", "pos")
    check_finetune(dataclasses.replace(started[0]))
