"""Adopts a vocabulary that another program made: ALBERT's .model, BERT's vocab.txt, a Hugging Face folder."""

from __future__ import annotations

import base64
import json
import pathlib
import re
import unicodedata
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from bertlite_jax.data.vocabulary import codecs, word_starts
from bertlite_jax.errors import UserError

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
    """Reads a .model file, a vocab.txt, or a folder with one of these or with a tokenizer.json.

    Args:
      path: file or folder.
      lower: lower-case text; None: as the folder says, else True unless a piece has a capital letter.
      keep_accents: keep accents; None: as the folder says, else, for a .model, whether a piece has an accent, and for a
        vocab.txt whatever is not lower-cased (both as Hugging Face decides).

    Raises:
      UserError: the vocabulary is missing, unreadable or of a kind that cannot be adopted.
    """
    place = pathlib.Path(path)
    if place.is_dir():
        for name in ("tokenizer.json", "spiece.model", "vocab.txt"):
            if (place / name).is_file():
                place /= name
                break
        else:
            raise UserError(f"tokenizer: {path} holds no tokenizer.json, spiece.model or vocab.txt")
    try:
        content = place.read_bytes()
    except OSError as error:
        raise UserError(f"tokenizer: {place}: {error.strerror}") from error
    if place.suffix == ".json":
        return _from_json(place, content, lower, keep_accents)
    if place.suffix == ".model":
        return _from_model(place, content, lower, keep_accents)
    return _from_vocab(place, content, lower, keep_accents)


def _specials(pieces: list[str], where: object) -> dict[str, str]:
    """The five special pieces. Names in a tokenizer_config.json beside the file are tried first."""
    specials = {}
    config_path = pathlib.Path(str(where)).with_name("tokenizer_config.json")
    config = json.loads(config_path.read_text(encoding="utf-8")) if config_path.is_file() else {}
    for role, names in _NAMES.items():
        named = config.get(f"{role}_token")
        named = named["content"] if isinstance(named, dict) else named
        known = [name for name in (named, *names) if name in pieces]
        if not known:
            raise UserError(f"tokenizer: {where}: no piece for {role}; one of {', '.join(names)} is needed")
        specials[role] = known[0]
    return specials


def _has_capitals(pieces: list[str], specials: dict[str, str]) -> bool:
    # Capitals inside brackets belong to special and unused pieces: [unused1], <S>.
    marked = set(specials.values())
    bracketed = re.compile(r"\[.*\]|<.*>")
    return any(p != p.lower() for p in pieces if p not in marked and not bracketed.fullmatch(p))


def _has_accents(pieces: list[str]) -> bool:
    return any(unicodedata.category(c) == "Mn" for piece in pieces for c in unicodedata.normalize("NFKD", piece))


# --- SentencePiece ---------------------------------------------------------------------------------------------------


def _from_model(place: pathlib.Path, content: bytes, lower: bool | None, keep_accents: bool | None) -> Vocabulary:
    try:
        proto = codecs.read_model(content)
    except DecodeError as error:
        raise UserError(f"tokenizer: {place} is not a SentencePiece model") from error
    _check_model(place, proto)
    pieces = [piece.piece for piece in proto.pieces]
    specials = _specials(pieces, place)
    settings = {
        "lower": not _has_capitals(pieces, specials) if lower is None else lower,
        "keep_accents": _has_accents(pieces) if keep_accents is None else keep_accents,
        "word_letters": "ascii" if _is_albert(proto) else "unicode",
        "digit_comma": True,
    }
    return Vocabulary("sentencepiece", content, settings, specials)


def _is_albert(proto: Any) -> bool:
    """Whether this is the vocabulary of the ALBERT release, whose rule for word starts knows a to z only."""
    return proto.trainer_spec.model_prefix == "30k-clean"


def _check_model(place: pathlib.Path, proto: Any) -> None:
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    if not proto.pieces:
        raise UserError(f"tokenizer: {place} is not a SentencePiece model")
    if trainer.model_type != codecs.MODEL_SCHEMA.TrainerSpec.UNIGRAM:
        raise UserError(f"tokenizer: {place} is not a unigram model; only unigram models can be adopted")
    if trainer.byte_fallback or trainer.treat_whitespace_as_suffix or not normalizer.add_dummy_prefix:
        raise UserError(f"tokenizer: {place} is not laid out like ALBERT's model (byte fallback, or ▁ elsewhere)")
    across = next((p.piece for p in proto.pieces if word_starts.SPACE in p.piece[1:] and p.piece.strip("▁")), None)
    if across:
        raise UserError(f"tokenizer: {place} has the piece {across!r} that crosses a space; words must stay apart")


# --- WordPiece -------------------------------------------------------------------------------------------------------


def _from_vocab(place: pathlib.Path, content: bytes, lower: bool | None, keep_accents: bool | None) -> Vocabulary:
    try:
        pieces = codecs.read_vocabulary(content)
    except UnicodeDecodeError as error:
        raise UserError(f"tokenizer: {place}: not UTF-8 at byte {error.start}; is it a vocab.txt?") from error
    if len(set(pieces)) != len(pieces):
        twice = next(piece for n, piece in enumerate(pieces) if piece in pieces[:n])
        raise UserError(f"tokenizer: {place}: the piece {twice!r} occurs twice; each line must be different")
    specials = _specials(pieces, place)
    lower = not _has_capitals(pieces, specials) if lower is None else lower
    settings = {
        "lower": lower,
        "keep_accents": not lower if keep_accents is None else keep_accents,
        "split_chinese": True,
    }
    return Vocabulary("wordpiece", content, settings, specials)


# --- tokenizer.json --------------------------------------------------------------------------------------------------


def _from_json(place: pathlib.Path, content: bytes, lower: bool | None, keep_accents: bool | None) -> Vocabulary:
    try:
        file = json.loads(content)
        model = file["model"]
        added = {token["content"]: token["id"] for token in file.get("added_tokens", [])}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"tokenizer: {place} is not a file of the tokenizers library") from error
    kind = model.get("type") or ("WordPiece" if "max_input_chars_per_word" in model else "")
    if kind == "Unigram":
        return _unigram_json(place, file, added, lower, keep_accents)
    if kind == "WordPiece":
        return _wordpiece_json(place, file, added, lower, keep_accents)
    if kind == "BPE" and "ByteLevel" in json.dumps(file.get("pre_tokenizer")):
        if lower is not None or keep_accents is not None:
            raise UserError(f"tokenizer: {place}: BPE files have their own normalisation; leave lower and accents out")
        model["vocab"] |= added
        specials = _specials(list(model["vocab"]), place)
        steps = [step["type"] for step in _steps(file)]
        settings = {"lower": "Lowercase" in steps, "keep_accents": "StripAccents" not in steps}
        return Vocabulary("bpe", codecs.plain_bpe(file), settings, specials)
    raise UserError(
        f"tokenizer: {place} is {kind or 'of unknown kind'}; known are Unigram, WordPiece and byte-level BPE"
    )


def _steps(file: dict[str, Any]) -> list[dict[str, Any]]:
    """The normalizers of a tokenizers file in their order."""
    normalizer = file.get("normalizer")
    if not normalizer:
        return []
    return normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]


def _in_order(ids: dict[str, int], where: object) -> list[str]:
    pieces = sorted(ids, key=lambda piece: ids[piece])
    if [ids[piece] for piece in pieces] != list(range(len(pieces))):
        raise UserError(f"tokenizer: {where}: the ids of the vocabulary have gaps")
    return pieces


def _unigram_json(
    place: pathlib.Path, file: dict[str, Any], added: dict[str, int], lower: bool | None, keep_accents: bool | None
) -> Vocabulary:
    """A SentencePiece model with the pieces, scores and character map of the file."""
    scores = dict(file["model"]["vocab"])
    pieces = _in_order({piece: n for n, (piece, _) in enumerate(file["model"]["vocab"])} | added, place)
    specials = _specials(pieces, place)
    steps = {step["type"]: step for step in _steps(file)}
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
    if "Precompiled" in steps:
        proto.normalizer_spec.precompiled_charsmap = base64.b64decode(steps["Precompiled"]["precompiled_charsmap"])
    _check_model(place, proto)
    settings = {
        "lower": "Lowercase" in steps if lower is None else lower,
        "keep_accents": "StripAccents" not in steps if keep_accents is None else keep_accents,
        "word_letters": "ascii" if len(pieces) == 30_000 and "▁2010," in scores else "unicode",
        # The scores of the file are what Hugging Face uses: the rule is in them or it is not.
        "digit_comma": False,
    }
    return Vocabulary("sentencepiece", proto.SerializeToString(deterministic=True), settings, specials)


def _wordpiece_json(
    place: pathlib.Path, file: dict[str, Any], added: dict[str, int], lower: bool | None, keep_accents: bool | None
) -> Vocabulary:
    pieces = _in_order(file["model"]["vocab"] | added, place)
    steps = _steps(file)
    if [step["type"] for step in steps] != ["BertNormalizer"]:
        raise UserError(f"tokenizer: {place}: its normalizer is not BERT's; only BERT's can be adopted")
    step = steps[0]
    lower = step["lowercase"] if lower is None else lower
    strips = lower if step["strip_accents"] is None else step["strip_accents"]
    settings = {
        "lower": lower,
        "keep_accents": not strips if keep_accents is None else keep_accents,
        "split_chinese": step["handle_chinese_chars"],
    }
    content = "".join(piece + "\n" for piece in pieces).encode("utf-8")
    return Vocabulary("wordpiece", content, settings, _specials(pieces, place))
