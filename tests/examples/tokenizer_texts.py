"""Text for tests of vocabularies, and the ids of one tokenizer beside those of another."""

from __future__ import annotations

import pathlib
import re
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from bertlite_jax.data.vocabulary.tokenizer import Tokenizer

# Generated code; its names appear at run time only.
MODEL_SCHEMA: Any = sentencepiece_model_pb2

ENGLISH = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must want a wife.",
    "However little known the feelings or views of such a man may be on his first entering a neighbourhood,",
    "this truth is so well fixed in the minds of the surrounding families, that he is considered the rightful property",
    'of some one or other of their daughters. "My dear Mr. Bennet," said his lady to him one day, "have you heard',
    "that Netherfield Park is let at last?" + " Mr. Bennet replied that he had not. (In 1813, or 1,000 years ago.)",
) * 4


def real_lines(*paths: pathlib.Path, most: int) -> list[str]:
    """The first `most` lines of each file that are not blank."""
    lines = []
    for path in paths:
        text = path.read_text(encoding="utf-8").split("\n")
        lines += [line for line in text if line.strip()][:most]
    return lines


def transformers_albert(model: bytes, **settings):
    """ALBERT's fast tokenizer as transformers' `AlbertConverter` makes it of a .model.

    Pieces that end in a digit and a comma lose 100.
    """
    import transformers

    proto = MODEL_SCHEMA.ModelProto.FromString(model)
    scores = [(p.piece, p.score - 100 * bool(re.search(r"\d,$", p.piece))) for p in proto.pieces]
    charsmap = proto.normalizer_spec.precompiled_charsmap
    return transformers.AlbertTokenizer(vocab=scores, _spm_precompiled_charsmap=charsmap, **settings)


def theirs(tokenizer, lines: list[str]) -> list[list[int]]:
    return tokenizer(lines, add_special_tokens=False, verbose=False)["input_ids"]


def ours(tokenizer: Tokenizer, lines: list[str]) -> list[list[int]]:
    return [ids.tolist() for ids, _ in tokenizer.encode_lines(lines)]


def spans(tokenizer: Tokenizer, text: str) -> list[tuple[str, str]]:
    """Each piece beside the text that it stands for."""
    ids, starts, ends = tokenizer.encode_with_offsets(text)
    return [(piece, text[start:end]) for piece, start, end in zip(tokenizer.pieces(ids), starts, ends, strict=True)]
