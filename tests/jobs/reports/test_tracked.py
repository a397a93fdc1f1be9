"""Jobs send what they write to the trackers of a run, and the report at the end; here the tracker is in memory."""

import dataclasses
import importlib.util
import json
import pathlib
from collections import Counter
from collections.abc import Mapping
from concurrent import futures

import pytest
import tiny
from run_files import lines_of
from toy_task import recipe, write_pretrained, write_sst2

from bertlite_jax.cli import main
from bertlite_jax.config.pretrain import Pretrain, Run
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.distilling.distill import distill
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.jobs.finetuning.seeds_and_sweeps import finetune_seeds
from bertlite_jax.jobs.pretraining.pretrain import pretrain
from bertlite_jax.jobs.reports.tracked import send_reports
from bertlite_jax.jobs.runs import one_job, tracking
from bertlite_jax.report.run.tags import tagged
from bertlite_jax.report.trackers.record import About, Record

pytestmark = pytest.mark.usefixtures("compiled_once")


class Tracker:
    """Records by the id of their run."""

    def __init__(self):
        self.about: dict[str, About] = {}
        self.rows: dict[str, list[tuple[str, int, float]]] = {}
        self.pages: dict[str, str] = {}
        self.failed: list[bool] = []
        """What was said when a record was closed."""

    def open_record(self, about: About) -> Record:
        self.about[about.id] = about
        rows = self.rows.setdefault(about.id, [])

        def send(step: int, figures: Mapping[str, float]) -> None:
            rows.extend((name, step, value) for name, value in figures.items())

        def artifact(path: pathlib.Path) -> None:
            self.pages[about.id] = path.read_text(encoding="utf-8")

        return Record("in memory", {name: step for name, step, _ in rows}, send, artifact, self.failed.append)


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Tracker:
    """In the place of MLflow, which need not be installed."""
    made, found = Tracker(), importlib.util.find_spec
    monkeypatch.setattr(tracking, "opener", lambda name: made.open_record)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: found("json" if name == "mlflow" else name, *more)
    )
    return made


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> str:
    return write_sst2(tmp_path_factory.mktemp("glue"))


def id_of(run: pathlib.Path) -> str:
    return json.loads((run / tracking.FILE).read_text())["id"]


def assert_followed(tracker: Tracker, run: pathlib.Path) -> None:
    written = [
        (name, line["step"], value) for line in lines_of(run) for name, value in tagged(line | {"step": None}).items()
    ]
    assert written
    assert Counter(tracker.rows[id_of(run)]) == Counter(written)


# --- Jobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_pretraining_and_distillation_are_followed(tracker, prepared, tmp_path):
    config = tiny.pretrain(prepared, track=("mlflow",), track_project="mine")
    pretrain(config, str(tmp_path / "one"))
    assert_followed(tracker, tmp_path / "one")
    about = tracker.about[id_of(tmp_path / "one")]
    assert about.name == f"{tmp_path.name}/one"
    assert about.project == "mine"
    assert about.settings["optim.learning_rate"] == config.optim.learning_rate
    assert about.settings["data.corpus"] == [prepared.corpus]
    student = tiny.distil(prepared, write_pretrained(tmp_path / "teacher", prepared.tokenizer, tiny.TEACHER))
    distill(dataclasses.replace(student, run=config.run), str(tmp_path / "two"))
    assert_followed(tracker, tmp_path / "two")


@pytest.mark.thorough
def test_fine_tuning_is_followed_from_the_start_and_from_later_on(tracker, encoder, toy, tmp_path):
    """A run that has ended is followed too, once its command is given with a tracker."""
    followed = recipe(toy, run={"steps": 4, "track": ("mlflow",)})
    finetune(followed, str(tmp_path / "one"), encoder)
    assert_followed(tracker, tmp_path / "one")
    finetune(recipe(toy), str(tmp_path / "two"), encoder)
    with pytest.raises(UserError, match=r"holds no run with run\.track"):
        send_reports(tmp_path / "two")
    finetune(followed, str(tmp_path / "two"), encoder)
    send_reports(tmp_path / "two")
    assert_followed(tracker, tmp_path / "two")


def test_a_missing_package_is_refused_before_anything_is_written(prepared, encoder, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None)
    with pytest.raises(UserError, match=r"pip install \"bertlite_jax\[wandb\]\""):
        pretrain(tiny.pretrain(prepared, track=("wandb",)), str(tmp_path / "one"))
    with pytest.raises(UserError, match=r"pip install \"bertlite_jax\[wandb\]\""):
        finetune(recipe(toy, run={"track": ("wandb",)}), str(tmp_path / "two"), encoder)
    assert list(tmp_path.iterdir()) == []


# --- Reports ---------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_each_run_of_several_seeds_gets_its_report(tracker, encoder, toy, tmp_path):
    finetune_seeds(recipe(toy, run={"steps": 2, "track": ("mlflow",)}), str(tmp_path / "runs"), encoder, seeds=2)
    send_reports(tmp_path / "runs")
    for seed in (0, 1):
        run = tmp_path / f"runs/seed-{seed}"
        assert_followed(tracker, run)
        assert tracker.pages[id_of(run)] == (run / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "runs/report.html").is_file()


def test_the_command_sends_the_report_and_report_sends_it_again(tracker, prepared, tmp_path):
    config = tiny.pretrain(prepared, steps=4, eval_every=0, track=("mlflow",))
    (tmp_path / "config.py").write_text(f"from bertlite_jax.config import *\nconfig = {config!r}\n")
    run = tmp_path / "run"
    assert main.main(["pretrain", str(tmp_path / "config.py"), "--workdir", str(run)]) == 0
    assert "Not finished" not in tracker.pages.pop(id_of(run))
    assert main.main(["report", str(run), "--track"]) == 0
    assert tracker.pages[id_of(run)] == (run / "report.html").read_text(encoding="utf-8")
    assert_followed(tracker, run)


def test_a_record_says_whether_its_run_has_ended(tracker, tmp_path):
    """A run without a summary was killed or stopped; a report of it does not make it a finished one."""
    config = Pretrain(run=Run(track=("mlflow",)))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    (tmp_path / "report.html").write_text("<html>half</html>")
    tracking.send_report(tmp_path, config, tmp_path / "report.html")
    assert tracker.failed == [True]
    (tmp_path / "summary.json").write_text("{}")
    tracking.send_report(tmp_path, config, tmp_path / "report.html")
    assert tracker.failed == [True, False]


def test_a_run_that_is_being_trained_sends_its_metrics_itself(tracker, tmp_path, capsys):
    """A report that is asked for meanwhile sends nothing."""
    with one_job.alone_in(tmp_path / "run"), futures.ThreadPoolExecutor() as another:
        config = Pretrain(run=Run(track=("mlflow",)))
        another.submit(tracking.send_report, tmp_path / "run", config, tmp_path / "run/report.html").result()
        assert "is in use by another job of this process" in capsys.readouterr().out
        assert tracker.rows == {}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--run.track", "mlfow"], "did you mean mlflow?"),
        (["--run.track", "mlflow", "mlflow"], "run.track names mlflow twice; leave one of them out"),
        (["--run.track-project", "mine"], "--run.track-project has no effect with run.track = not set"),
    ],
)
def test_options_that_cannot_be_are_one_line(given, says, tmp_path, capsys):
    assert main.main(["pretrain", "debug_cpu", "--workdir", str(tmp_path / "run"), *given]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
