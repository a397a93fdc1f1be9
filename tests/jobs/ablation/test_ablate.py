"""A grid on a tiny model: its table, what a restart repeats, and members that cannot be finished.

Most runs are pretended; those of one grid train in this process, and of one in processes of their own.
"""

import contextlib
import io
import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import tiny
from run_files import caching_environment, hears_ctrl_c, lines_of, losses_of, wait_for
from toy_task import recipe, write_encoder

from bertlite_jax.cli.main import main
from bertlite_jax.config import Grid, Pretrain, files
from bertlite_jax.config.effects import replaced
from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.jobs.ablation import ablate, children, pace
from bertlite_jax.jobs.ablation.children import Ended
from bertlite_jax.jobs.text.corpus import build_corpus

ROOT = pathlib.Path(__file__).resolve().parents[3]


Commands = list[list[str]]


def instead_of_running(run: Callable[[list[str], children.Stop], Ended]):
    """`children.running`, where a command is over as soon as it has begun."""

    @contextlib.contextmanager
    def running(arguments: list[str], log: pathlib.Path, stop: children.Stop, cores=()):
        ended = run(arguments, stop)
        yield lambda: ended

    return running


@pytest.fixture
def pretended(monkeypatch) -> Commands:
    """What a grid would start in processes of their own. It is not run, but leaves what a run leaves, at once.

    The loss is 5 of the base and 4 of other members, and a tenth of the seed more.
    """
    asked: Commands = []

    def run(arguments: list[str], stop: children.Stop) -> Ended:
        asked.append(arguments)
        workdir = pathlib.Path(arguments[3])
        seed = int(arguments[arguments.index("--run.seed") + 1])
        workdir.mkdir(parents=True, exist_ok=True)
        if arguments[0] == "finetune":
            summary = {"metric": "accuracy", "accuracy": 0.5 + seed / 10}
        else:
            config = replaced(files.load_file(arguments[1]), "run.seed", seed)
            (workdir / "config.json").write_text(files.to_json(config))
            figures = {"valid_mlm_loss": 5 - ("base" not in arguments[3]) + seed / 10, "unigram_entropy": 6.0}
            (workdir / "metrics.jsonl").write_text(json.dumps({"step": config.run.steps, **figures}) + "\n")
            summary = {"steps": config.run.steps, "real_tokens": 100, "parameters": 9, **figures}
        (workdir / "summary.json").write_text(json.dumps(summary))
        return Ended("finished")

    monkeypatch.setattr(children, "running", instead_of_running(run))
    return asked


@pytest.fixture
def in_this_process(monkeypatch) -> Commands:
    """What a grid would start in processes of their own; it is run here instead."""
    asked: Commands = []

    def run(arguments: list[str], stop: children.Stop) -> Ended:
        asked.append(arguments)
        with io.StringIO() as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(arguments)
            done = (pathlib.Path(arguments[3]) / "summary.json").is_file()
            return children.ended(code, said.getvalue(), done, stop.wanted)

    monkeypatch.setattr(children, "running", instead_of_running(run))
    return asked


@pytest.fixture(scope="module")
def base(prepared) -> Pretrain:
    return tiny.pretrain(prepared, steps=4, eval_every=2, checkpoint_every=2)


def variants(**changes) -> dict[str, dict]:
    return {name: {field: value} for name, (field, value) in changes.items()}


def test_two_members_with_two_seeds_make_a_table_and_a_restart_repeats_nothing(base, pretended, tmp_path):
    place = tmp_path / "out"
    grid = Grid(base, variants(slow=("optim.learning_rate", 1e-4)), seeds=(3, 5))
    content = ablate.ablate(grid, "g.py", str(place))
    assert pretended == [
        ["pretrain", f"{place}/{name}/recipe.py", "--workdir", f"{place}/{name}/seed-{seed}", "--run.seed", str(seed)]
        for seed in (3, 5)
        for name in ("base", "slow")
    ]
    first, slow = content["members"]
    assert (first["valid_mlm_loss"], slow["valid_mlm_loss"]) == pytest.approx((5.4, 4.4))
    assert (slow["difference"], slow["difference_error"]) == pytest.approx((-1.0, 0.0))
    assert json.loads((place / "table.json").read_text()) == content
    assert "| slow | 2 of 2 | 4.4000 | 6.0000 |" in (place / "table.md").read_text()
    assert (place / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert files.load_file(str(place / "slow/recipe.py")) == replaced(base, "optim.learning_rate", 1e-4)

    assert ablate.ablate(grid, "g.py", str(place)) == content
    assert len(pretended) == 4
    ablate.ablate(Grid(base, grid.variants, seeds=(3, 5, 7)), "g.py", str(place))
    assert [arguments[-1] for arguments in pretended[4:]] == ["7", "7"]


@pytest.mark.thorough
def test_members_with_and_without_a_teacher_are_runs_of_their_jobs(base, pretended, prepared, tmp_path, capsys):
    """The fields of a recipe of distillation are options, and its recipes come back as they were.

    What was finished with other weights in the teacher's folder is not taken for a part of the grid.
    """
    teacher = write_encoder(tmp_path / "teacher", prepared.tokenizer)
    taught = tiny.distil(prepared, teacher)
    grid = tmp_path / "grid.py"
    grid.write_text(
        "from bertlite_jax.config import *\n"
        f"config = Grid({taught!r}, {{'random': {{'distill.start': 'random'}}, 'alone': {base!r}}}, seeds=(0,))\n"
    )
    place = tmp_path / "out"
    given = ["ablate", str(grid), "--workdir", str(place), "--distill.soft-weight", "4"]
    assert main(given) == 0
    assert [arguments[0] for arguments in pretended] == ["distill", "distill", "pretrain"]
    assert files.load_file(str(place / "base/recipe.py")) == replaced(taught, "distill.soft_weight", 4.0)
    assert files.load_file(str(place / "alone/recipe.py")) == base
    assert main(given) == 0
    (place / "random/seed-0/environment.json").write_text(json.dumps({"teachers": {teacher: "0" * 64}}))
    assert main(given) == 2
    assert f"random/seed-0 was started with other weights than {teacher} now holds" in capsys.readouterr().err
    assert len(pretended) == 3


@pytest.mark.thorough
@pytest.mark.usefixtures("compiled_once")
def test_a_member_that_diverges_and_one_that_lacks_memory_end_in_lines_and_the_others_go_on(
    base, in_this_process, tmp_path
):
    """A rate of 1e6 leaves every number behind; a width of 2**17 would need hundreds of gigabytes."""
    changes = variants(wild=("optim.learning_rate", 1e6)) | {
        "huge": {"model.hidden_size": 2**17, "model.ffn_size": 2**19, "model.num_layers": 2},
    }
    grid = Grid(replaced(base, "run.steps", 6), changes, seeds=(0,))
    content = ablate.ablate(grid, "g.py", str(tmp_path / "out"))
    stands = {row["member"]: row["seeds"][0] for row in content["members"]}
    assert [run["status"] for run in stands.values()] == ["finished", "diverged", "refused"]
    assert "step" in stands["wild"]["line"]
    assert "a step needs about" in stands["huge"]["line"]
    text = (tmp_path / "out/table.md").read_text()
    assert "* wild, seed 0: diverged: pretrain: step" in text
    assert "* huge, seed 0: refused: pretrain: a step needs about" in text

    ablate.ablate(grid, "g.py", str(tmp_path / "out"))
    assert [arguments[1] for arguments in in_this_process[3:]] == [str(tmp_path / "out/huge/recipe.py")]


def test_with_a_task_each_run_is_fine_tuned_and_scored(base, pretended, tmp_path):
    grid = Grid(base, variants(slow=("optim.learning_rate", 1e-4)), seeds=(3,), task=recipe("glue"))
    place = tmp_path / "out"
    content = ablate.ablate(grid, "g.py", str(place))
    run, tuned = place / "base/seed-3", place / "base/seed-3-task"
    assert pretended[1] == [
        *("finetune", f"{place}/task.py", "--workdir", str(tuned)),
        *("--run.seed", "3", "--init", str(run)),
    ]
    assert [arguments[0] for arguments in pretended] == ["pretrain", "finetune", "pretrain", "finetune"]
    assert [row["score"] for row in content["members"]] == [0.8, 0.8]
    assert content["members"][1]["score_difference"] == 0
    assert content["notes"] == []
    assert files.load_file(str(place / "task.py")) == grid.task
    ablate.ablate(grid, "g.py", str(place))
    assert len(pretended) == 4


@pytest.mark.parametrize(("status", "error"), [("diverged", Diverged), ("killed", UserError)])
def test_where_no_run_can_be_finished_the_grid_fails_with_its_line(base, status, error, monkeypatch, tmp_path):
    monkeypatch.setattr(children, "running", instead_of_running(lambda arguments, stop: Ended(status, "it says why")))
    grid = Grid(base, variants(slow=("optim.learning_rate", 1e-4)), seeds=(0,))
    with pytest.raises(error, match=r"no run was finished \(.*table.md\); base, seed 0: it says why"):
        ablate.ablate(grid, "g.py", str(tmp_path / "out"))


def test_a_changed_member_is_refused_unless_all_is_trained_again(base, pretended, tmp_path):
    place = str(tmp_path / "out")
    ablate.ablate(Grid(base, variants(slow=("optim.learning_rate", 1e-4)), seeds=(0,)), "g.py", place)
    changed = Grid(base, variants(slow=("optim.learning_rate", 2e-4)), seeds=(0,))
    with pytest.raises(
        UserError, match=r"slow/seed-0 holds a run with another config \(optim.learning_rate: 0.0001 ->"
    ):
        ablate.ablate(changed, "g.py", place)
    assert len(pretended) == 2
    ablate.ablate(changed, "g.py", place, overwrite=True)
    assert [arguments[-1] for arguments in pretended[2:]] == ["--overwrite", "--overwrite"]


def test_seconds_become_steps_by_the_pace_and_stay_those_after_a_restart(base, pretended, tmp_path, monkeypatch):
    """A step of the deep member takes twice as long, so it gets half the steps."""
    measured = []

    def measure(config, stop):
        measured.append(config.model.num_layers)
        return pace.Pace(0.5 * config.model.num_layers, 1.0)

    monkeypatch.setattr(pace, "_measure", measure)
    changes = variants(deep=("model.num_layers", 4), slow=("optim.learning_rate", 1e-4))
    grid = Grid(base, changes, seeds=(0,), seconds=8.0)
    content = ablate.ablate(grid, "g.py", str(tmp_path / "out"))
    assert [row["steps"] for row in content["members"]] == [8, 4, 8]
    assert measured == [2, 4]
    assert ablate.ablate(grid, "g.py", str(tmp_path / "out")) == content
    assert measured == [2, 4]
    assert len(pretended) == 3


def test_a_member_without_a_pace_is_not_run_for_seconds(base, pretended, tmp_path, monkeypatch):
    def measure(config, stop):
        if config.model.num_layers == 4:
            raise pace.NoPace("pretrain: a step needs about 9 TiB")
        return pace.Pace(1.0, 1.0)

    monkeypatch.setattr(pace, "_measure", measure)
    grid = Grid(base, variants(deep=("model.num_layers", 4)), seeds=(0,), seconds=4.0)
    content = ablate.ablate(grid, "g.py", str(tmp_path / "out"))
    assert len(pretended) == 1
    assert "deep, seed 0: refused: pretrain: a step needs about 9 TiB" in content["notes"]


def test_a_dry_run_writes_nothing_and_shows_runs_cost_and_time(base, pretended, tmp_path, monkeypatch, capsys):
    """At half a second a layer, 4 steps of 2 layers take 4 s.

    Two evaluations of 8 rows, as many as a step has, take a third of a step each; the start takes 1 s.
    In all 2 (1 + 4 + 2/3) + 2 (1 + 8 + 4/3) = 32.
    """
    monkeypatch.setattr(pace, "_measure", lambda config, stop: pace.Pace(0.5 * config.model.num_layers, 1.0))
    monkeypatch.setenv("COLUMNS", "160")
    grid = Grid(base, variants(deep=("model.num_layers", 4)), seeds=(0, 1))
    assert ablate.ablate(grid, "g.py", str(tmp_path / "out"), dry_run=True) == {}
    said = capsys.readouterr().out
    assert "deep" in said
    assert "4 of 4 runs to do, about 0:32 in all, one after the other: measured" in said
    assert not (tmp_path / "out").exists()
    assert pretended == []


def test_a_member_with_shorter_rows_at_first_is_compared_where_both_are_evaluated(base, pretended, prepared, tmp_path):
    """Its rows of 32 have a corpus of their own; a length that has none is named before anything runs."""
    short = str(tmp_path / "32")
    build_corpus([prepared.text], prepared.tokenizer, short, CorpusOptions(length=32), workers=1)
    staged = {"data.corpus": (short, prepared.corpus), "run.lengths": ((32, 2),)}
    content = ablate.ablate(Grid(base, {"staged": staged}, seeds=(0,)), "g.py", str(tmp_path / "out"))
    assert content["members"][1]["difference"] == pytest.approx(-1.0)
    without = {"without": {"run.lengths": ((48, 2),)}}
    with pytest.raises(UserError, match=r"ablate: without: corpus: run.lengths needs a corpus for rows of 48 tokens"):
        ablate.ablate(Grid(base, without, seeds=(0,)), "g.py", str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_a_grid_needs_a_folder_of_its_own(base, pretended, trained_folder):
    grid = Grid(base, variants(slow=("optim.learning_rate", 1e-4)), seeds=(0,))
    with pytest.raises(UserError, match="holds a single run"):
        ablate.ablate(grid, "g.py", str(trained_folder))


@pytest.fixture
def trained_folder(tmp_path) -> pathlib.Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_a_corpus_of_another_tokenizer_is_named_with_its_member(base, pretended, tmp_path):
    grid = Grid(base, variants(other=("data.tokenizer", str(tmp_path))), seeds=(0,))
    with pytest.raises(UserError, match="ablate: other: "):
        ablate.ablate(grid, "g.py", str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("code", "said", "done", "status", "line"),
    [
        (0, "fine", True, "finished", ""),
        (0, "pretrain: stopped by a signal", False, "stopped", "resumes"),
        (2, "W0000 a warning\nconfig: no\n\n", False, "refused", "config: no"),
        (1, "pretrain: step 3: loss nan, gradient norm 1", False, "diverged", "step 3"),
        (1, "Traceback\nValueError: ours", False, "failed", "exit code 1: ValueError: ours"),
        (-9, "", False, "killed", "SIGKILL; the system does that where memory is short"),
        (-15, "", False, "stopped", "resumes"),
        (-11, "", False, "killed", "SIGSEGV"),
    ],
)
def test_how_a_command_ended_is_told_by_its_code_and_its_last_line(code, said, done, status, line):
    ended = children.ended(code, said, done, False)
    assert ended.status == status
    assert line in ended.line


# --- Killed and stopped ----------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_killed_and_started_again_it_repeats_nothing_and_ctrl_c_stops_its_child(base, compiled, tmp_path):
    """Kill -9 in the second run, whose own process then saves and ends; Ctrl-C in it; then to the end."""
    long = replaced(replaced(replaced(base, "run.steps", 150), "run.log_every", 1), "run.checkpoint_every", 10)
    long = replaced(long, "run.eval_every", 0)
    file, place = tmp_path / "g.py", tmp_path / "out"
    file.write_text(
        f"from bertlite_jax.config import *\nbase = {long!r}\n"
        "config = Grid(base, {'slow': {'optim.learning_rate': 1e-4}}, seeds=(0,))\n"
    )
    first, second = place / "base/seed-0", place / "slow/seed-0"

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            hears_ctrl_c(["-m", "bertlite_jax", "ablate", str(file), "--workdir", str(place)]),
            env=caching_environment(compiled, devices=1),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def reached(step: int):
        return lambda: max(losses_of(second), default=0) >= step

    process = start()
    for moment in ((first / "config.json").is_file, (first / "summary.json").is_file, reached(12)):
        wait_for(moment, process)  # One after the other, as each may take a while.
    process.send_signal(signal.SIGKILL)
    process.communicate()
    whole = (first / "summary.json").stat().st_mtime_ns
    deadline = time.monotonic() + 60
    while list(second.glob(".bertlite-lock")) and time.monotonic() < deadline:
        time.sleep(0.05)
    at_kill = max(losses_of(second))
    assert at_kill < 150, "the run went on without its grid"

    process, log = start(), place / "slow/seed-0.log"
    wait_for(lambda: "resuming from step" in log.read_text(), process)
    wait_for(reached(at_kill + 12), process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "ablate: stopped by a signal; the same command resumes" in output
    assert "slow, seed 0: stopped" in output

    output, _ = start().communicate(timeout=300)
    assert "2 members, 2 runs, 1 to do" in output, output
    assert f"resuming from step {at_kill} of" in log.read_text()
    assert log.read_text().count("resuming from step") == 2
    assert [line["step"] for line in lines_of(second) if "loss" in line] == list(range(1, 151))
    assert (first / "summary.json").stat().st_mtime_ns == whole
    assert json.loads((place / "table.json").read_text())["members"][1]["finished"] == 1


def test_the_grid_itself_takes_no_device(base, tmp_path):
    """A TPU or GPU is for the processes of its runs: the first process that asks for it has it alone."""
    file = tmp_path / "g.py"
    file.write_text(
        f"from bertlite_jax.config import *\nbase = {base!r}\n"
        "config = Grid(base, {'slow': {'optim.learning_rate': 1e-4}}, seeds=(0,))\n"
    )
    code = (
        "import contextlib, sys\nfrom bertlite_jax.cli.main import main\n"
        "from bertlite_jax.jobs.ablation import children\n"
        "killed = children.Ended('killed', 'by a test')\n"
        "children.running = lambda *arguments: contextlib.nullcontext(lambda: killed)\n"
        "assert main(sys.argv[1:]) == 2\n"
        "from jax._src import xla_bridge\nprint(xla_bridge.backends_are_initialized())\n"
    )
    command = [sys.executable, "-c", code, "ablate", str(file), "--workdir", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n"), done.stdout
