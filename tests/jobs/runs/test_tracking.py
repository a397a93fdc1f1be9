"""Records in real trackers, on this machine and without a network: what a killed and resumed run leaves in them.

A process writes lines of metrics and kills itself, and another one goes on from an earlier step, as a run does that
resumes at a checkpoint. `tests/report/trackers/test_following.py` has the cases that need no tracker's library.
"""

import importlib.util
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import damage
import pytest
import tiny
from run_files import lines_of, losses_of, start_with, wait_for

from bertlite_jax.config import files
from bertlite_jax.config.checks import check_pretrain
from bertlite_jax.config.pretrain import Optim, Pretrain, Run
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.runs import tracking, workdir
from bertlite_jax.report.run.tags import tagged
from bertlite_jax.report.trackers.opening import check_installed

ROOT = pathlib.Path(__file__).resolve().parents[3]
WRITE = """
import os, pathlib, signal, sys, time
from bertlite_jax.config import files
from bertlite_jax.jobs.runs import resumed_metrics, tracking
from bertlite_jax.report.run import metrics

run, start, end, killed = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:])
config = files.read_json(run / "config.json")
resumed_metrics.truncate(run / "metrics.jsonl", start)
with metrics.open_writer(run, False, start + 1, tracking.records(run, config)) as writer:
    for step in range(start + 1, end + 1):
        metrics.write(writer, step, {"loss": 1 / step, "grad_norm": float(os.getpid())})
        if step % 5 == 0:
            metrics.write(writer, step, {"valid_loss": 2 / step})
        if killed:
            deadline = time.monotonic() + 60
            while writer.followers[0].last.get("train/loss", 0) < step - 1 and time.monotonic() < deadline:
                time.sleep(0.01)  # As a step of training does, so that the tracker has sent something by the end.
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)
"""
"""The lines of the steps after `start`, with a loss that follows from the step and another figure that does not."""
SEND = """
import pathlib, sys
from bertlite_jax.config import files
from bertlite_jax.jobs.runs import tracking

run = pathlib.Path(sys.argv[1])
tracking.send_report(run, files.read_json(run / "config.json"), run / "report.html")
"""


@pytest.fixture
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty folder, in which trackers keep their records."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def begin(here: pathlib.Path, *trackers: str) -> pathlib.Path:
    run = here / "runs/mine"
    run.mkdir(parents=True)
    config = Pretrain(optim=Optim(learning_rate=0.125), run=Run(track=trackers))  # pyright: ignore[reportArgumentType]
    (run / "config.json").write_text(files.to_json(config))
    return run


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def write(run: pathlib.Path, start: int, end: int, killed: bool = False) -> str:
    """Returns what was printed."""
    process = python(WRITE, run, start, end, int(killed))
    assert process.returncode == (-signal.SIGKILL if killed else 0), process.stderr
    return process.stdout


# --- What trackers have, by their own means --------------------------------------------------------------------------

Rows = list[tuple[str, int, float]]


def in_trackio(run: pathlib.Path) -> tuple[Rows, dict[str, object], list[str]]:
    code = """
import json, sys, trackio
from trackio.sqlite_storage import SQLiteStorage
(run,) = trackio.Api().runs("bertlite")
assert run.id == sys.argv[1]
rows = [(key, row["step"], value) for row in SQLiteStorage.get_logs("bertlite", run.name, run_id=run.id)
        for key, value in row.items() if key not in ("step", "timestamp")]
artifacts = [each["name"] for each in SQLiteStorage.list_artifacts("bertlite")]
print(json.dumps([run.name, rows, run.config, artifacts]))
"""
    return read(code, run)


def in_mlflow(run: pathlib.Path) -> tuple[Rows, dict[str, object], list[str]]:
    code = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient()
(run,) = client.search_runs([client.get_experiment_by_name("bertlite").experiment_id])
assert run.data.tags["bertlite_id"] == sys.argv[1]
assert run.info.status == "FINISHED", run.info.status
rows = [(key, each.step, each.value) for key in run.data.metrics
        for each in client.get_metric_history(run.info.run_id, key)]
config = {key: json.loads(value) if value[:1].isdigit() else value for key, value in run.data.params.items()}
artifacts = [each.path for each in client.list_artifacts(run.info.run_id)]
print(json.dumps([run.info.run_name, rows, config, artifacts]))
"""
    return read(code, run)


def in_wandb(run: pathlib.Path) -> tuple[Rows, dict[str, object], list[str]]:
    """From the one file that `wandb sync` uploads."""
    from wandb.proto import wandb_internal_pb2  # pyright: ignore[reportMissingImports]

    (file,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    rows, config, artifacts = [], {}, []
    for content in records_of(file):
        record = wandb_internal_pb2.Record.FromString(content)
        if record.HasField("run"):
            assert record.run.run_id == id_of(run)
            assert record.run.display_name == "runs/mine"
            config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        rows += [(key, items["_step"], value) for key, value in items.items() if not key.startswith("_")]
        if record.HasField("artifact") or record.request.HasField("log_artifact"):
            artifacts.append(record.artifact.name or record.request.log_artifact.artifact.name)
    return rows, config, artifacts


def records_of(file: pathlib.Path) -> Iterator[bytes]:
    """The records of a .wandb file, which is a log of LevelDB's form in blocks of 32,768 bytes, after 7 bytes."""
    data, place, parts = file.read_bytes(), 7, []
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + 7])
        parts.append(data[place + 7 : place + 7 + size])
        place += 7 + size
        if kind in (1, 4):  # The whole of a record, or its last part.
            yield b"".join(parts)
            parts = []


def read(code: str, run: pathlib.Path) -> tuple[Rows, dict[str, object], list[str]]:
    process = python(code, id_of(run))
    assert process.returncode == 0, process.stderr
    name, rows, config, artifacts = json.loads(process.stdout.splitlines()[-1])
    assert name == "runs/mine"
    return [tuple(row) for row in rows], config, artifacts


def id_of(run: pathlib.Path) -> str:
    return json.loads((run / tracking.FILE).read_text())["id"]


TRACKERS = {"trackio": in_trackio, "mlflow": in_mlflow, "wandb": in_wandb}


@pytest.fixture(params=TRACKERS)
def tracker(request: pytest.FixtureRequest) -> str:
    """Each tracker whose package is installed."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f'{request.param} is missing; pip install "bertlite_jax[{request.param}]"')
    return request.param


# --- Records ---------------------------------------------------------------------------------------------------------


def test_a_killed_and_resumed_run_has_every_step_once_in_its_record(tracker, here):
    """Killed at step 12 and at step 17, with checkpoints of steps 8 and 15; 20 steps, and a report of them all."""
    run = begin(here, tracker)
    write(run, 0, 12, killed=True)
    write(run, 8, 17, killed=True)
    said = write(run, 15, 20)
    assert "lacks" not in said
    (run / "report.html").write_text("<html>a report</html>")
    (run / "summary.json").write_text("{}")  # As a finished run has it.
    assert "lacks" not in python(SEND, run).stdout
    rows, config, artifacts = TRACKERS[tracker](run)
    seen = Counter((name, step) for name, step, _ in rows)
    wanted = {(f"train/{name}", step) for name in ("loss", "grad_norm") for step in range(1, 21)}
    assert seen == Counter(wanted | {("valid/loss", step) for step in (5, 10, 15, 20)})
    losses = {step: value for name, step, value in rows if name == "train/loss"}
    assert losses == pytest.approx({step: 1 / step for step in range(1, 21)})
    assert config["optim.learning_rate"] == 0.125
    assert any("report" in name for name in artifacts)


@pytest.mark.slow
def test_pretraining_that_is_killed_twice_has_every_step_once_in_its_record(tracker, here, prepared, compiled):
    """Kill -9 in the middle of training; the report comes from the command itself."""
    config = tiny.pretrain(prepared, steps=40, checkpoint_every=5, eval_every=10, log_every=1, track=(tracker,))
    start, run = start_with(config, compiled), here / "runs/mine"
    run.parent.mkdir()
    for step in (13, 27):
        process = start(run)
        wait_for(lambda step=step: max(losses_of(run), default=0) >= step, process)
        process.kill()
        process.communicate()
    output, _ = start(run).communicate(timeout=300)
    assert "resuming from step" in output
    assert "lacks" not in output
    rows, config, artifacts = TRACKERS[tracker](run)
    written = [
        (name, line["step"], value) for line in lines_of(run) for name, value in tagged(line | {"step": None}).items()
    ]
    assert Counter((name, step) for name, step, _ in rows) == Counter((name, step) for name, step, _ in written)
    losses = {step: value for name, step, value in rows if name == "train/loss"}
    assert losses == pytest.approx(losses_of(run))
    assert config["run.steps"] == 40
    assert any("report" in name for name in artifacts)


def test_several_trackers_follow_one_run(here):
    for name in TRACKERS:
        pytest.importorskip(name, reason=f'{name} is missing; pip install "bertlite_jax[{name}]"')
    run = begin(here, *TRACKERS)
    write(run, 0, 6)
    for name, look in TRACKERS.items():
        assert sorted({step for _, step, _ in look(run)[0]}) == list(range(1, 7)), name


def test_a_server_that_is_not_there_is_said_and_gets_everything_later(here, monkeypatch):
    """The run goes on to its end; then the server is back, here as a database."""
    pytest.importorskip("mlflow", reason='mlflow is missing; pip install "bertlite_jax[mlflow]"')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = begin(here, "mlflow")
    said = write(run, 0, 5).splitlines()
    assert said[0].startswith("track: mlflow: ")
    assert said[0].endswith("the run goes on, and what is missing is sent later")
    assert said[-1].startswith("track: mlflow lacks 6 lines of metrics.jsonl (")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/mlflow.db")
    write(run, 5, 5)
    assert sorted({step for _, step, _ in in_mlflow(run)[0]}) == [1, 2, 3, 4, 5]


def test_without_a_login_the_run_goes_on_and_says_what_to_do(here, monkeypatch):
    pytest.importorskip("wandb", reason='wandb is missing; pip install "bertlite_jax[wandb]"')
    monkeypatch.delenv("WANDB_MODE")
    said = write(begin(here, "wandb"), 0, 2).splitlines()
    assert "run `wandb login`, or set WANDB_MODE=offline" in said[0]
    assert "lacks 2 lines" in said[-1]


def test_a_tracker_that_is_switched_off_is_said_to_keep_nothing(here, monkeypatch):
    pytest.importorskip("wandb", reason='wandb is missing; pip install "bertlite_jax[wandb]"')
    monkeypatch.setenv("WANDB_MODE", "disabled")
    said = write(begin(here, "wandb"), 0, 2).splitlines()
    assert said == ["track: wandb: WANDB_MODE is disabled, so it keeps nothing"]
    assert not (here / "runs/mine/wandb").exists()


# --- Ids, refusals ---------------------------------------------------------------------------------------------------


def test_the_id_stays_while_the_run_resumes(tmp_path):
    first = tracking.id_of(tmp_path)
    assert tracking.id_of(tmp_path) == id_of(tmp_path) == first
    assert len(first) == 16


def test_a_run_that_starts_over_has_another_id(tmp_path):
    """`--overwrite` clears the folder, so the new run gets records of its own."""
    first = tracking.id_of(tmp_path)
    workdir.clear(tmp_path)
    assert tracking.id_of(tmp_path) != first


def test_a_run_without_trackers_has_no_id(tmp_path):
    assert tracking.records(tmp_path, Pretrain()) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ['{"id": "../x"}', '{"id": 5}', "{}", '{"id": ""}'])
def test_a_damaged_id_is_refused(content, tmp_path):
    (tmp_path / tracking.FILE).write_text(content)
    with pytest.raises(UserError, match=r"tracking\.json: `id` should be letters and digits"):
        tracking.records(tmp_path, Pretrain(run=Run(track=("mlflow",))))


@pytest.mark.parametrize("name", damage.JSON)
def test_a_file_that_is_no_json_is_told(name, tmp_path):
    (tmp_path / tracking.FILE).write_text('{"id": "0123456789abcdef"}')
    damage.apply(tmp_path / tracking.FILE, damage.JSON[name])
    with pytest.raises(UserError, match=r"tracking\.json"):
        tracking.records(tmp_path, Pretrain(run=Run(track=("mlflow",))))


@pytest.mark.parametrize(
    ("trackers", "says"),
    [(("mlfow",), "run.track = mlfow is unknown; did you mean mlflow?"), (("wandb", "wandb"), "names wandb twice")],
)
def test_trackers_that_cannot_be_are_refused(trackers, says):
    with pytest.raises(UserError, match=says.replace("?", r"\?")):
        check_pretrain(Pretrain(run=Run(track=trackers)))


def test_a_missing_package_is_told_with_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "bertlite_jax\[wandb\]"'):
        check_installed(("wandb",))


def test_a_folder_that_a_tracker_wrote_is_not_its_package(tmp_path, monkeypatch):
    """W&B writes into a folder `wandb` of the folder that one works in, and Python takes any folder for a package."""
    (tmp_path / "wandb/run-1").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(UserError, match=r'pip install "bertlite_jax\[wandb\]"'):
        check_installed(("wandb",))


def test_a_library_is_imported_before_threads_send(tmp_path, monkeypatch):
    """In a thread beside others it might be imported by halves."""
    (tmp_path / "mlflow.py").write_text("imported = True")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    tracking.records(tmp_path, Pretrain(run=Run(track=("mlflow",))))
    assert sys.modules["mlflow"].imported
    sys.modules.pop("mlflow")


def test_a_package_that_a_library_lacks_is_told(tmp_path, monkeypatch):
    (tmp_path / "mlflow.py").write_text("import a_package_that_is_missing")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    with pytest.raises(UserError, match=r"No module named 'a_package_that_is_missing'; pip install .*\[mlflow\]"):
        tracking.records(tmp_path, Pretrain(run=Run(track=("mlflow",))))
