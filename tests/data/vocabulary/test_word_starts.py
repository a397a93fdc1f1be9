"""Where words start, by pieces and by jieba."""

from __future__ import annotations

import json
import pathlib
import re
import sys

import numpy as np
import pytest

from bertlite_jax.data.vocabulary import word_starts
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary
from bertlite_jax.errors import UserError

# google-research/albert, create_pretraining_data.py, run on these pieces.
START_PIECES = {"▁the": 1, "ing": 0, "19": 1, "2": 1, "a1": 1, ",": 1, ".": 1, "-": 1, "...": 0, "'s": 1, "é": 1}
START_PIECES |= {"中": 1, "<unk>": 1, "▁": 1, "Ing": 0, "'": 1, "=": 1, "e.g": 0, "£": 1}


@pytest.mark.parametrize(("piece", "starts"), START_PIECES.items())
def test_start_pieces_of_the_albert_release(piece, starts):
    assert word_starts.is_start_piece(piece, "ascii") == bool(starts)


@pytest.mark.parametrize(("piece", "starts"), [*START_PIECES.items(), ("ция", 0), ("größ", 0), ("คำ", 1), ("カナ", 1)])
def test_letters_of_spaced_scripts_continue_words_in_trained_vocabularies(piece, starts):
    starts = 0 if piece == "é" else starts  # the one entry of the release's table that is about a letter
    assert word_starts.is_start_piece(piece, "unicode") == bool(starts)


def test_word_starts_follow_the_pieces_of_each_kind(albert, uncased):
    for tokenizer in (albert, uncased):
        ids, starts = tokenizer.encode_lines(["unaffable 2010, wordplayers"])[0]
        pieces = tokenizer.pieces(ids)
        first = [not p.startswith("##") if tokenizer is uncased else p.startswith("▁") or p == "," for p in pieces]
        assert starts.tolist() == first
        assert 4 <= sum(first) < len(pieces)
        assert tokenizer.word_starts(ids).tolist() == first


def test_byte_level_words_start_at_spaces_and_punctuation(trained):
    ids, starts = trained["bpe"].encode_lines(["universally acknowledged, wife"])[0]
    pieces = trained["bpe"].pieces(ids)
    assert [piece.startswith("Ġ") or piece == "," for piece in pieces] == starts.tolist()
    assert starts.sum() == 4 < len(pieces)


def test_a_line_always_begins_with_a_word_start(trained, tmp_path):
    """Also where a byte-level vocabulary puts no space before the first word, as RoBERTa's."""
    file = json.loads((pathlib.Path(trained["bpe"].folder) / "tokenizer.json").read_text(encoding="utf-8"))
    file["pre_tokenizer"]["add_prefix_space"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    tokenizer = adopt_vocabulary(tmp_path, tmp_path / "t")
    ids, starts = tokenizer.encode_lines(["wife wife"])[0]
    assert not tokenizer.pieces(ids)[0].startswith("Ġ")
    assert starts[0]
    assert not tokenizer.word_starts(ids)[0]


@pytest.fixture
def chinese_words(shared, tmp_path) -> Tokenizer:
    pytest.importorskip("jieba")
    vocab = shared / "vocab" / "bert_chinese_vocab.txt"
    return adopt_vocabulary(vocab, tmp_path / "zh", word_segmenter="jieba")


def test_jieba_says_where_chinese_words_start(chinese_words):
    """我 | 来到 | 北京 | 清华大学: the example of jieba's own README. English words keep their pieces together."""
    ids, starts = chinese_words.encode_lines(["我来到北京清华大学 unaffable 3.14"])[0]
    pieces = chinese_words.pieces(ids)
    words = ["".join(pieces[a:b]).replace("##", "") for a, b in zip(*bounds(starts), strict=True)]
    assert words == ["我", "来到", "北京", "清华大学", "unaffable", "3", ".", "14"]
    assert chinese_words.settings["word_segmenter"] == "jieba"


def bounds(starts: np.ndarray) -> tuple[list[int], list[int]]:
    first = np.flatnonzero(starts).tolist()
    return first, [*first[1:], len(starts)]


def test_a_missing_jieba_is_one_line_with_the_command_that_installs_it(shared, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(UserError, match=re.escape('pip install "bertlite_jax[zh]"')) as caught:
        adopt_vocabulary(shared / "vocab" / "bert_chinese_vocab.txt", tmp_path / "zh", word_segmenter="jieba")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "zh").exists()
