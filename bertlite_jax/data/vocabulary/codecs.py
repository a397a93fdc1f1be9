"""From text to ids and back, for each kind of vocabulary.

A codec is built from the bytes of a model file and the settings saved beside it. SentencePiece and WordPiece
tokenize word by word, so both run through the same loop: normalise the line with a character table, split it at white
space, look every word up in a cache. That is several times faster than the `tokenizers` library on running text, and
since the entries of the cache come from that library, the ids are those of Hugging Face's tokenizers.

Source: transformers, tokenization_albert.py, tokenization_bert.py, convert_slow_tokenizer.py (`AlbertConverter`).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import re
import unicodedata
from collections.abc import Callable, Collection
from typing import Any

import tokenizers
from sentencepiece import sentencepiece_model_pb2

from bertlite_jax.data.vocabulary import normalize, word_starts

# A corpus is built by one process a core; threads below that would only get in each other's way.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Bounds the memory of a process to some 25 MB.
CACHED_WORDS = 1 << 17
LONGEST_CACHED_WORD = 32
_DIGIT_COMMA_PENALTY = 100.0
_WORD = re.compile(r"\S+")

# Generated code; its names appear at run time only.
MODEL_SCHEMA: Any = sentencepiece_model_pb2

Spans = tuple[list[int], list[int], list[int]]
"""Ids, starts and ends of n tokens; offsets count characters of the original text."""
Known = dict[str, tuple[int, ...]]
EncodeNew = Callable[[str, Known], tuple[int, ...]]
"""Ids of a word that is new, given those of all words (a table that makes what it lacks)."""


@dataclasses.dataclass(frozen=True)
class Codec:
    """What a loaded vocabulary can do."""

    pieces: list[str]
    """The V pieces, as the vocabulary spells them."""
    starts: list[bool]
    """V times: does a word start with this piece?"""
    encode_lines: Callable[[list[str]], list[list[int]]]
    """Ids of each line, without special tokens."""
    encode_spans: Callable[[str], Spans]
    """Ids of one line with character offsets."""
    decode: Callable[[list[int]], str]
    """Readable text."""
    encode_marked: Callable[[str], list[int]] | None = None
    """Ids of a text in which the special pieces count as such; None where the caller is to cut them out."""


# --- SentencePiece ---------------------------------------------------------------------------------------------------


def read_model(model: bytes) -> Any:
    """Parses a SentencePiece model. Raises google.protobuf's DecodeError for other bytes."""
    proto = MODEL_SCHEMA.ModelProto()
    proto.ParseFromString(model)
    return proto


def ends_in_digit_comma(piece: str) -> bool:
    """`▁2010,` but not `50,000` or `,`."""
    return len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit()


def scored_pieces(proto: Any, digit_comma: bool) -> list[tuple[str, float]]:
    """V pairs of piece and score; with `digit_comma` the scores express that rule.

    A number and the comma behind it are two tokens: `2010,` is `▁2010` and `,`, although ALBERT's vocabulary has the
    piece `▁2010,`. Hugging Face gets there by a penalty of 100 on such pieces, and so do we. The ALBERT release splits
    them after the fact, which under Python 3 leaves a stray ▁ inside long numbers; there the two differ.

    Source: transformers, convert_slow_tokenizer.py, `AlbertConverter.vocab` and `check_number_comma`.
    """
    penalty = _DIGIT_COMMA_PENALTY if digit_comma else 0.0
    return [(p.piece, p.score - penalty * ends_in_digit_comma(p.piece)) for p in proto.pieces]


def sentencepiece_codec(model: bytes, settings: dict[str, Any], unk: str) -> Codec:
    """Unigram pieces over ALBERT's normalisation. Needs the settings lower, keep_accents, word_letters, digit_comma.

    The search for the best split is that of the `tokenizers` library, word by word and in double precision. The
    sentencepiece library sums in single precision over the whole line, and where two splits tie (`00` and `0`, or `0`
    and `00`) it often takes the other one.
    """
    proto = read_model(model)
    scores = scored_pieces(proto, settings["digit_comma"])
    names = [piece for piece, _ in scores]
    unigram: Any = tokenizers.models.Unigram(scores, unk_id=names.index(unk), byte_fallback=False)
    mapping = proto.normalizer_spec.precompiled_charsmap
    charsmap: Any = tokenizers.normalizers.Precompiled(mapping) if mapping else tokenizers.normalizers.Sequence([])
    table = normalize.albert_table(settings["lower"], settings["keep_accents"], charsmap.normalize_str)

    def split(text: str) -> list[str]:
        return normalize.fold(text, table, join_quotes=True).split()

    decoder = tokenizers.decoders.Metaspace(replacement=word_starts.SPACE, prepend_scheme="always")
    word_spans = _unigram_spans(unigram, charsmap)
    return Codec(
        pieces=names,
        starts=[word_starts.is_start_piece(piece, settings["word_letters"]) for piece in names],
        encode_lines=_by_words(split, _unigram_words(unigram, charsmap, names)),
        encode_spans=lambda text: _word_spans(normalize.fold_with_offsets(text, table, True), word_spans),
        decode=lambda ids: decoder.decode([names[i] for i in ids]),
    )


def _unigram_words(unigram: Any, charsmap: Any, names: list[str]) -> EncodeNew:
    """Ids of a word that is not in the cache.

    Where no piece ends in the last two characters of a word, its last character is a piece of its own. So `word.` costs
    no search once `word` is known, and a third of all distinct words in running text are of that kind.
    """
    single = {piece: index for index, piece in enumerate(names) if len(piece) == 1}
    endings = {piece[-2:] for piece in names if len(piece) > 1}
    search, normalize_word, mark = unigram.tokenize, charsmap.normalize_str, word_starts.SPACE

    def encode_new(word: str, known: Known) -> tuple[int, ...]:
        if not word.isascii():
            return tuple([token.id for part in normalize_word(word).split() for token in search(mark + part)])
        # The table has left printable ASCII only, which the character map leaves alone. The bound on the length bounds
        # the recursion.
        if word[-2:] not in endings and word[-1] in single and 1 < len(word) <= LONGEST_CACHED_WORD:
            return (*known[word[:-1]], single[word[-1]])
        return tuple([token.id for token in search(mark + word)])

    return encode_new


def _unigram_spans(unigram: Any, charsmap: Any) -> Callable[[str], Spans]:
    aligned: Any = tokenizers.Tokenizer(unigram)
    aligned.normalizer = charsmap
    marks: Any = tokenizers.pre_tokenizers.Metaspace(replacement=word_starts.SPACE, prepend_scheme="always")
    aligned.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([tokenizers.pre_tokenizers.WhitespaceSplit(), marks])

    def word_spans(word: str) -> Spans:
        encoding = aligned.encode(word, add_special_tokens=False)
        return encoding.ids, [start for start, _ in encoding.offsets], [end for _, end in encoding.offsets]

    return word_spans


# --- WordPiece -------------------------------------------------------------------------------------------------------


def read_vocabulary(model: bytes) -> list[str]:
    """The pieces of a vocab.txt, one a line."""
    pieces = model.decode("utf-8").split("\n")
    return [piece.removesuffix("\r") for piece in (pieces[:-1] if pieces[-1] == "" else pieces)]


def wordpiece_codec(model: bytes, settings: dict[str, Any], unk: str) -> Codec:
    """Greedy longest match over BERT's normalisation. Needs the settings lower, keep_accents, split_chinese."""
    names = read_vocabulary(model)
    matcher: Any = tokenizers.models.WordPiece(
        vocab={piece: index for index, piece in enumerate(names)}, unk_token=unk, max_input_chars_per_word=100
    )
    unk_id = names.index(unk)
    table = normalize.bert_table(settings["lower"], settings["keep_accents"], settings["split_chinese"])

    def split(text: str) -> list[str]:
        return normalize.fold(text, table, join_quotes=False).split()

    def encode_word(word: str) -> list[int]:
        return [token.id for token in matcher.tokenize(word)]

    def word_spans(word: str) -> Spans:
        ids = encode_word(word)
        if ids == [unk_id]:
            return ids, [0], [len(word)]
        widths = [len(names[i]) - 2 * (n > 0) for n, i in enumerate(ids)]
        ends = list(itertools.accumulate(widths))
        return ids, [end - width for end, width in zip(ends, widths, strict=True)], ends

    decoder = tokenizers.decoders.WordPiece(prefix="##", cleanup=True)
    return Codec(
        pieces=names,
        starts=[not piece.startswith("##") for piece in names],
        encode_lines=_by_words(split, lambda word, known: tuple(encode_word(word))),
        encode_spans=lambda text: _word_spans(normalize.fold_with_offsets(text, table, False), word_spans),
        decode=lambda ids: decoder.decode([names[i] for i in ids]),
    )


# --- Words, whatever the vocabulary ----------------------------------------------------------------------------------


def _by_words(split: Callable[[str], list[str]], encode_new: EncodeNew) -> Callable[[list[str]], list[list[int]]]:
    cache = normalize.LazyTable(lambda word: encode_new(word, cache), CACHED_WORDS, LONGEST_CACHED_WORD)

    def encode_lines(lines: list[str]) -> list[list[int]]:
        return [list(itertools.chain.from_iterable(map(cache.__getitem__, split(line)))) for line in lines]

    return encode_lines


def _word_spans(folded: tuple[str, list[int], list[int]], spans_of: Callable[[str], Spans]) -> Spans:
    text, text_starts, text_ends = folded
    ids: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    for word in _WORD.finditer(text):
        word_ids, word_starts_, word_ends = spans_of(word.group())
        ids += word_ids
        for start, end in zip(word_starts_, word_ends, strict=True):
            first = text_starts[min(word.start() + start, word.end() - 1)]
            starts.append(first)
            ends.append(text_ends[word.start() + end - 1] if end > start else first)
    return ids, starts, ends


# --- Pipelines of the tokenizers library -----------------------------------------------------------------------------


def pipeline_codec(model: bytes, roles: Collection[str] = ()) -> Codec:
    """A pipeline as `tokenizers` runs it; everything is in its own file. Also the codec of byte-level BPE.

    Args:
      model: the file. Its added tokens are found in the raw text, before anything else.
      roles: the special pieces, which `encode_lines` takes for text even if the file has them as added tokens.
    """
    file = with_specials(bpe_json(model), roles)
    tokenizer: Any = tokenizers.Tokenizer.from_str(json.dumps(file))
    tokenizer.encode_special_tokens = True
    vocabulary = tokenizer.get_vocab()
    names = sorted(vocabulary, key=vocabulary.get)
    added = {token["content"] for token in file["added_tokens"]}
    starts_word = _word_starts_of(file["model"])

    def encode_lines(lines: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(lines, add_special_tokens=False)]

    def spans(text: str) -> Spans:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        offsets = encoding.offsets
        starts: list[int] = []
        ends: list[int] = []
        for (start, end), (limit, _) in itertools.zip_longest(offsets, offsets[1:], fillvalue=(len(text), 0)):
            inside = text[start:end]
            starts.append(start + len(inside) - len(inside.lstrip(" ")) if inside.strip(" ") else start)
            ends.append(_with_marks(text, end, limit))
        return encoding.ids, starts, ends

    @functools.cache
    def marked() -> Any:
        return tokenizers.Tokenizer.from_str(model.decode("utf-8"))

    return Codec(
        pieces=names,
        starts=[piece in added or starts_word(piece) for piece in names],
        encode_lines=encode_lines,
        encode_spans=spans,
        decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
        encode_marked=(lambda text: marked().encode(text, add_special_tokens=False).ids) if added else None,
    )


def _with_marks(text: str, end: int, limit: int) -> int:
    """The end of a span with the combining marks behind it, which normalisation dropped; at most `limit`."""
    while end < limit and unicodedata.category(text[end]).startswith("M"):
        end += 1
    return end


def _word_starts_of(model: dict[str, Any]) -> Callable[[str], bool]:
    """Does a word start with a piece? As the kind of model spells it."""
    if model.get("type") == "WordPiece":
        return lambda piece: not piece.startswith(model["continuing_subword_prefix"])
    if model.get("type") == "Unigram":
        return lambda piece: word_starts.is_start_piece(piece, "unicode")
    byte_of = {symbol: byte for byte, symbol in enumerate(byte_symbols())}

    def starts_word(piece: str) -> bool:
        if not all(c in byte_of for c in piece):
            return True
        text = bytes(byte_of[c] for c in piece).decode("utf-8", errors="replace")
        # Part of a character: its first bytes go with what stands before, like a letter.
        return "�" not in text and word_starts.is_start_piece(text.replace(" ", word_starts.SPACE), "unicode")

    return starts_word


def byte_symbols() -> list[str]:
    """The 256 characters that stand for the bytes 0 to 255 in byte-level BPE: printable ones stand for themselves.

    Source: openai/gpt-2, src/encoder.py (`bytes_to_unicode`).
    """
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(256)]


def build(kind: str, model: bytes, settings: dict[str, Any], specials: dict[str, str]) -> Codec:
    """The codec of `kind` (sentencepiece, wordpiece, bpe or pipeline); `specials` are the special pieces by role."""
    if kind == "sentencepiece":
        return sentencepiece_codec(model, settings, specials["unk"])
    if kind == "wordpiece":
        return wordpiece_codec(model, settings, specials["unk"])
    return pipeline_codec(model, frozenset(specials.values()))


def bpe_json(model: bytes) -> dict[str, Any]:
    """The content of a `tokenizers` file."""
    return json.loads(model.decode("utf-8"))


def with_specials(file: dict[str, Any], roles: Collection[str]) -> dict[str, Any]:
    """A `tokenizers` file in which the pieces `roles` alone are special.

    Other added tokens, though special to transformers, are part of the text: with `encode_special_tokens` they stay
    whole, while `roles` are taken for text.
    """
    added = [token | {"special": token["content"] in roles} for token in file["added_tokens"]]
    return file | {"added_tokens": added}


def bare_pipeline(file: dict[str, Any]) -> bytes:
    """A `tokenizers` file that neither cuts nor pads a text, nor adds special tokens to it."""
    bare = {"truncation": None, "padding": None, "post_processor": None}
    return json.dumps(file | bare, ensure_ascii=False, indent=1).encode("utf-8")


def plain_bpe(file: dict[str, Any]) -> bytes:
    """`bare_pipeline`, and no special tokens are found in the text either."""
    return bare_pipeline(file | {"added_tokens": []})
