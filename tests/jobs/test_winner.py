"""`bertlite search --then distill`: from a limit to a model that answers within it, in one command that resumes."""

import dataclasses
import json
import pathlib
import shutil

import pytest
import tiny

from bertlite_jax.cli.main import main
from bertlite_jax.config import files
from bertlite_jax.config.distillation.settings import OF_WINNER, Distill
from bertlite_jax.config.effects import replaced
from bertlite_jax.config.model import Model
from bertlite_jax.config.search.settings import Space, Surrogate
from bertlite_jax.errors import UserError
from bertlite_jax.jobs import winner
from bertlite_jax.jobs.searching import timing

pytestmark = pytest.mark.usefixtures("compiled_once")

LOSS = Surrogate("mlm", steps=8, learning_rates=(2e-3,))


def recipe(prepared, folder: pathlib.Path, **groups) -> str:
    """A file with `tiny.search`, whose winner is the wide shape with one layer unless a limit forbids it."""
    config = replaced(tiny.search(prepared, **{"surrogate": LOSS, **groups}), "method.exponents", (0.0, 0.0, 1.0))
    (folder / "mine.py").write_text(f"from bertlite_jax.config import *\nconfig = {config!r}\n")
    return str(folder / "mine.py")


@pytest.mark.thorough
def test_the_winner_learns_and_becomes_an_8_bit_file(prepared, teacher, trained, tmp_path, capsys):
    place = tmp_path / "out"
    command = ["search", recipe(prepared, tmp_path), "--workdir", str(place), "--latency", "1s", "--host", "this"]
    command += ["--then", "distill", "--teacher", teacher, "--calibrate", prepared.text]
    assert main(command) == 0
    said = capsys.readouterr().out
    answer = json.loads((place / "1-2-32-32/answer.json").read_text())
    assert answer["shape"] == "<1,2,32,32>"
    assert (answer["host"], answer["limit_seconds"], answer["rows"], answer["length"]) == ("this", 1.0, 1, 64)
    assert 0 < answer["seconds_int8"] < 1
    assert "8-bit encoder, timed here; the limit is 1e+03 ms" in said
    run = place / "1-2-32-32/distilled"
    config = files.read_json(run / "config.json")
    assert isinstance(config, Distill)
    assert config.distill == dataclasses.replace(OF_WINNER, teachers=(teacher,))
    assert (config.model.num_layers, config.model.hidden_size, config.run.steps) == (1, 32, 12)
    summary = json.loads((run / "summary.json").read_text())
    assert answer["valid_mlm_loss"] == summary["valid_mlm_loss"]
    file = place / "1-2-32-32/int8/onnx/model_quantized.onnx"
    assert answer["int8_bytes"] == file.stat().st_size
    assert abs(answer["int8_mlm_accuracy"] - answer["float32_mlm_accuracy"]) <= 0.005

    # The same command trains nothing again, and makes again what was lost.
    trials, weights = len(trained), (run / "summary.json").stat().st_mtime_ns
    shutil.rmtree(place / "1-2-32-32/int8")
    assert main(command) == 0
    assert len(trained) == trials
    assert (run / "summary.json").stat().st_mtime_ns >= weights
    again = json.loads((place / "1-2-32-32/answer.json").read_text())
    changing = ("seconds_int8",)
    assert {key: again[key] for key in again if key not in changing} == {
        key: answer[key] for key in answer if key not in changing
    }
    assert file.is_file()


def test_a_slice_answers_by_its_roofline_and_another_limit_leaves_the_first_winner(
    prepared, teacher, trained, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(timing, "int8_answer", lambda *arguments: pytest.fail("timed here"))
    place, taught = tmp_path / "out", []
    monkeypatch.setattr(winner, "distill", lambda config, run, overwrite: taught.append(run) or {"stopped": True})
    command = ["search", recipe(prepared, tmp_path), "--workdir", str(place), "--host", "v5e-4", "--then", "distill"]
    command += ["--teacher", teacher, "--calibrate", prepared.text]
    assert main(command) == 0
    table = json.loads((place / "table.json").read_text())
    seconds = sorted({row["seconds"] for row in table["ranking"]})
    assert main([*command, "--latency", f"{1e6 * (seconds[0] + seconds[1]) / 2:.6f}us"]) == 0
    assert [pathlib.Path(run).parent.name for run in taught] == ["1-2-32-32", "1-2-16-32"]
    words = winner.in_words(
        {
            "shape": "<1,2,16,32>",
            "rows": 8,
            "length": 64,
            "host": "v5e-4",
            "limit_seconds": 0.0,
            "seconds": 0.002,
            "seconds_int8": None,
            "valid_mlm_loss": 5.0,
            "float32_mlm_accuracy": 0.1,
            "int8_mlm_accuracy": 0.1,
            "int8_bytes": 1_000_000,
            "int8": "out",
        }
    )
    assert words.splitlines()[0] == "search: <1,2,16,32> answers 8 texts of 64 tokens in 2 ms (roofline of v5e-4)"


@pytest.mark.thorough
def test_a_dry_run_says_what_follows_and_writes_nothing(prepared, teacher, tmp_path, capsys):
    command = ["search", recipe(prepared, tmp_path), "--workdir", str(tmp_path / "out"), "--then", "distill"]
    assert main([*command, "--teacher", teacher, "--calibrate", prepared.text, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"search: then the winner learns from {teacher} for 12 steps, and gets an 8-bit file" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("distill", "said"),
    [
        ({"start": "alternate"}, "search: <1,2,16,32> may win and could not be distilled: distill: "),
        ({"soft_weight": 0.0}, "config: all weights of distill that need the teacher are 0"),
        ({"attention_weight": 1.0}, "search: <1,4,16,32> may win and could not be distilled: distill: distill.attent"),
    ],
)
def test_a_shape_that_could_not_be_distilled_is_told_before_the_first_trial(prepared, teacher, distill, said, tmp_path):
    heads = {"attention_weight": (2, 4)}
    space = Space((1,), heads.get(next(iter(distill)), (2,)), (16, 32), (32,))
    given = dataclasses.replace(OF_WINNER, teachers=(teacher,), **distill)
    then = winner.Then(given, (prepared.text,))
    with pytest.raises(UserError) as error:
        winner.find_and_distill(tiny.search(prepared, space=space), then, "s.py", str(tmp_path / "out"))
    assert str(error.value).startswith(said)
    assert not (tmp_path / "out").exists()


def test_text_that_is_not_there_is_told_before_the_first_trial(prepared, teacher, tmp_path):
    then = winner.Then(dataclasses.replace(OF_WINNER, teachers=(teacher,)), ("nowhere.txt",))
    with pytest.raises(UserError, match=r"^search: --calibrate: nowhere.txt: does not exist"):
        winner.find_and_distill(tiny.search(prepared), then, "s.py", str(tmp_path / "out"))


def test_folders_are_named_by_what_shapes_differ_in():
    bort = Model(num_layers=4, num_heads=8, hidden_size=1024, embed_size=1024, ffn_size=768, share="none")
    assert winner.folder_name(bort) == "4-8-1024-768"
    shared = dataclasses.replace(bort, share="all", embed_size=128)
    assert winner.folder_name(shared) == "4-8-1024-768-E128-all"
