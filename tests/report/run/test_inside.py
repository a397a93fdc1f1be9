"""Attention as pictures, and neighbours of words as a table."""

import base64

import numpy as np
import pytest
from html_reader import Reader

from bertlite_jax.report.run import inside

INSIDE = {
    "tokens": ["[CLS]", "▁alice", "<b>", "[SEP]"],
    "attention": np.full((2, 3, 4, 4), 0.25),
    "neighbours": [{"word": "▁alice", "near": [("▁queen", 0.7123), ("▁king", 0.5)]}],
}


def test_every_head_has_a_square_and_every_word_its_neighbours():
    text = inside.section(INSIDE)
    reader = Reader(text)
    assert "▁queen 0.71, ▁king 0.50" in reader.text
    assert "[CLS] ▁alice <b> [SEP]" in reader.text
    assert "<b>" not in text
    (picture,) = reader.pictures
    svg = base64.b64decode(picture["src"].split(",", 1)[1]).decode()
    for name in ("head 1", "head 3", "layer 2"):
        assert f"<!-- {name} -->" in svg
    assert "head 4" not in svg


@pytest.mark.thorough
def test_of_many_layers_some_are_shown_and_the_last_among_them():
    svg = inside.draw_attention(np.full((24, 16, 2, 2), 0.5)).decode()
    assert "<!-- layer 24 -->" in svg
    assert "<!-- head 12 -->" in svg
    assert "head 13" not in svg


def test_without_a_look_there_is_no_section():
    assert inside.section({}) == ""
