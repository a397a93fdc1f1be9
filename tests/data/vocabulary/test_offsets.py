"""Offsets of pieces point into the original text."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizer_texts import spans


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Beyoncé sang", [("▁beyonce", "Beyoncé"), ("▁sang", "sang")]),
        ("Beyonce\u0301 sang", [("▁beyonce", "Beyonce\u0301"), ("▁sang", "sang")]),
        ("the ﬁne art", [("▁the", "the"), ("▁fine", "ﬁne"), ("▁art", "art")]),
        ("in １９９９.", [("▁in", "in"), ("▁1999", "１９９９"), (".", ".")]),
        ("a  \t\u3000b", [("▁a", "a"), ("▁b", "b")]),
        ("…", [("▁", "…"), (".", "…"), (".", "…"), (".", "…")]),
        ("``a''", [("▁", "``"), ('"', "``"), ("a", "a"), ('"', "''")]),
    ],
)
def test_albert_offsets_point_into_the_original_text(albert, text, expected):
    assert spans(albert, text) == expected


def test_wordpiece_offsets_point_into_the_original_text(uncased):
    assert spans(uncased, "Beyoncé\u00a0 playing  １２，\x00x") == [
        ("beyonce", "Beyoncé"),
        ("playing", "playing"),
        ("[UNK]", "１２"),
        ("，", "，"),
        ("x", "x"),
    ]
    ids, starts, ends = uncased.encode_with_offsets("unaffable")
    assert len(ids) > 1
    assert starts[0] == 0
    assert ends[-1] == 9
    assert starts[1:].tolist() == ends[:-1].tolist()


@pytest.mark.parametrize("kind", ["albert", "uncased", "bpe"])
def test_offsets_come_with_the_same_ids_and_never_go_back(kind, request, english):
    tokenizer = request.getfixturevalue("trained")["bpe"] if kind == "bpe" else request.getfixturevalue(kind)
    lines = english[::5]
    for line, (expected, _) in zip(lines, tokenizer.encode_lines(lines), strict=True):
        ids, starts, ends = tokenizer.encode_with_offsets(line)
        assert ids.tolist() == expected.tolist()
        assert (starts <= ends).all()
        assert (np.diff(starts) >= 0).all()
        assert (np.diff(ends) >= 0).all()
        assert ends.max(initial=0) <= len(line)


def test_byte_level_offsets_leave_the_space_out(trained):
    pieces = spans(trained["bpe"], "the wife")
    assert "".join(text for _, text in pieces) == "thewife"
