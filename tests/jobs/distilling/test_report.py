"""The report of a distilled run has teacher and student side by side."""

import pathlib
import re
import shutil

import pytest

from bertlite_jax.config import files
from bertlite_jax.config.effects import replaced
from bertlite_jax.jobs.pretraining.evaluate import evaluate
from bertlite_jax.jobs.reports import beside_teacher
from bertlite_jax.jobs.reports.report import report

pytestmark = pytest.mark.usefixtures("compiled_once")


def cells(text: str) -> dict[str, list[str]]:
    """The section's rows by their names."""
    section = text[text.index("<h2>Teacher and student</h2>") :].partition("</table>")[0]
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", section)]
    return {row[0]: row[1:] for row in rows if row}


@pytest.mark.thorough
def test_a_distilled_run_is_shown_beside_its_teacher(distilled: pathlib.Path, teacher: str, tmp_path: pathlib.Path):
    shutil.copytree(distilled, tmp_path / "run")
    text = report(tmp_path / "run").read_text(encoding="utf-8")
    found = cells(text)
    assert found["folder"][:2] == [teacher, str(tmp_path / "run")]
    assert found["shape"][:2] == ["4 layers of width 32", "2 layers of width 32"]
    assert 50 <= float(found["FLOPs of a text"][2].split()[0]) < 60, "half of the layers; the projection stays"
    assert found["milliseconds a text"][2].endswith("%")
    accuracy = evaluate(str(distilled), rows=beside_teacher.ROWS)["valid_mlm_accuracy"]
    assert float(found["MLM accuracy"][1]) == pytest.approx(accuracy, abs=1e-4)
    assert "Against the teacher: predictions" in text


def test_a_model_agrees_with_itself(distilled: pathlib.Path):
    config = replaced(files.read_json(distilled / "config.json"), "distill.teachers", (str(distilled),))
    found = cells(beside_teacher.section_of_pretraining(distilled, config))
    assert found["same answer"][1] == "100.0 %"
    assert found["MLM accuracy"][2] == "100.0 %"


@pytest.mark.thorough
def test_a_teacher_that_is_gone_is_said(distilled: pathlib.Path, tmp_path: pathlib.Path):
    """Everything else is shown."""
    shutil.copytree(distilled, tmp_path / "run")
    config = replaced(files.read_json(distilled / "config.json"), "distill.teachers", ("runs/gone",))
    (tmp_path / "run/config.json").write_text(files.to_json(config))
    text = report(tmp_path / "run").read_text(encoding="utf-8")
    assert re.search(r"They are not compared: report: runs/gone [^<]*", text)
    assert "Against the teacher: predictions" in text
