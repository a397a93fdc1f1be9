"""Dry runs, kills and signals: nothing is written by the first, and nothing repeated after the others."""

import pathlib
import signal
import subprocess
import sys

import pytest
import tiny
from run_files import caching_environment, hears_ctrl_c, wait_for

from bertlite_jax.config.search.settings import Shape, Surrogate
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.jobs.searching import rows, teacher, training
from bertlite_jax.jobs.searching.search import search
from bertlite_jax.search import space

ROOT = pathlib.Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.usefixtures("compiled_once")


def test_a_dry_run_shows_space_costs_and_time_and_writes_nothing(prepared, tmp_path, capsys, monkeypatch):
    """At 1 s to start, 0.1 s a step and 0.2 s for either further scoring, five shapes with 8 steps take 5 x 2.2 s."""
    pace = training.Pace(1.0, 0.1, 0.2)
    monkeypatch.setattr(training, "time_steps", lambda setup, shape, members, steps=5: pace)
    monkeypatch.setenv("COLUMNS", "120")
    assert search(tiny.search(prepared), "s.py", str(tmp_path / "out"), dry_run=True) == {}
    said = capsys.readouterr().out
    assert said.count("<") >= 5
    assert "<3,4,48,96>" in said
    assert "4 shapes, the last row is the maximum point; latency of 1 x 64 tokens, analytic, host this" in said
    assert "5 trainings of 1 learning rates x 1 seeds to do, about 0:11 in all" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.thorough
def test_a_dry_run_counts_the_maximum_point_only_where_it_is_not_kept(prepared, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(teacher, "open_teacher", lambda setup, path, key: teacher.Teacher((), 5.0, 2e-3))
    monkeypatch.setattr(training, "time_steps", lambda setup, shape, members, steps=5: training.Pace(1.0, 0.1, 0.2))
    config, place = tiny.search(prepared), str(tmp_path / "out")
    search(config, "s.py", place)
    capsys.readouterr()
    for is_kept, overwrite, said in (
        (False, False, "1 trainings"), (True, False, "everything has been trained"), (True, True, "5 trainings"),
    ):  # fmt: skip
        monkeypatch.setattr(teacher, "is_kept", lambda path, key, is_kept=is_kept: is_kept)
        search(config, "s.py", place, dry_run=True, overwrite=overwrite)
        assert said in capsys.readouterr().out


def test_a_dry_run_times_steps_of_three_shapes(of_text, tmp_path, monkeypatch, capsys):
    seen = []

    def time_steps(setup, shape, members, steps=5):
        seen.append(space.describe(shape))
        return training.Pace(1.0, 0.1 * shape.num_layers, 0.1)

    monkeypatch.setattr(training, "time_steps", time_steps)
    search(of_text(), "s.py", str(tmp_path / "out"), dry_run=True)
    assert (seen[0], seen[-1], len(seen)) == ("<1,2,16,32>", "<2,2,32,32>", 3)
    assert "4 trainings" in capsys.readouterr().out


def test_steps_are_timed(of_text, prepared):
    config = of_text()
    setup = training.Setup(config, "float32", rows.open_rows(config, load_tokenizer(prepared.tokenizer)))
    pace = training.time_steps(setup, Shape(1, 2, 16, 32, 16), [training.Member(1e-3, 0)], 3)
    assert pace.start > pace.step > 0
    assert pace.start > pace.scoring > 0


def test_a_signal_stops_a_search_between_steps(of_text, lines_of, trained, tmp_path, monkeypatch, capsys):
    pretended = training.train

    def train(setup, shape, members, steps):
        if len(trained) == 2:
            signal.raise_signal(signal.SIGTERM)
            assert setup.stop_wanted(1)
            raise training.Stopped
        return pretended(setup, shape, members, steps)

    monkeypatch.setattr(training, "train", train)
    assert search(of_text(), "s.py", str(tmp_path / "out")) == {"stopped": True}
    assert "search: stopped by a signal; the same command resumes" in capsys.readouterr().out
    assert len(lines_of(tmp_path / "out")) == 2
    monkeypatch.setattr(training, "train", pretended)
    search(of_text(), "s.py", str(tmp_path / "out"))
    assert len(trained) == 4


@pytest.mark.thorough
def test_killed_and_started_again_it_repeats_no_trial(of_text, lines_of, compiled, tmp_path):
    """Kill -9 after the first line; the second start trains the rest, and the lines before the kill stay."""
    surrogate = Surrogate("mlm", steps=40, learning_rates=(2e-3,))
    config = of_text(surrogate=surrogate)
    file, place = tmp_path / "s.py", tmp_path / "out"
    file.write_text(f"from bertlite_jax.config import *\nconfig = {config!r}\n")

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            hears_ctrl_c(["-m", "bertlite_jax", "search", str(file), "--workdir", str(place)]),
            env=caching_environment(compiled, devices=1),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    process = start()
    wait_for(lambda: len(lines_of(place)) >= 1, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = lines_of(place)
    assert len(before) < 4, "it was done before the kill"
    assert not (place / "winner.json").exists()

    output, _ = start().communicate(timeout=300)
    assert f"about {4 - len(before)} trainings to do" in output, output
    after = lines_of(place)
    assert after[: len(before)] == before
    assert len({line["key"] for line in after}) == len(after) == 4
    assert (place / "winner.json").is_file()


def test_the_search_imports_nothing_heavy_before_it_is_asked_for():
    """`bertlite search --help` must not wait for JAX's devices."""
    code = "import sys, bertlite_jax.cli.searching; print('bertlite_jax.jobs.searching.search' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "False"
