"""`bertlite agora`: recipe, settings and places reach the job; a mistake is one line."""

import pathlib
from typing import Any

import pytest

from bertlite_jax.cli.main import main
from bertlite_jax.config.agora.settings import Agora
from bertlite_jax.jobs.agora import agora

GLUE = str(pathlib.Path(__file__).resolve().parents[2] / "configs" / "finetune_glue.py")
WHERE = ["--workdir", "out", "--init", "bort", "--teacher", "large", "--data", "GLUE"]
ROW = {"round": 1, "models": 12, "best accuracy": 0.75, "median": None, "best set": "lr-1e-05"}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the job was given."""
    given: list[tuple[Any, ...]] = []
    summary = {"metric": "accuracy", "accuracy": 0.75, "table": [ROW]}
    monkeypatch.setattr(agora, "agora", lambda *arguments: given.append(arguments) or summary)
    return given


def test_recipe_settings_and_places_reach_the_job(called, capsys: pytest.CaptureFixture[str]):
    typed = ["--agora.learning-rates", "1e-4", "9e-6", "--agora.weight-decays", "0", "350", "--run.epochs", "50"]
    assert main(["agora", GLUE, "--task", "rte", *WHERE, *typed]) == 0
    ((config, settings, *rest),) = called
    assert rest == ["large", "out", "bort", False, False]
    assert settings == Agora(learning_rates=(1e-4, 9e-6), weight_decays=(0.0, 350.0))
    assert (config.data.task, config.data.folder, config.run.epochs) == ("rte", "GLUE", 50.0)
    out = capsys.readouterr().out
    assert "lr-1e-05" in out
    assert "diverged" in out  # The median of the round.
    assert "agora: all figures are in out/summary.json" in out


def test_a_dry_run_prints_no_summary(called, capsys: pytest.CaptureFixture[str]):
    assert main(["agora", GLUE, "--task", "rte", *WHERE, "--dry-run"]) == 0
    assert called[0][-2:] == (True, False)
    assert capsys.readouterr().out == ""


def test_lists_can_be_empty(called):
    """Then the recipe's own value counts, and may be given."""
    assert main(["agora", GLUE, *WHERE, "--agora.batches", "--agora.templates", "--data.batch-examples", "8"]) == 0
    ((config, settings, *_),) = called
    assert (settings.batches, settings.templates, config.data.batch_examples) == ((), (), 8)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--optim.learning-rate", "1e-4"], "--optim.learning-rate has no effect: --agora.learning-rates says what is"),
        (["--data.batch-examples", "8"], "--data.batch-examples has no effect: --agora.batches says what is tried"),
        (["--agora.prune", "families"], "agora: --agora.prune families is unknown; did you mean"),
        (["--agora.transforms", "back_translation"], "back_translation"),
        (["--task", "all-glue"], "agora: --task all-glue is a suite; name one of its tasks"),
        (["--data.folder", "other"], "agora: --data GLUE and --data.folder other differ"),
        (["--agora.replays", "0", "--agora.patience", "3"], "--agora.patience has no effect with agora.replays = 0"),
        (["--points", "3"], "agora: unknown option --points; did you mean --agora.points?"),
    ],
)
def test_a_mistake_is_one_line(typed: list[str], said: str, called, capsys: pytest.CaptureFixture[str]):
    assert main(["agora", GLUE, *WHERE, *typed]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not called
