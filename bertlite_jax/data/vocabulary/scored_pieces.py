"""The pieces of a SentencePiece tokenizer as transformers takes them: with their scores, and its character map."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from google.protobuf.message import DecodeError

from bertlite_jax.data.vocabulary import codecs
from bertlite_jax.data.vocabulary.tokenizer import MODEL_FILES, read_model, read_settings
from bertlite_jax.errors import UserError


def sentencepiece_pieces(folder: str | os.PathLike[str]) -> list[tuple[str, float]]:
    """V pairs of piece and score of a SentencePiece tokenizer: Hugging Face's `AlbertTokenizer(vocab=...)`.

    Where the tokenizer has the digit-comma rule it is in the scores, as in the files that transformers converts.

    Raises:
      UserError: the folder cannot be loaded, or holds another kind of tokenizer.
    """
    return codecs.scored_pieces(*_saved_model(folder))


def sentencepiece_charsmap(folder: str | os.PathLike[str]) -> bytes:
    """The character map of a SentencePiece tokenizer: `AlbertTokenizer(_spm_precompiled_charsmap=...)`; may be empty.

    Raises:
      UserError: the folder cannot be loaded, or holds another kind of tokenizer.
    """
    return _saved_model(folder)[0].normalizer_spec.precompiled_charsmap


def _saved_model(folder: str | os.PathLike[str]) -> tuple[Any, bool]:
    place = pathlib.Path(folder)
    saved = read_settings(place)
    if saved["kind"] != "sentencepiece":
        raise UserError(f"tokenizer: {place} is a {saved['kind']} tokenizer; only sentencepiece has scored pieces")
    try:
        return codecs.read_model(read_model(place, saved)), saved["settings"]["digit_comma"]
    except DecodeError as error:
        raise UserError(f"tokenizer: {place / MODEL_FILES['sentencepiece']} is not a SentencePiece model") from error
