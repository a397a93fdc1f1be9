"""Where words start: from the spelling of the pieces, or from a Chinese word segmenter.

Whole-word and n-gram masking need to know which tokens belong together. For languages that are written with spaces
the pieces themselves tell it; Chinese text needs a dictionary.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence

import numpy as np

from bertlite_jax.errors import UserError

SPACE = "▁"
# The list of google-research/albert, create_pretraining_data.py (`_is_start_piece_sp`), which lacks ' < = and >.
_PUNCTUATION = frozenset('!"#$%&"()*+,-./:;?@[\\]^_`{|}~')
_ASCII_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
# Scripts without spaces between words: each of their pieces counts as a word.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "IDEOGRAPHIC")


def is_start_piece(piece: str, letters: str = "ascii") -> bool:
    """Whether a SentencePiece piece starts a word.

    A piece starts a word when it begins with ▁ or `<`, when it is one punctuation character, or when it holds
    anything that is neither a letter nor punctuation: so every piece with a digit is a word of its own.

    Args:
      piece: as the vocabulary spells it.
      letters: `ascii` is exactly the ALBERT release's rule, in which only a to z continue a word. `unicode`
        takes the letters of every script that is written with spaces, and agrees with `ascii` on pieces of a to z,
        digits and punctuation. Under `ascii` a Russian word would fall into its pieces.

    Source: google-research/albert, create_pretraining_data.py, `_is_start_piece_sp`.
    """
    if piece.startswith((SPACE, "<")) or piece in _PUNCTUATION:
        return True
    continues = _continues_word if letters == "unicode" else _is_ascii_letter
    return not all(c in _PUNCTUATION or continues(c) for c in piece)


def _is_ascii_letter(character: str) -> bool:
    return character.lower() in _ASCII_LETTERS


def _continues_word(character: str) -> bool:
    category = unicodedata.category(character)
    if category[0] not in "LM":
        return False
    return not unicodedata.name(character, "").startswith(_UNSPACED)


def is_unspaced(character: str) -> bool:
    """Whether the character belongs to a script that puts no spaces between words."""
    return unicodedata.name(character, "").startswith(_UNSPACED)


def has_chinese(pieces: Sequence[str]) -> bool:
    """Whether at least a tenth of these pieces are one Chinese character, perhaps behind `##`."""
    single = [piece.removeprefix("##") for piece in pieces]
    return 10 * sum(len(text) == 1 and "\u3400" <= text <= "\u9fff" for text in single) >= len(single)


def load_jieba():
    """The module jieba with its dictionary loaded, silent.

    Raises:
      UserError: jieba is not installed; the error names the command that installs it.
    """
    try:
        import jieba  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            'tokenizer: word_segmenter = jieba needs the package jieba; install it with: pip install "bertlite_jax[zh]"'
        ) from error
    jieba.setLogLevel(logging.ERROR)
    jieba.initialize()
    return jieba


def segmented_starts(text: str, starts: list[int], by_piece: np.ndarray) -> np.ndarray:
    """Word starts of one line of Chinese text, from jieba.

    A token of an unspaced script starts a word where jieba starts one; any other token goes by its piece, because
    jieba cuts `3.14` and `U.S.A.` its own way.

    Args:
      text: the line as it was before normalisation.
      starts: n character offsets of its tokens.
      by_piece: bool [n], what the pieces say.

    Returns:
      bool [n].
    """
    boundaries = {start for _, start, _ in load_jieba().tokenize(text)}
    decided = by_piece.copy()
    for index, start in enumerate(starts):
        if start < len(text) and is_unspaced(text[start]):
            decided[index] = start in boundaries
    return decided
