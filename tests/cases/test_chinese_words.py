"""Whole-word masks of Chinese: over words where jieba finds them, and one line where they would be single characters.

Users report that whole-word masking does nothing for Chinese: google-research/bert #780; huggingface/transformers PR
#7925, #3171; dmlc/gluon-nlp PR #798.
"""

import pathlib

import numpy as np
import pytest

from bertlite_jax.config.text import CorpusOptions, TokenizerOptions
from bertlite_jax.data.corpus.records import open_records, read_windows
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.jobs.text.corpus import build_corpus
from bertlite_jax.jobs.text.tokenizer import make_tokenizer

NOTE = "each Chinese character counts as a word"
TEXT = "我来到北京清华大学"


@pytest.fixture
def vocabulary(tmp_path: pathlib.Path) -> str:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *TEXT, "。", "a", "##b"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return str(tmp_path / "vocab.txt")


def test_a_chinese_vocabulary_without_a_segmenter_is_told(vocabulary, tmp_path, capsys):
    make_tokenizer([vocabulary], str(tmp_path / "made"))
    said = capsys.readouterr().out
    assert NOTE in said
    assert "--word-segmenter jieba" in said
    (tmp_path / "english").mkdir()
    english = tmp_path / "english/vocab.txt"
    english.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", "人"]), encoding="utf-8")
    make_tokenizer([str(english)], str(tmp_path / "other"))
    assert NOTE not in capsys.readouterr().out


def test_the_windows_of_a_corpus_have_the_words_of_jieba(vocabulary, tmp_path, capsys):
    """我 | 来到 | 北京 | 清华大学: the example of jieba's own README."""
    pytest.importorskip("jieba")
    options = TokenizerOptions(word_segmenter="jieba")
    make_tokenizer([vocabulary], str(tmp_path / "made"), options)
    assert NOTE not in capsys.readouterr().out
    (tmp_path / "a.txt").write_text(f"{TEXT}。", encoding="utf-8")
    build_corpus(
        [str(tmp_path / "a.txt")], str(tmp_path / "made"), str(tmp_path / "corpus"), CorpusOptions(length=64), workers=1
    )
    tokenizer = load_tokenizer(tmp_path / "made")
    records = open_records(str(tmp_path / "corpus"), "train", tokenizer.vocab_size)
    windows = read_windows(records, np.array([0]))
    assert "".join(tokenizer.pieces(windows.tokens)) == f"{TEXT}。"
    assert np.flatnonzero(windows.word_starts).tolist() == [0, 1, 3, 5, 9]
