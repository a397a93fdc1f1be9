"""Settings of the jobs that prepare text: `bertlite tokenizer` and `bertlite corpus`."""

from __future__ import annotations

import dataclasses
from typing import Literal

OnBadText = Literal["refuse", "replace"]


@dataclasses.dataclass(frozen=True)
class TokenizerOptions:
    """What the vocabulary becomes."""

    vocab_size: int = 30_000
    """Pieces in the vocabulary, special ones included."""
    kind: Literal["sentencepiece", "wordpiece", "bpe"] = "sentencepiece"
    """sentencepiece: a unigram model with ALBERT's special ids. wordpiece: as in BERT. bpe: byte-level, as in Bort."""
    cased: bool = False
    """Keep capital letters, and accents too."""
    keep_accents: bool = False
    """Keep accents on lower-cased letters."""
    word_segmenter: Literal["pieces", "jieba"] = "pieces"
    """How word starts are found, for masking whole words. pieces: from the pieces, for languages with spaces. jieba:
    for Chinese."""
    text_field: str = "text"
    """Field of JSONL objects, or column of Parquet files, that holds the text."""
    language: str = "auto"
    """Language code for splitting sentences, such as en or zh. auto: from the script of each document."""
    on_bad_text: OnBadText = "refuse"
    """What to do with bytes that are not UTF-8. refuse: stop with an error. replace: put a replacement character in
    their place and count them."""


@dataclasses.dataclass(frozen=True)
class CorpusOptions:
    """What decides the bytes of a corpus, beside text and tokenizer. They are stored in it."""

    length: int = 512
    """Tokens in a row that the windows must fit into, special tokens included; from 8 to 65535."""
    validation_fraction: float = 0.02
    """Share of the documents that is held out for validation: at least one document where there are two, and the end of
    a single one."""
    short_fraction: float = 0.1
    """Share of the windows that aim at a random shorter length."""
    whole_sentences: bool = False
    """Never cut a sentence that fits into one window. More slots of the rows stay empty."""
    language: str = "auto"
    """Language code for splitting sentences, such as en or zh. auto: from the script of each document."""
    one_sentence_per_line: bool = False
    """Each line is one sentence; do not split lines."""
    text_field: str = "text"
    """Field of JSONL objects, or column of Parquet files, that holds the text."""
    on_bad_text: OnBadText = "refuse"
    """What to do with bytes that are not UTF-8. refuse: stop with an error. replace: put a replacement character in
    their place and count them."""
    seed: int = 0
    """Seed of the validation split and of the short windows."""
