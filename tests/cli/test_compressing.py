"""`bertlite prune` and `compress`: the recipe is the run's, what is typed changes it, and the table begins with it."""

import pathlib
from typing import Any

import pytest

from bertlite_jax.cli.main import main
from bertlite_jax.config.compression.compress import Compress
from bertlite_jax.config.compression.prune import Prune
from bertlite_jax.config.files import to_json
from bertlite_jax.config.finetune import Examples, Finetuned, TuneRun
from bertlite_jax.config.pretrain import Optim
from bertlite_jax.jobs.compressing import compress, prune

COSTS = {"measured_speed_up": 1.0, "parameters": 1_000, "layers": 6}
SUMMARY: dict[str, Any] = {
    "metric": "accuracy",
    "cpu": "A CPU",
    "models": [
        {"speed_up": 1.0, "accuracy": 0.875, "milliseconds": 8.0, "folder": "run", **COSTS},
        {"speed_up": 2.0, "accuracy": 0.75, "milliseconds": 4.0, "folder": "out/2x", **COSTS},
    ],
}


@pytest.fixture
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The config of a run with 600 steps at 3e-5, in the folder where the tests run."""
    monkeypatch.chdir(tmp_path)
    config = Finetuned(
        data=Examples(task="sst2", folder="GLUE"),
        optim=Optim(name="adamw", learning_rate=3e-5, warmup_steps=60, bias_correction=True),
        run=TuneRun(steps=600),
        init="base",
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(to_json(config))
    return "run"


FAMILY = SUMMARY | {"reference": "ONNX float32", "note": ""}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the job was given, which returns `SUMMARY`."""
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(prune, "prune", lambda *arguments: given.append(arguments) or SUMMARY)
    monkeypatch.setattr(compress, "compress", lambda *arguments: given.append(arguments) or FAMILY)
    return given


def test_what_is_typed_changes_the_recipe_of_the_run(run: str, called, capsys: pytest.CaptureFixture[str]):
    typed = ["--workdir", "out", "--speed-up", "2", "4", "--products", "int8", "--run.epochs", "2"]
    assert main(["prune", run, *typed]) == 0
    ((config, settings, *rest),) = called
    assert rest == ["run", "out", False]
    assert settings == Prune(speed_up=(2.0, 4.0), products="int8")
    assert (config.optim.learning_rate, config.run.epochs, config.run.steps) == (3e-5, 2.0, 0)
    assert config.adapt.keep_head
    out = capsys.readouterr().out
    assert "prune: --run.epochs 2.0 takes the place of the recipe's run.steps = 600" in out
    assert out.index("0.875") < out.index("0.75 ")
    assert "A CPU" in out


def test_students_learn_from_the_run_unless_another_teacher_is_named(run: str, called):
    assert main(["compress", run, "--workdir", "out", "--points", "6-7bit", "3-2x-4bit"]) == 0
    assert main(["compress", run, "--workdir", "out", "--learn.teacher", "large", "--learn.teacher-weight", "0.9"]) == 0
    (config, settings, *rest), (other, usual, *_) = called
    assert (config.learn.teacher, config.adapt.keep_head, config.optim.learning_rate) == ("run", True, 3e-5)
    assert settings == Compress(points=("6-7bit", "3-2x-4bit"))
    assert rest == ["run", "out", False, False]
    assert (other.learn.teacher, other.learn.teacher_weight, usual) == ("large", 0.9, Compress())


def test_a_slash_behind_the_run_names_the_same_teacher(run: str, called):
    """Shells add one when they complete the name; the family would be refused as another teacher's."""
    assert main(["compress", f"{run}/", "--workdir", "out"]) == 0
    (config, _, named, *_) = called[0]
    assert (config.learn.teacher, named) == (run, run)


def test_a_run_that_a_signal_stopped_has_no_table(run: str, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(prune, "prune", lambda *arguments: {"stopped": True, "steps": 7})
    assert main(["prune", run, "--workdir", "out"]) == 0
    out = capsys.readouterr().out
    assert "stopped" in out
    assert "models" not in out


@pytest.mark.parametrize("job", ["prune", "compress"])
@pytest.mark.parametrize("key", ["format", "model_type"])
def test_the_best_model_of_a_run_is_not_the_run(
    job: str, key: str, run: str, called, capsys: pytest.CaptureFixture[str]
):
    """It has no recipe; nor has a folder of transformers."""
    best = pathlib.Path(run, "best")
    best.mkdir()
    (best / "config.json").write_text(f'{{"{key}": "weights", "model": {{}}, "head": {{}}}}')
    assert main([job, f"{run}/best", "--workdir", "out"]) == 2
    said = f"{job}: run/best has the weights of a model without its recipe; name the work directory of its run: run\n"
    assert capsys.readouterr().err == said
    assert not called


@pytest.mark.parametrize("job", ["prune", "compress"])
def test_a_run_is_named_first(job: str, called, capsys: pytest.CaptureFixture[str]):
    assert main([job, "--workdir", "out"]) == 2
    said = f"{job}: the first argument is the work directory of a fine-tuning run\n"
    assert capsys.readouterr().err == said
    assert not called


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], "prune: the first argument is the work directory of a fine-tuning run"),
        (["--workdir", "out"], "prune: the first argument is the work directory of a fine-tuning run"),
        (["gone", "--workdir", "out"], "gone/config.json does not exist"),
        (["gone", "--workdir", "out", "--speedup", "2"], "--speed-up"),
        (["run", "--workdir", "out", "--run.epochs", "2", "--run.steps", "9"], "cannot be combined"),
    ],
)
def test_a_mistake_is_one_line(typed: list[str], said: str, run: str, called, capsys: pytest.CaptureFixture[str]):
    assert main(["prune", *typed]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not called
