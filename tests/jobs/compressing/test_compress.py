"""Compression as its user meets it: a folder for each model, a table of all of them, and what is refused early.

Latencies are made up, so that what stays does not depend on the machine.
"""

import dataclasses
import json
import pathlib
import re
import runpy
import shutil
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pytest
from toy_task import recipe, write_sst2

from bertlite_jax.config import files
from bertlite_jax.config.compression.compress import Compress
from bertlite_jax.config.effects import replaced
from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.convert import sources
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.benchmarks.runtimes import catalogue, turns
from bertlite_jax.jobs.compressing import compress, compress_workdir, floor, latency, measure, students
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.jobs.reports.report import report
from bertlite_jax.train.compression import choice
from bertlite_jax.train.compression.choice import Latencies

pytestmark = pytest.mark.usefixtures("compiled_once", "made_up")

POINTS = ("1-float32", "2-7bit", "1-1.5x-4bit")


def pretended_times(weights: Any, chosen: Sequence[Any], shapes: Sequence[Any], *rest: Any) -> list[turns.Entry]:
    """The first runtime takes 16 ms, each further one a millisecond less."""
    entries = []
    for number, runtime in enumerate(chosen):
        path, load = runtime.prepare(weights, pathlib.Path("nowhere"), [])
        timed = {shapes[0]: turns.Timed(runtime.name, seconds=[1e-3 * (16 - number)])}
        entries.append(turns.Entry(runtime, load, path.stat().st_size, timed))
    return entries


@pytest.fixture(scope="module")
def made_up(pretended):
    """The latencies of files too, on a machine without PyTorch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "time_runtimes", pretended_times)
        patch.setattr(catalogue, "choose", lambda *given, **more: ([], ["torch-f32 is skipped: pip install torch"]))
        yield


@pytest.fixture(scope="module")
def run(encoder, tmp_path_factory) -> pathlib.Path:
    """A fine-tuning run of twelve steps."""
    place = tmp_path_factory.mktemp("compress")
    finetune(recipe(write_sst2(place / "glue"), run={"steps": 12}), str(place / "run"), encoder)
    return place / "run"


def config_of(run: pathlib.Path, steps: int = 2) -> Any:
    stored = compress.recipe_of_students(files.read_json(run / "config.json", Finetuned), str(run))
    return dataclasses.replace(stored, run=dataclasses.replace(stored.run, steps=steps))


def made(run: pathlib.Path, out: pathlib.Path, *points: str, **settings: Any) -> dict[str, Any]:
    return compress.compress(config_of(run), Compress(points, examples=20, **settings), str(run), str(out))


@pytest.fixture(scope="module")
def family(run, made_up) -> pathlib.Path:
    out = run.parent / "out"
    made(run, out, *POINTS)
    return out


def summary_of(folder: pathlib.Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.thorough
def test_each_point_has_the_layers_the_speed_and_the_bits_of_its_name(family: pathlib.Path, pretended: Latencies):
    assert sources.load(family / "students/1").model.num_layers == 1
    pruned = sources.load(family / "students/1-pruned-int8/1.5x").model
    assert choice.seconds_of(pruned, pretended) <= 7e-3 / 1.5
    for name, bits, shape in (("2-7bit", 7, None), ("1-1.5x-4bit", 4, pruned)):
        trained = sources.load(family / "students" / name)
        assert trained.trained_bits == bits
        assert shape is None or trained.model == shape


@pytest.mark.thorough
def test_all_students_learn_from_the_run(family: pathlib.Path, run: pathlib.Path):
    """The teacher's answers are computed once, for all of them."""
    runs = sorted(path.parent for path in (family / "students").rglob("metrics.jsonl"))
    assert [str(each.relative_to(family / "students")) for each in runs] == [
        *("1", "1-1.5x-4bit", "1-pruned-int8/1.5x", "2-7bit")
    ]
    for each in runs:
        assert files.read_json(each / "config.json", Finetuned).learn.teacher == str(run)
    assert len(list((family / "answers").glob("teacher-*.npy"))) == 1


@pytest.mark.thorough
def test_rounding_starts_from_the_student_at_a_lower_rate(family: pathlib.Path):
    rounded = files.read_json(family / "students/1-1.5x-4bit/config.json", Finetuned)
    assert rounded.init == str(family / "students/1-pruned-int8/1.5x")
    assert rounded.optim.learning_rate == 1e-3  # Half of 2e-3.


@pytest.mark.thorough
def test_every_folder_can_be_handed_over(family: pathlib.Path):
    """Integers as bundles that answer by themselves, floats as a folder of ONNX."""
    for name in ("teacher", "2-7bit", "1-1.5x-4bit"):
        answers = runpy.run_path(str(family / "points" / name / "predict.py"), run_name="predict")
        assert answers["check"]() == []
    assert (family / "points/1-float32/onnx/model.onnx").is_file()
    assert (family / "points/1-float32/tokenizer.json").is_file()


@pytest.mark.thorough
def test_speed_ups_can_be_counted_over_a_published_shape(family, run, tmp_path, monkeypatch):
    """It takes the first turn, 16 ms here, and has no row, since random weights have no score."""
    place, file = tmp_path / "out", family / "points/teacher/onnx/model.onnx"
    shutil.copytree(family, place)
    asked = []

    def in_pytorch(weights, folder, name="PyTorch float32"):
        asked.append(weights)
        return (measure.of_file(name, file, weights), "") if len(asked) > 1 else (None, "no class holds it")

    monkeypatch.setattr(measure, "pytorch", in_pytorch)
    summary = made(run, place, *POINTS, over="bert_tiny")
    assert (summary["models"][0]["name"], summary["note"]) == ("ONNX float32", "no class holds it")
    assert [row["speed_up"] for row in summary["models"][:2]] == pytest.approx([16 / 15, 16 / 14])
    assert (summary["over"], summary["over_milliseconds"]) == ("bert_tiny", pytest.approx(16))
    teacher, shape = asked
    assert shape.head == teacher.head
    assert (shape.model.hidden_size, shape.model.num_layers) == (128, 2)
    assert shape.model.vocab_size >= teacher.model.vocab_size
    assert "over bert_tiny in PyTorch float32" in (place / "table.md").read_text()


@pytest.mark.thorough
def test_the_table_has_the_teacher_first_and_the_floor_last(family: pathlib.Path, run: pathlib.Path):
    summary = summary_of(family)
    names = ["ONNX float32", "ONNX INT8", *POINTS, "mean of word vectors"]
    assert [row["name"] for row in summary["models"]] == names
    assert [row["milliseconds"] for row in summary["models"]] == pytest.approx([16, 15, 14, 13, 12, 11])
    assert summary["models"][4]["speed_up"] == pytest.approx(16 / 12)
    assert (summary["reference"], summary["note"]) == ("ONNX float32", "torch-f32 is skipped: pip install torch")
    assert (summary["metric"], summary["compressed_from"], summary["length"]) == ("accuracy", str(run), 32)
    assert summary["models"][0]["accuracy"] == summary_of(run)["accuracy"]
    assert summary["models"][0]["agreement"] == 1.0
    table = (family / "table.md").read_text()
    for wanted in ("| 1-1.5x-4bit | 1.33 | 12.000 |", "over the teacher in ONNX float32", "pip install torch"):
        assert wanted in table
    assert (family / "family.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.thorough
def test_scores_are_those_of_the_files_that_are_served(family: pathlib.Path):
    """As training has measured them with the same arithmetic: on 29 texts, all labels are the same."""
    for row, folder in zip(summary_of(family)["models"][2:5], ("1", "2-7bit", "1-1.5x-4bit"), strict=True):
        assert row["accuracy"] == pytest.approx(summary_of(family / "students" / folder)["accuracy"])
        served = "model.onnx" if row["name"] == "1-float32" else "model_quantized.onnx"
        assert row["bytes"] == (pathlib.Path(row["folder"]) / "onnx" / served).stat().st_size


@pytest.mark.thorough
def test_it_has_a_report(family: pathlib.Path):
    text = report(family).read_text(encoding="utf-8")
    for wanted in ("Compression: out", "Score against latency", "1-1.5x-4bit", "teacher, ONNX INT8", "Torch-f32"):
        assert wanted in text
    (family / "report.html").unlink()


@pytest.mark.thorough
def test_what_is_there_is_not_made_again(family: pathlib.Path, run: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    before = {path: path.stat().st_mtime_ns for path in family.rglob("*") if path.parent.name != family.name}
    for module, name in ((students, "finetune"), (students, "prune"), (floor, "train"), (latency, "table_of")):
        monkeypatch.setattr(module, name, lambda *given, name=name: pytest.fail(f"{name} again"))
    made(run, family, *POINTS)
    after = {path: path.stat().st_mtime_ns for path in family.rglob("*") if path.parent.name != family.name}
    assert after == before


@pytest.mark.thorough
@pytest.mark.parametrize("missing", ["points/1-1.5x-4bit", "students/1-1.5x-4bit", "students/1-pruned-int8"])
def test_what_a_kill_has_left_out_is_made_and_the_same(
    family: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path, missing: str
):
    """Killed before the last point had this folder, and so without all that comes after it."""
    shutil.copytree(family, tmp_path / "out")
    made_in_turn = ("students/1-pruned-int8", "students/1-1.5x-4bit", "points/1-1.5x-4bit")
    for place in made_in_turn[made_in_turn.index(missing) :]:
        shutil.rmtree(tmp_path / "out" / place)
    for name in ("points/1-1.5x-4bit.json", "summary.json", "table.md", "family.png"):
        (tmp_path / "out" / name).unlink()
    summary = made(run, tmp_path / "out", *POINTS)
    for row, before in zip(summary["models"], summary_of(family)["models"], strict=True):
        assert {**row, "folder": ""} == {**before, "folder": ""}
    kept, again = (sources.load(place / "students/1-1.5x-4bit") for place in (family, tmp_path / "out"))
    jax.tree.map(np.testing.assert_array_equal, again.params, kept.params)


@pytest.mark.thorough
def test_a_folder_that_was_taken_away_is_written_again(family: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path):
    """Its figures are still there, and its training too."""
    shutil.copytree(family, tmp_path / "out")
    shutil.rmtree(tmp_path / "out/points/1-float32")
    made(run, tmp_path / "out", *POINTS)
    for name in ("onnx/model.onnx", "tokenizer.json"):
        kept, again = (place / "points/1-float32" / name for place in (family, tmp_path / "out"))
        assert again.read_bytes() == kept.read_bytes()


def test_a_stopped_training_is_told_and_gone_on_with(run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch):
    """What was made before it stays: the teacher's figures and the floor's."""
    stopped = {"stopped": True, "steps": 1}
    monkeypatch.setattr(students, "finetune", lambda *given: stopped)
    assert made(run, tmp_path / "out", "1-float32") == stopped
    assert not (tmp_path / "out/summary.json").exists()
    names = {path.name for path in (tmp_path / "out/points").glob("*.json")}
    assert names == {"teacher-float32.json", "teacher-int8.json", "words.json"}


@pytest.mark.thorough
def test_a_dry_run_shows_what_is_to_be_trained_and_writes_nothing(
    run: pathlib.Path, family: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
    points = Compress((*POINTS, "1-4bit"), examples=20)
    assert compress.compress(config_of(run), points, str(run), str(tmp_path / "new"), dry_run=True) == {}
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if line.strip()[:1] in ("1", "2")] == [
        *("1-float32", "2-7bit", "1-1.5x-4bit", "1-4bit")
    ]
    assert "compress: 5 trainings, about " in shown
    assert list(tmp_path.iterdir()) == []
    before = sorted(family.rglob("*"))
    compress.compress(config_of(run), points, str(run), str(family), dry_run=True)
    assert "compress: 1 training, about " in capsys.readouterr().out
    assert sorted(family.rglob("*")) == before


def test_a_speed_up_that_cannot_be_reached_is_told_with_the_greatest(run: pathlib.Path, tmp_path: pathlib.Path):
    """1 ms for embeddings and pooler, and 1 for one head or 16 neurons: 13 / 2 of two layers, rounded down."""
    with pytest.raises(
        UserError, match=r"2-7x-7bit cannot be reached: with 32 tokens, 2-7bit can .* at most 6\.49 times"
    ):
        made(run, tmp_path / "out", "2-7bit", "2-7x-7bit")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_what_can_be_reached_is_measured_once(
    family: pathlib.Path, run: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A family that is gone on with on a busier day keeps its points, and a new one is refused before any training."""
    monkeypatch.setattr(latency, "table_of", lambda *given: pytest.fail("timed again"))
    for name in ("1-1.5x-4bit", "1-3x-7bit"):
        compress.compress(config_of(run), Compress((name,), examples=20), str(run), str(family), dry_run=True)
        assert any(line.split()[:1] == [name] for line in capsys.readouterr().out.splitlines())
    monkeypatch.setattr(students, "train", lambda *given: pytest.fail("trained"))
    with pytest.raises(UserError, match=r"1-4x-7bit cannot be reached: .* at most 3\.49 times"):
        made(run, family, "1-float32", "1-4x-7bit")


def test_usual_points_that_cannot_be_reached_are_left_out(
    run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
    """One layer takes 7 ms and at least 2, so it can become 3.49 times as fast, and not 4 times."""
    compress.compress(config_of(run), Compress(), str(run), str(tmp_path / "out"), dry_run=True)
    shown = capsys.readouterr().out
    assert "compress: 1-4x-7bit is left out: with 32 tokens, 1-7bit can become at most 3.49 times" in shown
    assert [line.split()[0] for line in shown.splitlines() if "1-3x-7bit " in line] == ["1-3x-7bit"]
    assert not any(line.startswith("1-4x-7bit ") for line in shown.splitlines())


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optim.learning_rate": 1e-3}, r"made with optim\.learning_rate = 0\.002, and this is 0\.001; name another"),
        ({"learn.teacher_weight": 0.9}, r"made with learn\.teacher_weight = 0\.5, and this is 0\.9"),
        ({"quantise.bits": 4}, r"--quantise\.bits has no effect: each of --points says its bits"),
        ({"adapt.keep_head": False}, r"adapt\.keep_head must stay on"),
        ({"learn.domains": ("somewhere",)}, r"learn\.domains needs layers of one shape"),
    ],
)
def test_another_recipe_is_refused(family: pathlib.Path, run: pathlib.Path, changes: dict[str, Any], said: str):
    config = config_of(run)
    for field, value in changes.items():
        config = replaced(config, field, value)
    before = sorted(family.rglob("*"))
    with pytest.raises(UserError, match=said):
        compress.compress(config, Compress(POINTS, examples=20), str(run), str(family))
    assert sorted(family.rglob("*")) == before


@pytest.mark.thorough
def test_another_teacher_and_other_settings_are_refused(
    family: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path
):
    with pytest.raises(UserError, match=r"made with examples = 20, and this is 21; name another --workdir"):
        compress.compress(config_of(run), Compress(POINTS, examples=21), str(run), str(family))
    shutil.copytree(run, tmp_path / "moved")
    config = replaced(config_of(run), "learn.teacher", str(run))
    with pytest.raises(UserError, match="made from another teacher"):
        compress.compress(config, Compress(POINTS, examples=20), str(tmp_path / "moved"), str(family))


@pytest.mark.thorough
def test_data_that_have_changed_are_refused(family: pathlib.Path, run: pathlib.Path):
    """Models that are there were scored on the old ones, and would stand beside new ones."""
    texts = run.parent / "glue/SST-2/dev.tsv"
    before, held = sorted(family.rglob("*")), texts.read_text()
    texts.write_text(held.replace("queen", "rabbit"))
    try:
        with pytest.raises(UserError, match=r"made with other data than .*glue \(validation\) now holds"):
            made(run, family, *POINTS)
    finally:
        texts.write_text(held)
    assert sorted(family.rglob("*")) == before


@pytest.mark.thorough
def test_a_teacher_of_integers_is_refused(family: pathlib.Path, tmp_path: pathlib.Path):
    rounded = family / "students/2-7bit"
    with pytest.raises(UserError, match="2-7bit was trained for integers of 7 bits; name the run in floats"):
        made(rounded, tmp_path / "out", "1-7bit")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_overwriting_leaves_nothing_of_an_earlier_family_but_what_a_user_put_there(
    family: pathlib.Path, run: pathlib.Path, tmp_path: pathlib.Path
):
    out = tmp_path / "out"
    shutil.copytree(family, out)
    (out / "report.html").write_text("of this family")
    users = ["points/best/onnx/model.onnx", "points/teachers.json", "students/1/notes.txt"]
    for name in users:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("years of work")
    compress_workdir.clear(out, ())
    left = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert left == ["compress.json", *users]


@pytest.mark.thorough
def test_what_is_read_is_not_cleared(family: pathlib.Path):
    before = sorted(family.rglob("*"))
    with pytest.raises(UserError, match=r"--overwrite would delete .*students/1, which this job reads"):
        compress_workdir.clear(family, (str(family / "students/1"),))
    assert sorted(family.rglob("*")) == before


def test_a_shape_that_nobody_published_is_refused_at_the_start(run: pathlib.Path, tmp_path: pathlib.Path):
    with pytest.raises(UserError, match=r"compress: --over bert_bsae is unknown; .*bert_base"):
        made(run, tmp_path / "out", "1-7bit", over="bert_bsae")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_anything_else_is_refused(run: pathlib.Path, tmp_path: pathlib.Path):
    with pytest.raises(UserError, match="holds a single run; name another --workdir"):
        made(run, run, "1-7bit")
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"is not empty \(thesis\.tex\) and holds no compress\.json of compression"):
        made(run, tmp_path, "1-7bit")


@pytest.mark.thorough
def test_the_report_of_a_student_has_its_teacher_beside_it(family: pathlib.Path, run: pathlib.Path):
    """With its scores, as the file that was trained for has them, and a curve for each part of the loss."""
    student = family / "students/2-7bit"
    text = report(student).read_text(encoding="utf-8")
    (student / "report.html").unlink()
    for wanted in ("<h2>Teacher and student</h2>", str(run), "same answer", "FLOPs of a text", "29 examples"):
        assert wanted in text, wanted
    for curve in ("Labelled texts: loss", "Labelled texts: distance to the teacher"):
        assert curve in text
    row = re.search(r"<td>accuracy</td><td[^>]*>([\d.]+)</td><td[^>]*>([\d.]+)</td>", text)
    assert row
    assert row.groups() == tuple(f"{summary_of(each)['accuracy']:.4f}" for each in (run, student))
