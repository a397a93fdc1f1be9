"""Teacher and student side by side."""

import dataclasses
import re

from bertlite_jax.report.run.comparison import Comparison, Side, section

TEACHER = Side("runs/<large>", "12 layers of width 768", 110_000_000, 2 * 10**9, 80.0, {"accuracy": 0.8})
STUDENT = Side("runs/small", "6 layers of width 384", 22_000_000, 5 * 10**8, 20.0, {"accuracy": 0.72})
BOTH = Comparison(TEACHER, STUDENT, 128, 0.875, "872 examples of the validation split")


def cells(text: str) -> dict[str, list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", text)
    found = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in rows]
    return {row[0]: row[1:] for row in found if row}


def test_each_figure_stands_beside_the_teachers_with_its_share():
    text = section(BOTH)
    assert "<h2>Teacher and student</h2>" in text
    found = cells(text)
    assert found["folder"] == ["runs/&lt;large&gt;", "runs/small", ""]
    assert found["parameters"] == ["110,000,000", "22,000,000", "20.0 %"]
    assert found["FLOPs of a text"] == ["2 G", "500 M", "25.0 %"]
    assert found["milliseconds a text"] == ["80.000", "20.000", "25.0 %"]
    assert found["accuracy"] == ["0.8000", "0.7200", "90.0 %"]
    assert found["same answer"] == ["", "87.5 %", ""]
    assert "128 tokens" in text
    assert "872 examples" in text


def test_what_could_not_be_measured_is_left_out_and_said():
    untimed = dataclasses.replace(
        BOTH,
        teacher=dataclasses.replace(TEACHER, milliseconds=None, scores={}),
        student=dataclasses.replace(STUDENT, milliseconds=None),
        agreement=None,
        notes=("Latencies are missing: no onnx",),
    )
    text = section(untimed)
    found = cells(text)
    assert "milliseconds a text" not in found
    assert "same answer" not in found
    assert found["accuracy"] == ["–", "0.7200", ""]
    assert "Latencies are missing: no onnx." in text
    assert "ONNX Runtime" not in text


def test_a_teacher_that_is_gone_is_said():
    assert section(None) == ""
    assert "They are not compared: report: runs/&lt;x&gt; does not exist." in section(
        None, "report: runs/<x> does not exist"
    )
