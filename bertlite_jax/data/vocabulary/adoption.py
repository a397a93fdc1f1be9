"""Adopts a vocabulary that another program made: ALBERT's .model, BERT's vocab.txt, a Hugging Face folder.

First comes the pipeline that `AutoTokenizer` runs for it (`pipelines`). Where it is built of the steps that one of our
own codecs stands for (`known_steps`), and that codec cuts the awkward texts of `check_texts` into the same pieces, the
codec is taken, since it is several times faster; else the pipeline itself is kept and run. So an adopted vocabulary
gives AutoTokenizer's ids, or is refused. The one exception is meant: special pieces that stand in a text, such as
[SEP], are text.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from bertlite_jax.data.vocabulary import (
    check_texts,
    codecs,
    known_steps,
    library_errors,
    pipelines,
    tokenizer_json,
    transformers_folder,
    word_starts,
)
from bertlite_jax.data.vocabulary.transformers_folder import Source
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files

# Names of the special pieces, in the order in which they are looked for.
_NAMES = {
    "pad": ("<pad>", "[PAD]"),
    "unk": ("<unk>", "[UNK]"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}


class Vocabulary(NamedTuple):
    """What a tokenizer folder is made of."""

    kind: str
    model: bytes
    settings: dict[str, Any]
    specials: dict[str, str]


def read(path: str, lower: bool | None, keep_accents: bool | None) -> Vocabulary:
    """Reads a .model file, a vocab.txt, a tokenizer.json, or a folder with one of these.

    Args:
      path: file or folder. Files of transformers beside it count: tokenizer_config.json, special_tokens_map.json,
        added_tokens.json, config.json.
      lower: lower-case text; None: as AutoTokenizer does for this folder; where nothing names a tokenizer class, True
        unless a piece has a capital letter.
      keep_accents: keep accents; None: likewise; where nothing names a class, for a .model whether a piece has an
        accent, and for a vocab.txt whatever is not lower-cased.

    Raises:
      UserError: the vocabulary is missing, unreadable or of a kind that cannot be adopted.
    """
    source = transformers_folder.find(path)
    try:
        content = source.file.read_bytes()
    except OSError as error:
        raise UserError(f"tokenizer: {source.file}: {error.strerror}") from error
    if source.file.suffix == ".json":
        return _from_json(source, content, (lower, keep_accents))
    if source.file.suffix == ".model":
        return _from_model(source, content, lower, keep_accents)
    return _from_vocab(source, content, (lower, keep_accents))


def _choose(source: Source, pipeline: Any, candidates: Callable[[dict[str, str]], Iterator[Vocabulary]]) -> Vocabulary:
    """The first candidate that does what the pipeline does, else the pipeline.

    Args:
      source: where the vocabulary comes from.
      pipeline: what AutoTokenizer runs.
      candidates: gives vocabularies of our own kinds, fast ones, from the special pieces. Not asked if the pipeline
        finds more than the special pieces in the raw text, since none of them does that.
    """
    pieces = _in_order(pipeline.get_vocab(), source.file)
    specials = _specials(pieces, source)
    with library_errors.told_of(f"tokenizer: {source.file} cannot be run"):
        lower, keeps = _case_of(pipeline)
    added = [token.content for token in pipeline.get_added_tokens_decoder().values()]
    pipeline.add_special_tokens([piece for piece in specials.values() if piece not in added])
    model = codecs.bare_pipeline(json.loads(pipeline.to_str()))
    exact = Vocabulary("pipeline", model, {"lower": lower, "keep_accents": keeps}, specials)
    texts = check_texts.lines(pieces, added)
    theirs = _pieces_of(exact, source, texts)
    if set(added) <= set(specials.values()):
        for candidate in candidates(specials):
            if _pieces_of(candidate, source, texts) == theirs:
                return candidate
    return exact


def _pieces_of(vocabulary: Vocabulary, source: Source, texts: list[str]) -> list[list[int]]:
    with library_errors.told_of(f"tokenizer: {source.file} cannot be run"):
        return codecs.build(*vocabulary).encode_lines(texts)


def _in_order(ids: dict[str, int], where: object) -> list[str]:
    pieces = sorted(ids, key=lambda piece: ids[piece])
    if [ids[piece] for piece in pieces] != list(range(len(pieces))):
        raise UserError(f"tokenizer: {where}: the ids of the vocabulary have gaps")
    return pieces


def _case_of(pipeline: Any) -> tuple[bool, bool]:
    """(lower-cases, keeps accents): what the normalizer does to A and é."""

    def normalized(text: str) -> str:
        changed = pipeline.normalizer.normalize_str(text) if pipeline.normalizer else text
        return unicodedata.normalize("NFC", changed).strip(" " + word_starts.SPACE)

    return normalized("A") == "a", normalized("é") == "é"


def _specials(pieces: list[str], source: Source) -> dict[str, str]:
    """The five special pieces. Names that the folder states are tried first."""
    specials = {}
    known = set(pieces)
    stated = source.specials()
    for role, names in _NAMES.items():
        wanted = [stated[role].content] if role in stated else []
        found = [name for name in (*wanted, *names) if name in known]
        if not found:
            raise UserError(f"tokenizer: {source.file}: no piece for {role}; one of {', '.join(names)} is needed")
        specials[role] = found[0]
    return specials


def _has_capitals(pieces: list[str], source: Source) -> bool:
    # Capitals inside brackets belong to special and unused pieces: [unused1], <S>.
    bracketed = re.compile(r"\[.*\]|<.*>")
    special = {token.content for token in source.specials().values()}
    return any(p != p.lower() for p in pieces if p not in special and not bracketed.fullmatch(p))


def _has_accents(pieces: list[str]) -> bool:
    return any(unicodedata.category(c) == "Mn" for piece in pieces for c in unicodedata.normalize("NFKD", piece))


# --- SentencePiece ---------------------------------------------------------------------------------------------------


def _from_model(source: Source, content: bytes, lower: bool | None, keep_accents: bool | None) -> Vocabulary:
    try:
        proto = codecs.read_model(content)
    except DecodeError as error:
        raise UserError(f"tokenizer: {source.file} is not a SentencePiece model") from error
    if problem := _unlike_albert(proto):
        raise UserError(f"tokenizer: {source.file} {problem}")
    pieces = [piece.piece for piece in proto.pieces]
    if lower is None:
        lower = pipelines.stated_lower(source, "albert", _has_capitals(pieces, source))
    if keep_accents is None:
        keep_accents = source.flag("keep_accents")
    if keep_accents is None:
        keep_accents = source.family != "albert" and _has_accents(pieces)
    settings = {
        "lower": lower,
        "keep_accents": keep_accents,
        "word_letters": "ascii" if _is_albert(proto) else "unicode",
        "digit_comma": True,
    }
    pipeline = pipelines.of_sentencepiece(source, proto, (lower, keep_accents))

    def of_our_own(roles: dict[str, str]) -> Iterator[Vocabulary]:
        if set(roles.values()) <= set(pieces):  # Others are behind the model's pieces.
            yield Vocabulary("sentencepiece", content, settings, roles)

    return _choose(source, pipeline, of_our_own)


def _is_albert(proto: Any) -> bool:
    """Whether this is the vocabulary of the ALBERT release, whose rule for word starts knows a to z only."""
    return proto.trainer_spec.model_prefix == "30k-clean"


def _unlike_albert(proto: Any) -> str:
    """What our codec cannot do of a SentencePiece model; empty if it can do all."""
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    if not proto.pieces:
        return "is not a SentencePiece model"
    if trainer.model_type != codecs.MODEL_SCHEMA.TrainerSpec.UNIGRAM:
        return "is not a unigram model; only unigram models can be adopted"
    if trainer.byte_fallback or trainer.treat_whitespace_as_suffix or not normalizer.add_dummy_prefix:
        return "is not laid out like ALBERT's model (byte fallback, or ▁ elsewhere)"
    if not all(math.isfinite(piece.score) for piece in proto.pieces):
        return "has a score that is no number"
    across = next((p.piece for p in proto.pieces if word_starts.SPACE in p.piece[1:] and p.piece.strip("▁")), None)
    return f"has the piece {across!r} that crosses a space; words must stay apart" if across else ""


# --- WordPiece -------------------------------------------------------------------------------------------------------


def _from_vocab(source: Source, content: bytes, case: pipelines.Case) -> Vocabulary:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"tokenizer: {source.file}: not UTF-8 at byte {error.start}; is it a vocab.txt?") from error
    pieces = [_trimmed(piece) for piece in codecs.read_vocabulary(text.encode("utf-8"))]
    _check_once(pieces, source)
    pipeline = pipelines.of_vocabulary(source, pieces, case, _has_capitals(pieces, source))
    # Special pieces that the file lacks are behind it.
    pieces = _in_order(pipeline.get_vocab(), source.file)
    if codecs.read_vocabulary(content) != pieces:
        content = _lines(pieces)
    return _choose(source, pipeline, lambda specials: _wordpieces(pipeline, content, specials))


def _check_once(pieces: list[str], source: Source) -> None:
    """Of a piece that occurs twice, AutoTokenizer takes the last id, and no text has the first."""
    first: dict[str, int] = {}
    for line, piece in enumerate(pieces, 1):
        if piece in first:
            what = f"the piece {piece!r} stands" if piece.strip() else "there is a line without a piece"
            raise UserError(
                f"tokenizer: {source.file}:{line}: {what} in line {first[piece]} already; each line must be another "
                "piece, and its number is the id"
            )
        first[piece] = line


def _trimmed(piece: str) -> str:
    """A piece without white space behind it, as the tokenizers library reads it; one of nothing else never occurs."""
    trimmed = piece.rstrip()
    return piece if trimmed in ("", "##") else trimmed


def _lines(pieces: list[str]) -> bytes:
    return "".join(piece + "\n" for piece in pieces).encode("utf-8")


def _wordpieces(pipeline: Any, content: bytes, specials: dict[str, str]) -> Iterator[Vocabulary]:
    """BERT's normalisation in its two forms, with Chinese characters apart and without."""
    if not known_steps.are_bert(json.loads(pipeline.to_str())):
        return
    lower, keep_accents = _case_of(pipeline)
    for split_chinese in (True, False):
        settings = {"lower": lower, "keep_accents": keep_accents, "split_chinese": split_chinese}
        yield Vocabulary("wordpiece", content, settings, specials)


# --- tokenizer.json --------------------------------------------------------------------------------------------------


def _from_json(source: Source, content: bytes, case: pipelines.Case) -> Vocabulary:
    file = json_files.parse_object(content, str(source.file), "tokenizer")
    model = file.get("model")
    if not isinstance(model, dict):
        raise UserError(f"tokenizer: {source.file} is not a file of the tokenizers library: it has no model")
    kind = model.get("type") or _untold_kind(model)
    if kind not in ("Unigram", "WordPiece") and not (kind == "BPE" and _is_byte_level(file)):
        raise UserError(
            f"tokenizer: {source.file} is {kind or 'of unknown kind'}; known are Unigram, WordPiece and byte-level BPE"
        )
    if model.get("dropout"):
        raise UserError(f"tokenizer: {source.file} has dropout = {model['dropout']}, so its ids change from run to run")
    if kind == "BPE" and case != (None, None):
        raise UserError(f"tokenizer: {source.file}: BPE has its own normalisation; leave lower and accents out")
    pipeline = tokenizer_json.of_file(source, file, kind, case)
    pieces = _in_order(pipeline.get_vocab(), source.file)
    if tokenizer_json.runs_file(source, kind):
        tokenizer_json.check_specials_around(source, pipeline, _specials(pieces, source))
    if kind == "Unigram":
        return _choose(source, pipeline, lambda specials: _unigram(source, pipeline, file, pieces, specials))
    if kind == "WordPiece":
        return _choose(source, pipeline, lambda specials: _wordpieces(pipeline, _lines(pieces), specials))
    return _choose(source, pipeline, lambda specials: _byte_level(source, pipeline, file, pieces, specials))


def _untold_kind(model: dict[str, Any]) -> str:
    """The kind of a model whose file, an old one, does not name it."""
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    if "max_input_chars_per_word" in model:
        return "WordPiece"
    return "BPE" if "merges" in model else ""


def _is_byte_level(file: dict[str, Any]) -> bool:
    return "ByteLevel" in json.dumps(file.get("pre_tokenizer"))


def _unigram(
    source: Source, pipeline: Any, file: dict[str, Any], pieces: list[str], specials: dict[str, str]
) -> Iterator[Vocabulary]:
    """A SentencePiece model with the pieces, scores and character map of the file."""
    if not known_steps.are_albert(json.loads(pipeline.to_str())):
        return
    scores = dict(file["model"]["vocab"])
    proto = codecs.MODEL_SCHEMA.ModelProto()
    kinds = codecs.MODEL_SCHEMA.ModelProto.SentencePiece
    for piece in pieces:
        control = piece in specials.values() and piece != specials["unk"]
        kind = kinds.UNKNOWN if piece == specials["unk"] else kinds.CONTROL if control else kinds.NORMAL
        proto.pieces.add(piece=piece, score=scores.get(piece, 0.0), type=kind)
    proto.trainer_spec.model_type = codecs.MODEL_SCHEMA.TrainerSpec.UNIGRAM
    proto.trainer_spec.unk_id = pieces.index(specials["unk"])
    proto.trainer_spec.pad_id = pieces.index(specials["pad"])
    proto.trainer_spec.bos_id = proto.trainer_spec.eos_id = -1
    proto.trainer_spec.unk_piece, proto.trainer_spec.pad_piece = specials["unk"], specials["pad"]
    proto.normalizer_spec.name = "precompiled"
    proto.normalizer_spec.precompiled_charsmap = tokenizer_json.charsmap(source, file)
    if _unlike_albert(proto):
        return
    lower, keep_accents = _case_of(pipeline)
    settings = {
        "lower": lower,
        "keep_accents": keep_accents,
        "word_letters": "ascii" if len(pieces) == 30_000 and "▁2010," in scores else "unicode",
        # The scores of the file are what Hugging Face uses: the rule is in them or it is not.
        "digit_comma": False,
    }
    yield Vocabulary("sentencepiece", proto.SerializeToString(deterministic=True), settings, specials)


def _byte_level(
    source: Source, pipeline: Any, file: dict[str, Any], pieces: list[str], specials: dict[str, str]
) -> Iterator[Vocabulary]:
    """The file without the special pieces among its added tokens: they are pieces like others, which no text has."""
    run = json.loads(pipeline.to_str())
    if not known_steps.are_those_of(run, tokenizer_json.as_written(source, file)):  # A class leaves some of them out.
        file = file | {"normalizer": run["normalizer"], "pre_tokenizer": run["pre_tokenizer"]}
    vocabulary = file["model"]["vocab"] | {piece: number for number, piece in enumerate(pieces)}
    file = file | {"model": file["model"] | {"vocab": vocabulary}}
    lower, keep_accents = _case_of(pipeline)
    yield Vocabulary("bpe", codecs.plain_bpe(file), {"lower": lower, "keep_accents": keep_accents}, specials)
