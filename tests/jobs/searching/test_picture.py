"""front.png: what is named at a point, and what is a line because nothing but its latency is known."""

import contextlib
from typing import Any

import pytest

from bertlite_jax.jobs.searching import picture
from bertlite_jax.report import plots


def row(name: str, seconds: float, error: float | None) -> dict[str, Any]:
    return {"name": name, "seconds": seconds, "parameters": round(1e6 * seconds), "error": error}


def known(name: str, shape: str, seconds: float, error: float | None = None) -> dict[str, Any]:
    return {"name": name, "shape": shape, "seconds": seconds, "error": error}


ROWS = [row("<2,4,64,32>", 0.001, 3.0), row("<4,8,128,96>", 0.01, 2.0), row("<6,12,96,384>", 0.1, 1.0)]
PUBLISHED = [
    known("TinyBERT-6", "<6,12,96,384>", 0.1, 1.0),
    known("DistilBERT", "<6,12,96,384>", 0.1, 1.0),
    known("BERT-base", "<12,12,96,384>", 0.05),
    known("ALBERT-base", "<12,12,96,384> E=16 share=all", 0.0501),
    known("MiniLM-12", "<12,12,48,192>", 0.004),
    known("BERT-large", "<24,16,128,512>", 0.11),
]
CONTENT = {"ranking": ROWS, "front": ROWS[1:], "winner": ROWS[2], "published": PUBLISHED}


def test_a_published_model_whose_shape_was_tried_is_at_its_point():
    assert picture.published_points(CONTENT) == {"<6,12,96,384>": "TinyBERT-6, DistilBERT"}


def test_others_are_lines_within_the_latencies_of_what_was_tried():
    """The fastest first; a tenth of a percent does not tell ALBERT-base from BERT-base."""
    assert picture.published_lines(CONTENT) == [(["MiniLM-12"], 0.004), (["BERT-base", "ALBERT-base"], 0.05)]


def test_shapes_of_one_latency_leave_room_for_lines_at_it():
    content = {**CONTENT, "ranking": ROWS[:1], "published": [known("Bort", "a", 0.001), known("MiniLM-12", "b", 0.002)]}
    assert picture.published_lines(content) == [(["Bort"], 0.001)]


@pytest.fixture
def drawn(monkeypatch) -> list[Any]:
    """The figures that were drawn."""
    figures, drawing = [], plots.drawing

    @contextlib.contextmanager
    def recorded(*arguments, **options):
        with drawing(*arguments, **options) as (figure, file):
            figures.append(figure)
            yield figure, file

    monkeypatch.setattr(plots, "drawing", recorded)
    return figures


def test_the_picture_names_the_winner_and_the_published_models(drawn):
    assert picture.draw(CONTENT, "mlm").startswith(b"\x89PNG")
    [axes] = drawn[0].axes
    assert {text.get_text() for text in axes.texts} == {
        "<6,12,96,384>, the winner (TinyBERT-6, DistilBERT)",
        "MiniLM-12",
        "BERT-base\nALBERT-base",
    }
    assert [line.get_xdata()[0] for line in axes.lines] == [4.0, 50.0]
    [legend] = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["tried", "on the front", "published, not tried"]


def test_a_search_without_published_models_has_no_lines(drawn):
    picture.draw({**CONTENT, "published": []}, "mlm")
    [axes] = drawn[0].axes
    assert [text.get_text() for text in axes.texts] == ["<6,12,96,384>, the winner"]
    assert not axes.lines
