"""A tokenizer.json with a step of its own keeps it, also where none of the built-in texts meets that step."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import tokenizers
from tokenizer_folders import ALBERT_STEPS, ALBERT_WORDS, byte_level, unigram, wordpiece, write_folder
from tokenizer_texts import ours, theirs
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers

from bertlite_jax.convert.huggingface.tokenizer import write_tokenizer
from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary

transformers = pytest.importorskip("transformers")

LINES = [
    "colour tv &amp; colours &amp;amp; COLOUR cats concatsx Cats",
    "12345 a123456b 1234 Été e\u0301",
    "the  cats\nsat \n on",
]
LOWERS = normalizers.BertNormalizer(lowercase=True)
WORDS = pre_tokenizers.BertPreTokenizer()
AMPERSANDS = normalizers.Replace("&amp;", "&")
SPELLING = normalizers.Replace("colour", "color")
LONG_NUMBERS = normalizers.Replace(Regex(r"\d{5,}"), "0")
BEHIND_CAT = pre_tokenizers.Split(Regex("(?<=cat)s"), "isolated")
SPACES = normalizers.Replace(Regex(" {2,}"), " ")
LINE_ENDS = AddedToken("\n", normalized=False)
QUOTES, LOWER_AND_MAP = ALBERT_STEPS[:2], ALBERT_STEPS[4:]


def in_turn(*steps: Any) -> Any:
    """One normaliser behind the other."""
    return normalizers.Sequence(list(steps))


def with_spelling(folder: pathlib.Path) -> pathlib.Path:
    """The folder with a replacement as the normaliser of its tokenizer.json."""
    tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = SPELLING
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


FORMS = {
    "a replacement before": ("pipeline", lambda f: wordpiece(f, normalizer=in_turn(AMPERSANDS, LOWERS))),
    "a replacement behind": ("pipeline", lambda f: wordpiece(f, normalizer=in_turn(LOWERS, SPELLING))),
    "long numbers": ("pipeline", lambda f: wordpiece(f, normalizer=in_turn(LONG_NUMBERS, LOWERS))),
    "a split within words": (
        "pipeline",
        lambda f: wordpiece(f, pre_tokenizer=pre_tokenizers.Sequence([WORDS, BEHIND_CAT])),
    ),
    "line ends": ("pipeline", lambda f: wordpiece(f, added=(LINE_ENDS,))),
    "BERT in sequences": (
        "wordpiece",
        lambda f: wordpiece(f, normalizer=in_turn(LOWERS), pre_tokenizer=pre_tokenizers.Sequence([WORDS])),
    ),
    "ALBERT, before": ("pipeline", lambda f: unigram(f, (SPELLING, *ALBERT_STEPS), ALBERT_WORDS)),
    "ALBERT, behind": ("pipeline", lambda f: unigram(f, (*ALBERT_STEPS, LONG_NUMBERS), ALBERT_WORDS)),
    "ALBERT, spaces joined": ("sentencepiece", lambda f: unigram(f, (*ALBERT_STEPS, SPACES), ALBERT_WORDS)),
    "ALBERT, accents": ("sentencepiece", lambda f: unigram(f, (*QUOTES, *LOWER_AND_MAP), ALBERT_WORDS)),
    # The class leaves the step out, and the file keeps it.
    "RoBERTa": ("bpe", lambda f: with_spelling(byte_level(f))),
    "byte-level file": ("bpe", lambda f: with_spelling(byte_level(f, tokenizer_class="PreTrainedTokenizerFast"))),
}


@pytest.mark.parametrize("name", FORMS)
def test_steps_that_no_built_in_text_meets_are_kept(name, tmp_path):
    kind, make = FORMS[name]
    folder = make(tmp_path / "hf")
    tokenizer = adopt_vocabulary(folder, tmp_path / "ours")
    assert tokenizer.kind == kind
    expected = theirs(transformers.AutoTokenizer.from_pretrained(folder), LINES)
    assert ours(tokenizer, LINES) == expected
    write_folder(tmp_path / "back")
    write_tokenizer(tokenizer, tmp_path / "back", 48, 2)
    assert theirs(transformers.AutoTokenizer.from_pretrained(tmp_path / "back"), LINES) == expected
