"""The table, the picture and the page of a compressed family."""

import re
from typing import Any

import numpy as np
import pytest

from bertlite_jax.report.tasks import compression

SIZES = {"bytes": 438_000_000, "parameters": 109_483_778, "layers": 12, "folder": "out/points/teacher"}
SUMMARY: dict[str, Any] = {
    **{"task": "sst2", "metric": "accuracy", "compressed_from": "runs/<sst2>", "reference": "ONNX float32"},
    **{"note": "torch-f32 is skipped: pip install torch", "length": 128, "threads": 1, "cpu": "A CPU", "over": ""},
    "over_milliseconds": None,
    "models": [
        {"name": "ONNX float32", "kind": "teacher", "accuracy": 0.9, "agreement": 1.0, "milliseconds": 200.0,
         "speed_up": 1.0, **SIZES},
        {"name": "6-2x-7bit", "kind": "point", "accuracy": 0.81, "agreement": 0.875, "milliseconds": 10.0,
         "speed_up": 20.0, **SIZES, "bytes": 5_500_000, "layers": 5},
        {"name": "mean of word vectors", "kind": "floor", "accuracy": 0.72, "agreement": None, "milliseconds": 0.05,
         "speed_up": 4000.0, **SIZES, "bytes": 244_000, "layers": 0},
    ],
}  # fmt: skip


def test_the_table_has_speed_score_and_size_of_each():
    """0.81 is 90 % of 0.9."""
    lines = compression.markdown(SUMMARY).splitlines()
    assert (
        lines[-3]
        == "| teacher, ONNX float32 | 1.00 | 200.000 | 0.9000 | 100.0 % | 100.0 % | 438.00 | 109,483,778 | 12 |"
    )
    assert lines[-2] == "| 6-2x-7bit | 20.00 | 10.000 | 0.8100 | 90.0 % | 87.5 % | 5.50 | 109,483,778 | 5 |"
    assert lines[-1].endswith("| 80.0 % | – | 0.24 | 109,483,778 | – |")
    assert "over the teacher in ONNX float32. Torch-f32 is skipped: pip install torch." in lines[0]


def test_speed_ups_over_a_published_shape_say_so():
    said = compression.about(SUMMARY | {"over": "bert_base", "over_milliseconds": 112.5, "note": ""})
    assert "Speed-up: over bert_base in PyTorch float32, with random weights (112.5 ms). Scores" in said


def test_the_page_has_the_picture_and_the_table():
    text = compression.render("family", SUMMARY)
    for wanted in (
        "Compression: family",
        "runs/&lt;sst2&gt;",
        "Score against latency",
        "128 tokens on 1 thread(s) of A",
    ):
        assert wanted in text, wanted
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", text)
    assert cells[:4] == ["teacher, ONNX float32", "1.00", "200.000", "0.9000"]
    assert text.count("<img") == 1


def test_markers_grow_with_the_files():
    areas = compression._areas([100.0, 50.0, 0.0])
    assert areas[0] > areas[1] > areas[2] > 0
    assert areas[0] - areas[1] == areas[1] - areas[2]


def test_labels_of_neighbours_stand_apart():
    """Two models at the same place, and one beside them: above, below, and above again where nothing is in the way."""
    spots = np.array([[100.0, 100.0], [100.0, 100.0], [300.0, 100.0]])
    first, second, third = compression.label_shifts(["3-7bit", "3-4bit", "2-4bit"], spots, np.full(3, 64.0))
    assert first == third == (0, pytest.approx(4 + 5.2 + 1))
    assert second == (0, -first[1])


def test_a_label_covers_no_marker():
    """The marker above leaves the place below."""
    spots = np.array([[100.0, 100.0], [100.0, 110.0]])
    (_, height), _ = compression.label_shifts(["a", "b"], spots, np.full(2, 64.0))
    assert height < 0


def test_a_picture_of_equal_and_of_immeasurable_times_can_be_drawn():
    models = [{**model, "milliseconds": 0.0} for model in SUMMARY["models"]]
    assert compression.picture(SUMMARY | {"models": models}, "png")[:4] == b"\x89PNG"
