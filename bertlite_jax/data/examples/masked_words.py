"""Words of a text that others may replace: where they stand, the holes in their places, and which get another word.

A hole is the text with one word hidden, whatever its number of pieces, behind one [MASK]; what a masked language model
finds likely there are its candidates. All other words stay in sight, so the candidates of a word are the same for all
copies of a text, and each copy only draws.

Letters: n pieces of a text, W words that may be replaced, K candidates of each, V pieces of the vocabulary.
Source: Jiao et al. 2020 (arXiv 1909.10351), section 3.2 and algorithm 1; huawei-noah/Pretrained-Language-Model,
TinyBERT/data_augmentation.py. There, words of several pieces are replaced by neighbours among GloVe vectors; here they
are hidden like all others, and a word of one piece takes their place.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from bertlite_jax.data.rows.packing import generator
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer

HOLES_KEY = 4
"""Apart from the draws of `augment`."""


class Places(NamedTuple):
    """The words of one text that may be replaced."""

    pieces: Int[np.ndarray, " n"]
    """Ids of the whole text, without special tokens."""
    bounds: Int[np.ndarray, "W 2"]
    """First piece of each word, and the piece behind its last."""
    spans: Int[np.ndarray, "W 2"]
    """First character of each word in the text, and the one behind its last; in a list of words, its place and the next
    one."""


class WordPieces(NamedTuple):
    """What each piece of a vocabulary is when it stands alone."""

    spelled: list[str]
    """[V], without marks of word starts."""
    allowed: Bool[np.ndarray, " V"]
    """Whether the piece is a word: it starts one and has nothing but letters."""
    alike: Int[np.ndarray, " V"]
    """A number that pieces share if they differ in nothing but capitals and marks of word starts."""
    numbers: dict[str, int]
    """The number of a spelling in small letters."""


def is_word(text: str) -> bool:
    """Whether there is nothing but letters, with the accents and vowel signs that belong to them."""
    kinds = [unicodedata.category(character)[0] for character in text]
    return "L" in kinds and set(kinds) <= {"L", "M"}


def in_text(text: str, words: Iterable[tuple[int, int]], tokenizer: Tokenizer) -> Places:
    """The words of a text that may be replaced: of letters only, and with pieces of their own.

    Args:
      text: any text.
      words: first character and the one behind the last, of all words.
      tokenizer: of the masked language model.
    """
    ids, starts, ends = tokenizer.encode_with_offsets(text)
    bounds, spans = [], []
    for start, end in words:
        # A mark of a word's start that is a piece by itself has no characters.
        own = np.flatnonzero((starts < end) & (ends > start) | (starts == start) & (ends == start))
        if not is_word(text[start:end]) or not len(own) or len(own) != own[-1] - own[0] + 1:
            continue
        if starts[own].min() >= start and ends[own].max() <= end:  # Else a piece belongs to a neighbour too.
            bounds.append((own[0], own[-1] + 1))
            spans.append((start, end))
    return Places(ids, _pairs(bounds), _pairs(spans))


def in_words(words: Sequence[str], tokenizer: Tokenizer) -> Places:
    """Those of a sentence that is given as words, with the pieces that a tagger reads."""
    unknown = np.array([tokenizer.unk_id], np.int32)
    pieces = [ids if len(ids) else unknown for ids, _ in tokenizer.encode_lines(list(words))]
    stops = np.cumsum([len(ids) for ids in pieces])
    replaceable = [number for number, word in enumerate(words) if is_word(word)]
    bounds = [(stops[number] - len(pieces[number]), stops[number]) for number in replaceable]
    return Places(np.concatenate(pieces), _pairs(bounds), _pairs([(number, number + 1) for number in replaceable]))


def _pairs(pairs: Sequence[tuple[int, int]]) -> Int[np.ndarray, "W 2"]:
    return np.array(pairs, np.int32).reshape(-1, 2)


def pieces_alone(tokenizer: Tokenizer) -> WordPieces:
    """Every piece of a vocabulary by itself; special pieces are no words."""
    ids = range(tokenizer.vocab_size)
    spelled = [tokenizer.decode([number]).strip() for number in ids]
    allowed = tokenizer.word_starts(ids) & np.array([is_word(piece) for piece in spelled], bool)
    allowed[list(tokenizer.special_ids)] = False
    numbers: dict[str, int] = {}
    alike = [numbers.setdefault(piece.lower(), len(numbers)) for piece in spelled]
    return WordPieces(spelled, allowed, np.array(alike, np.int32), numbers)


def hole(places: Places, word: int, length: int, tokenizer: Tokenizer) -> tuple[Int[np.ndarray, " m"], int]:
    """A text with one word hidden.

    Args:
      places: of the text.
      word: which of its W words.
      length: most tokens. A longer text is cut on both sides, so that the hole is in the middle where it can be.
      tokenizer: of the masked language model.

    Returns:
      [CLS], the pieces with one [MASK] in place of all those of the word, [SEP]; and where [MASK] stands.
    """
    first, stop = places.bounds[word]
    before, behind = places.pieces[:first], places.pieces[stop:]
    room = length - 3
    left = min(len(before), max(room // 2, room - len(behind)))
    behind = behind[: room - left]
    before = before[len(before) - left :]
    ids = np.r_[tokenizer.cls_id, before, tokenizer.mask_id, behind, tokenizer.sep_id]
    return ids.astype(np.int32), 1 + left


def own_number(places: Places, word: int, text: str, pieces: WordPieces) -> int:
    """The number in `WordPieces.alike` of the hidden word itself, which is no candidate; -1 if no piece is like it."""
    first, stop = places.bounds[word]
    if stop == first + 1:
        return int(pieces.alike[places.pieces[first]])
    return pieces.numbers.get(text.lower(), -1)


def draw(
    places: Places, candidates: Int[np.ndarray, "W K"], rate: float, seed: int, number: int
) -> list[tuple[int, int, int]]:
    """Which words are replaced, each with probability `rate`, by a candidate that is drawn evenly.

    Args:
      places: of the text.
      candidates: ids for each word.
      rate: from 0 to 1.
      seed: of the draws.
      number: of the copy; each has draws of its own.

    Returns:
      For each word that is replaced, in order: where its span begins and ends, and the id.
    """
    random = generator(seed, number, HOLES_KEY)
    count, most = candidates.shape
    replaced, chosen = random.random(count) < rate, random.integers(most, size=count)
    return [
        (int(places.spans[word, 0]), int(places.spans[word, 1]), int(candidates[word, chosen[word]]))
        for word in np.flatnonzero(replaced)
    ]


def spelled_like(new: str, old: str) -> str:
    """The new word with a capital where the old one begins with one."""
    return new[:1].upper() + new[1:] if old[:1].isupper() else new
