"""`bertlite tokenizer`: learns a vocabulary from text, or takes over a released one."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Literal

from bertlite_jax.data.text import documents
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary, train_tokenizer
from bertlite_jax.errors import UserError


def make_tokenizer(
    text: Sequence[str],
    out: str,
    *,
    vocab_size: int,
    kind: Literal["sentencepiece", "wordpiece", "bpe"] = "sentencepiece",
    lower: bool = True,
    keep_accents: bool = False,
    word_segmenter: Literal["pieces", "jieba"] = "pieces",
    text_field: str = "text",
    language: str = "auto",
    on_bad_text: documents.OnBadText = "refuse",
    overwrite: bool = False,
) -> Tokenizer:
    """Writes a tokenizer folder and says what is in it.

    Args:
      text: files or folders to learn from; or a single released vocabulary to adopt.
      out: folder to write.
      vocab_size, kind, lower, keep_accents, word_segmenter: as for `data.tokenizer.train`. An adopted vocabulary has
        its own size and kind, and decides on case and accents unless they are to be kept.
      text_field, language, on_bad_text: as for `data.text.read_sentences`.
      overwrite: replace a tokenizer that is there.
    """
    if not text:
        raise UserError("tokenizer: no text; name files, folders of them, or one released vocabulary")
    if len(text) == 1 and is_vocabulary(text[0]):
        made = adopt_vocabulary(
            text[0],
            out,
            lower=None if lower else False,
            keep_accents=keep_accents or None,
            word_segmenter=word_segmenter,
            overwrite=overwrite,
        )
    else:
        sentences = documents.read_sentences(text, language=language, text_field=text_field, on_bad_text=on_bad_text)
        made = train_tokenizer(
            sentences, out, vocab_size, kind, lower, keep_accents, word_segmenter, overwrite=overwrite
        )
    cases = "lower-cased" if made.settings["lower"] else "cased"
    accents = "kept" if made.settings["keep_accents"] else "stripped"
    print(f"tokenizer: {made.kind}, {made.vocab_size:,} pieces, {cases}, accents {accents}, in {out}")
    return made


def is_vocabulary(path: str) -> bool:
    """Whether a path names a released vocabulary rather than text: `.model`, `vocab.txt`, a folder with either."""
    place = pathlib.Path(path)
    if place.is_dir():
        return any((place / name).is_file() for name in ("tokenizer.json", "vocab.txt", "spiece.model"))
    return place.suffix == ".model" or place.name.endswith("vocab.txt") or place.name == "tokenizer.json"
