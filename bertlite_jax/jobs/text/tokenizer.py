"""`bertlite tokenizer`: trains a vocabulary on text, or takes over a released one."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from bertlite_jax.config.text import TokenizerOptions
from bertlite_jax.data.text import documents
from bertlite_jax.data.vocabulary import word_starts
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary, train_tokenizer
from bertlite_jax.errors import UserError


def make_tokenizer(
    text: Sequence[str], out: str, options: TokenizerOptions = TokenizerOptions(), overwrite: bool = False
) -> Tokenizer:
    """Writes a tokenizer folder and prints what is in it.

    Args:
      text: files or folders to train on; or a single released vocabulary.
      out: folder to write.
      options: what the vocabulary becomes. A released one has its own size and kind, and decides about case and accents
        unless the options keep them.
      overwrite: replace the folder if it holds a tokenizer.

    Raises:
      UserError: no text, text that cannot be read, or a folder in the way.
    """
    if not text:
        raise UserError("tokenizer: no text; name files, folders of them, or one released vocabulary")
    keep_accents = options.keep_accents or options.cased
    if len(text) == 1 and is_vocabulary(text[0]):
        tokenizer = adopt_vocabulary(
            text[0],
            out,
            lower=False if options.cased else None,
            keep_accents=keep_accents or None,
            word_segmenter=options.word_segmenter,
            overwrite=overwrite,
        )
    else:
        sentences = documents.read_sentences(
            text, language=options.language, text_field=options.text_field, on_bad_text=options.on_bad_text
        )
        tokenizer = train_tokenizer(
            sentences,
            out,
            options.vocab_size,
            options.kind,
            not options.cased,
            keep_accents,
            options.word_segmenter,
            overwrite=overwrite,
        )
    cases = "lower-cased" if tokenizer.settings["lower"] else "cased"
    accents = "kept" if tokenizer.settings["keep_accents"] else "stripped"
    print(f"tokenizer: {tokenizer.kind}, {tokenizer.vocab_size:,} pieces, {cases}, accents {accents}, in {out}")
    _note_chinese_words(tokenizer)
    return tokenizer


def _note_chinese_words(tokenizer: Tokenizer) -> None:
    """Says where whole-word masks would cover one Chinese character at a time."""
    single = tokenizer.kind == "wordpiece" and tokenizer.settings["word_segmenter"] == "pieces"
    if single and word_starts.has_chinese(tokenizer.pieces(np.arange(tokenizer.vocab_size))):
        print(
            "tokenizer: each Chinese character counts as a word, so whole-word masks cover one character; "
            "--word-segmenter jieba makes them cover words"
        )


def is_vocabulary(path: str) -> bool:
    """Whether a path names a released vocabulary rather than text: `.model`, `vocab.txt`, a folder with either."""
    place = pathlib.Path(path)
    if place.is_dir():
        return any((place / name).is_file() for name in ("tokenizer.json", "vocab.txt", "spiece.model"))
    return place.suffix == ".model" or place.name.endswith("vocab.txt") or place.name == "tokenizer.json"
