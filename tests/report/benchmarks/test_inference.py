"""Figures of answers as HTML that needs nothing beside it, and as tables of at most 100 columns."""

import copy
import io

from html_reader import Reader
from rich.console import Console

from bertlite_jax.report.benchmarks import inference

FIGURES = {
    "model": "my <run>",
    "task": "classify",
    "random_weights": False,
    "machine": {"cpu": "A CPU", "cores": 2, "flags": ["avx2"], "load": 0.25, "python": "3.11.7", "environment": {},
                "packages": {"jax": "0.10.2"}},
    "settings": {"rounds": 5, "threads": [1], "text": True},
    "skipped": ["openvino is left out: pip install openvino"],
    "contenders": [
        {"name": "torch-f32", "about": "PyTorch float32", "bytes": 438_000_000, "loaded_bytes": 700e6,
         "peak_bytes": 800e6, "load_seconds": 1.0, "largest_difference": 0.0, "top1_agreement": 1.0,
         "rows_compared": 16},
        {"name": "onnx-int8-static", "about": "INT8, measured ranges", "bytes": 109_500_000, "loaded_bytes": 1.2345e9,
         "peak_bytes": 2e9, "load_seconds": 1.0, "largest_difference": None, "top1_agreement": 0.9375,
         "rows_compared": 16},
    ],
    "shapes": [
        {"batch": 8, "length": 128, "threads": 1, "figures": [
            {"name": "torch-f32", "calls": 9, "seconds_min": 1.5, "seconds_p50": 1.6, "seconds_p95": 1.7,
             "sequences_per_second": 8 / 1.5, "ratio": 1.0, "dropped": False},
            {"name": "onnx-int8-static", "calls": 2, "seconds_min": 0.0432, "seconds_p50": 0.05, "seconds_p95": 0.06,
             "sequences_per_second": 8 / 0.0432, "ratio": 1.5 / 0.0432, "dropped": False},
        ]},
    ],
}  # fmt: skip


def test_the_page_needs_nothing_beside_it():
    page = Reader(inference.render(FIGURES))
    assert all(link.startswith("data:") for link in page.links)
    assert "script" not in page.tags
    assert len(page.pictures) == 1
    assert "batch 8 x 128 tokens, 1 thread" in page.pictures[0]["alt"]
    assert "my <run>" in page.text
    assert "A CPU, 2 cores (avx2)" in page.text
    assert "openvino is left out" in page.text
    assert "Random weights" not in page.text


def test_nothing_measured_is_no_section():
    assert inference.section({}) == ""


def test_rows_say_what_was_measured():
    """438 MB are 417.7 MiB, a quarter is 0.25, 1.5 s over 43.2 ms is 34.7."""
    first, second = inference.about_rows(FIGURES)
    assert first == ("torch-f32", "PyTorch float32", "438.0", "417.7", "1.000", "700", "800", "0.0e+00", "100.0 %")
    assert second[4:] == ("0.250", "1,234", "2,000", "not finite", "93.8 %")
    first, second = inference.speed_rows(FIGURES["shapes"][0])
    assert first == ("torch-f32", "1,500", "1,600", "1,700", "9", "5.3", "1.00x")
    assert second == ("onnx-int8-static", "43.2", "50.0", "60.0", "2", "185.2", "34.72x")


def test_who_was_dropped_has_a_star_and_no_bar():
    figures = copy.deepcopy(FIGURES)
    figures["shapes"][0]["figures"][1]["dropped"] = True
    assert inference.speed_rows(figures["shapes"][0])[1][-1] == "34.72x*"
    assert any(line.startswith("*: many times slower") for line in inference.notes(figures))
    assert inference.section(figures) != inference.section(FIGURES)


def test_a_busy_machine_is_said_to_be_busy():
    """One and a half programs on two cores."""
    busy = FIGURES | {"machine": FIGURES["machine"] | {"load": 1.5}}
    assert any("kept this machine busy" in line for line in inference.notes(busy))
    assert not any("busy" in line for line in inference.notes(FIGURES))


def test_random_weights_are_said_to_be_random():
    assert "Random weights: speed and size only" in Reader(inference.render(FIGURES | {"random_weights": True})).text


def test_tables_fit_a_terminal_of_100_columns():
    console = Console(width=100, record=True, file=io.StringIO())
    inference.print_tables(FIGURES, console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 100
    assert any("onnx-int8-static" in line and "not finite" in line for line in lines)
