"""A vocabulary without the pieces that some text does not need.

WordPiece takes the longest piece that fits, and a unigram vocabulary the split with the highest score. Neither choice
changes when pieces that were not chosen go: a text of kept pieces alone is cut as before. The pieces of byte-level BPE
are merged from each other, so none of them can go without changing others. One thing may change: a word that WordPiece
could not cut, because nothing fits behind its longest piece, may be cut once that piece is gone.

Letters: V pieces before, K pieces kept.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from bertlite_jax.data.vocabulary import adoption, codecs, word_starts
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, read_model, read_settings, write_tokenizer
from bertlite_jax.errors import UserError

_CONTINUED = "##"


def check_trimmable(tokenizer: Tokenizer) -> None:
    """Raises UserError for a kind of vocabulary that no piece can be taken from."""
    if tokenizer.kind not in ("wordpiece", "sentencepiece"):
        merged = tokenizer.kind == "bpe"
        why = "its pieces are merged from each other" if merged else "it is run as its tokenizer.json says"
        raise UserError(
            f"tokenizer: {tokenizer.folder} is a {tokenizer.kind} tokenizer, and {why}; only wordpiece and "
            "sentencepiece can be trimmed"
        )


def choose_pieces(tokenizer: Tokenizer, counts: np.ndarray, most: int) -> np.ndarray:
    """Which pieces stay, as ids that rise, int [K].

    Special pieces stay, and so do all that spell one character of a piece that the text has: what a word is cut into
    when its own piece goes. Then the most frequent ones follow, of equally frequent ones those with the lower ids.

    Args:
      tokenizer: as `check_trimmable` accepts it.
      counts: how often the text has each piece, int [V].
      most: K; 0: all pieces that the text has.

    Raises:
      UserError: special pieces and characters alone are more than `most`.
    """
    names = tokenizer.pieces(np.arange(tokenizer.vocab_size))
    spelt = [_spelling(name) for name in names]
    used = np.asarray(counts) > 0
    characters = set("".join(text for text, is_used in zip(spelt, used, strict=True) if is_used))
    always = np.array([len(text) <= 1 and (not text or text in characters) for text in spelt])
    always[_fixed(tokenizer)] = True
    least = int(always.sum())
    if most and most < least:
        raise UserError(
            f"convert: trim: --pieces {most:,} are too few: special pieces and the characters of the text are {least:,}"
        )
    order = np.lexsort((np.arange(len(names)), -np.asarray(counts), ~always))
    wanted = int((always | used).sum())
    return np.sort(order[: min(most, wanted) if most else wanted])


def write_trimmed(tokenizer: Tokenizer, kept: np.ndarray, out: str | os.PathLike[str]) -> Tokenizer:
    """Writes a tokenizer of some of the pieces, in their order.

    Args:
      tokenizer: as `check_trimmable` accepts it.
      kept: as `choose_pieces` returns it.
      out: folder to write; must not exist.
    """
    place = pathlib.Path(tokenizer.folder)
    saved = read_settings(place)
    model = read_model(place, saved)
    if tokenizer.kind == "wordpiece":
        pieces = codecs.read_vocabulary(model)
        trimmed = "".join(pieces[i] + "\n" for i in kept).encode()
    else:
        proto = codecs.read_model(model)
        pieces = [proto.pieces[i] for i in kept]
        del proto.pieces[:]
        proto.pieces.extend(pieces)
        proto.trainer_spec.vocab_size = len(pieces)
        places = {int(old): new for new, old in enumerate(kept)}
        for name in ("unk_id", "pad_id", "bos_id", "eos_id"):
            setattr(proto.trainer_spec, name, places.get(getattr(proto.trainer_spec, name), -1))
        trimmed = proto.SerializeToString(deterministic=True)
    vocabulary = adoption.Vocabulary(tokenizer.kind, trimmed, saved["settings"], saved["specials"])
    return write_tokenizer(pathlib.Path(out), vocabulary, overwrite=False)


def _spelling(piece: str) -> str:
    """The characters that a piece stands for, without the mark of its place in a word."""
    return piece.removeprefix(_CONTINUED).removeprefix(word_starts.SPACE)


def _fixed(tokenizer: Tokenizer) -> list[int]:
    """Ids of the special pieces, and in a SentencePiece model of all that are not learnt from text."""
    if tokenizer.kind == "wordpiece":
        return list(tokenizer.special_ids)
    place = pathlib.Path(tokenizer.folder)
    kinds: Any = codecs.MODEL_SCHEMA.ModelProto.SentencePiece
    proto = codecs.read_model(read_model(place, read_settings(place)))
    learnt = [i for i, piece in enumerate(proto.pieces) if piece.type == kinds.NORMAL]
    return sorted({*tokenizer.special_ids} | set(range(len(proto.pieces))) - set(learnt))
