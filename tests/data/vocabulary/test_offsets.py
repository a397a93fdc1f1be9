"""Offsets of pieces point into the original text."""

from __future__ import annotations

import numpy as np
import pytest
import thorough
from tokenizer_folders import wordpiece
from tokenizer_texts import spans

from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary


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


AWKWARD = "T\x10his  is a \u2026na\u00efve caf\u00e9\u0301 in Bonn \U0001f4a9\U0001f4a9\U0001f4a9 is here"


@pytest.mark.parametrize("kind", ["albert", "uncased", "pipeline"])
def test_offsets_survive_double_spaces_controls_accents_and_runs_of_emoji(kind, request, tmp_path):
    """PaddlePaddle/PaddleNLP #875, #880; huggingface/transformers #3058; huggingface/tokenizers #404."""
    if kind == "pipeline":
        tokenizer = adopt_vocabulary(wordpiece(tmp_path / "hf", added=["Bonn"]), tmp_path / "ours")
    else:
        tokenizer = request.getfixturevalue(kind)
    ids, starts, ends = tokenizer.encode_with_offsets(AWKWARD)

    def covered(word: str) -> str:
        """The text of the pieces that overlap the word."""
        first, last = AWKWARD.index(word), AWKWARD.index(word) + len(word)
        inside = [i for i in range(len(ids)) if starts[i] < last and ends[i] > first]
        return AWKWARD[starts[inside[0]] : ends[inside[-1]]]

    for word in ("T\x10his", "na\u00efve", "caf\u00e9\u0301", "Bonn", "\U0001f4a9\U0001f4a9\U0001f4a9", "here"):
        assert covered(word) == word
    assert tokenizer.unk_id in ids


@pytest.mark.parametrize("kind", thorough.but(["uncased", "bpe"], ["albert", "uncased", "bpe"]))
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
