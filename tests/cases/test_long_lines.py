"""A line of 100,000 characters without a space, Chinese or one letter: cut and used, never skipped.

Users report that trainers skip long lines and are left without a sentence: google/sentencepiece #214, #517, #671, #782.
"""

import pathlib
import random

import pytest

from bertlite_jax.config.text import CorpusOptions, TokenizerOptions
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer
from bertlite_jax.jobs.text.corpus import build_corpus
from bertlite_jax.jobs.text.tokenizer import make_tokenizer

CHINESE = "".join(random.Random(0).choices([chr(0x4E00 + number) for number in range(100)], k=100_000))


def trained(text: str, kind, vocab_size: int, folder: pathlib.Path) -> tuple[Tokenizer, dict]:
    """A tokenizer of a file of this one line, and the statistics of its corpus."""
    (folder / "a.txt").write_text(text, encoding="utf-8")
    make_tokenizer([str(folder / "a.txt")], str(folder / "made"), TokenizerOptions(kind=kind, vocab_size=vocab_size))
    options = CorpusOptions(length=64)
    meta = build_corpus([str(folder / "a.txt")], str(folder / "made"), str(folder / "corpus"), options, workers=1)
    assert meta["splits"]["train"]["windows"] > 0
    assert meta["splits"]["validation"]["windows"] > 0
    return load_tokenizer(folder / "made"), meta["statistics"]


@pytest.mark.parametrize(("kind", "vocab_size"), [("sentencepiece", 120), ("wordpiece", 105), ("bpe", 300)])
def test_a_long_chinese_line_is_used_to_its_end(kind, vocab_size, tmp_path):
    """Every character is a piece or a few bytes, and none is unknown."""
    tokenizer, statistics = trained(CHINESE, kind, vocab_size, tmp_path)
    assert tokenizer.vocab_size == vocab_size
    assert statistics["unknown_tokens"] == 0
    assert statistics["tokens"] >= 99_000  # A few pieces are two characters.
    assert statistics["cut_sentences"] == 100_000 // 4_000 - 2  # Of 24 parts for training and one for validation.


@pytest.mark.parametrize(("kind", "vocab_size"), [("sentencepiece", 17), ("wordpiece", 7), ("bpe", 263)])
def test_a_hundred_thousand_letters_are_used_to_their_end(kind, vocab_size, tmp_path):
    """For BERT a word of more than a hundred letters is one unknown piece, in each of 25 parts of 4,000 letters."""
    tokenizer, statistics = trained("a" * 100_000, kind, vocab_size, tmp_path)
    if kind == "wordpiece":
        assert statistics["tokens"] == statistics["unknown_tokens"] == 25
        return
    assert statistics["unknown_tokens"] == 0
    longest = max(map(len, tokenizer.pieces(range(tokenizer.vocab_size))))
    assert statistics["tokens"] * longest >= 100_000
