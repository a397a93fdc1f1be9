"""Pipelines of the `tokenizers` library as the classes of transformers build them from a vocabulary.

Source: transformers 5, models/{albert,bert}/tokenization_*.py and tokenization_utils_tokenizers.py.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from bertlite_jax.data.vocabulary import check_texts, codecs, library_errors, word_starts
from bertlite_jax.data.vocabulary.transformers_folder import Source
from bertlite_jax.errors import UserError

_LOG = logging.getLogger(__name__)

Case = tuple[bool | None, bool | None]
"""Lower-case, keep accents: what the user asks for; None leaves it to the folder."""


# --- vocab.txt -------------------------------------------------------------------------------------------------------


def of_vocabulary(source: Source, pieces: list[str], case: Case, capitals: bool) -> Any:
    """What BertTokenizer builds from a vocab.txt and tokenizer_config.json.

    Args:
      source: the file and what is said of it.
      pieces: of the file.
      case: overrides the folder.
      capitals: whether an ordinary piece has a capital letter. Decides about case where neither a class nor
        tokenizer_config.json does.

    Raises:
      UserError: another class reads this file, or a setting is no setting.
    """
    _check_class(source, "vocab.txt", "BertTokenizer", ("bert", "albert", "file", "unknown"))
    lower = stated_lower(source, "bert", capitals) if case[0] is None else case[0]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    named = source.specials().get("unk")
    if (
        (source.config.get("unk_token") or source.special_map.get("unk_token"))
        and named
        and named.content not in pieces
    ):
        raise UserError(
            f"tokenizer: {source.file}: no piece {named.content!r}, which is the unk_token stated beside it, so that "
            "AutoTokenizer fails at the first unknown word; correct the name there"
        )
    pipeline = bert(source, vocabulary, (lower, case[1]))
    add_tokens(pipeline, source, {})
    return pipeline


def stated_lower(source: Source, family: str, capitals: bool) -> bool:
    """Whether the folder's tokenizer lower-cases.

    Args:
      source: what is said of the vocabulary.
      family: whose default, to lower-case, holds in a folder of that class that states nothing.
      capitals: whether an ordinary piece has a capital letter; decides where there is no class either.
    """
    stated = source.flag("do_lower_case")
    if stated is not None:
        return stated
    if source.family != family:
        return not capitals
    if capitals:
        warn_of_capitals(source)
    return True


def warn_of_capitals(source: Source) -> None:
    """Logs that a cased vocabulary is lower-cased because nothing says otherwise."""
    _LOG.warning(
        "tokenizer: %s has pieces with capital letters, and tokenizer_config.json does not say do_lower_case: text is "
        'lower-cased, as AutoTokenizer does. If the model was trained with case, write {"do_lower_case": false} there',
        source.file,
    )


def bert(source: Source, vocabulary: dict[str, int], case: Case) -> Any:
    """BertTokenizer's pipeline over ids by piece; `case` overrides tokenizer_config.json."""
    lower = first_stated(case[0], source.flag("do_lower_case"), True)
    stated = source.specials().get("unk")
    names = ([stated.content] if stated else []) + ["[UNK]", "<unk>"]
    unk = next((name for name in names if name in vocabulary), names[0])
    model: Any = models.WordPiece(vocab=vocabulary, unk_token=unk, max_input_chars_per_word=100)
    pipeline: Any = tokenizers.Tokenizer(model)
    pipeline.normalizer = _bert_normalizer(source, lower, case[1])
    pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pipeline.decoder = tokenizers.decoders.WordPiece(prefix="##")
    return pipeline


def _bert_normalizer(source: Source, lower: bool, keep_accents: bool | None) -> Any:
    strip = source.flag("strip_accents") if keep_accents is None else not keep_accents
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=first_stated(source.flag("tokenize_chinese_chars"), True),
        strip_accents=strip,
        lowercase=lower,
    )


# --- A SentencePiece model -------------------------------------------------------------------------------------------


def of_sentencepiece(source: Source, proto: Any, case: tuple[bool, bool]) -> Any:
    """ALBERT's pipeline over a SentencePiece model, as its release, sentencepiece and transformers up to 4 run it.

    User-defined symbols that normalisation would take apart are found in the raw text, as sentencepiece finds them. The
    other symbols are pieces like any other: `3.5` does not become two words.

    In a folder of transformers without a tokenizer.json, version 5 converts the model itself: it finds all symbols in
    the raw text, each piece of text between them starts with a ▁, and numbers with a comma are not split. For ALBERT's
    own model that gives other ids than those that it was trained with, so such a folder is refused.

    Args:
      source: the file and what is said of it.
      proto: the parsed model.
      case: lower-case, keep accents.

    Raises:
      UserError: another class reads this file, or versions of transformers differ on it.
    """
    _check_class(source, "spiece.model", "AlbertTokenizer", ("albert", "file", "unknown"))
    scores = codecs.scored_pieces(proto, digit_comma=True)
    charsmap = proto.normalizer_spec.precompiled_charsmap
    kinds = codecs.MODEL_SCHEMA.ModelProto.SentencePiece
    symbols = [piece.piece for piece in proto.pieces if piece.type == kinds.USER_DEFINED]
    with library_errors.told_of(f"tokenizer: {source.file} is a damaged SentencePiece model"):
        pipeline = albert(scores, proto.trainer_spec.unk_id, charsmap, case)
        apart = [symbol for symbol in symbols if symbol not in pipeline.encode(f"a {symbol} a").tokens]
    pipeline.add_tokens([tokenizers.AddedToken(symbol, normalized=False) for symbol in apart])
    add_tokens(pipeline, source, {})
    if source.family == "albert":
        _check_conversion(source, proto, case, symbols, pipeline)
    return pipeline


def _check_conversion(source: Source, proto: Any, case: tuple[bool, bool], symbols: list[str], pipeline: Any) -> None:
    """Refuses a model that transformers 5 would convert into anything but `pipeline`."""
    scores, charsmap = codecs.scored_pieces(proto, digit_comma=False), proto.normalizer_spec.precompiled_charsmap
    converted = albert(scores, 1, charsmap, case)
    control = codecs.MODEL_SCHEMA.ModelProto.SentencePiece.CONTROL
    controls = [piece.piece for piece in proto.pieces if piece.type == control]
    converted.add_tokens([tokenizers.AddedToken(name, normalized=False, special=True) for name in controls])
    converted.add_tokens([tokenizers.AddedToken(name, normalized=False) for name in symbols])
    add_tokens(converted, source, {})
    differing = difference(source, converted, pipeline)
    if differing:
        quoted = shlex.quote(str(source.file))
        raise UserError(
            f"tokenizer: {source.file.parent}: {differing.text!r} becomes {differing.first} where transformers 5 "
            f"converts spiece.model, and {differing.second} where ALBERT's release and earlier versions read it. Name "
            f"the file itself to take the latter: bertlite tokenizer {quoted}, or bertlite convert from-hf "
            f"--tokenizer {quoted}"
        )


def albert(scores: list[tuple[str, float]], unk_id: int, charsmap: bytes, case: tuple[bool, bool]) -> Any:
    """AlbertTokenizer's pipeline over pairs of piece and score; `case`: lower-case, keep accents."""
    lower, keep_accents = case
    pipeline: Any = tokenizers.Tokenizer(models.Unigram(scores, unk_id=unk_id, byte_fallback=False))
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not keep_accents:
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if lower:
        steps.append(normalizers.Lowercase())
    if charsmap:
        steps.append(normalizers.Precompiled(charsmap))
    pipeline.normalizer = normalizers.Sequence(steps)
    add_word_marks(pipeline)
    return pipeline


def add_word_marks(pipeline: Any) -> None:
    """Splits at white space and puts ▁ before each word."""
    marks: Any = pre_tokenizers.Metaspace(replacement=word_starts.SPACE, prepend_scheme="always")
    pipeline.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), marks])
    pipeline.decoder = tokenizers.decoders.Metaspace(replacement=word_starts.SPACE, prepend_scheme="always")


# --- What all have in common -----------------------------------------------------------------------------------------


def add_tokens(pipeline: Any, source: Source, file: dict[str, Any]) -> None:
    """Adds the tokens that are found in the raw text, in transformers' order: by id, then those named by their role.

    Raises:
      UserError: two of the pipeline's added tokens normalise alike, or one to nothing.
    """
    tokens = source.added_tokens(file)
    known = {token.content for token in [*pipeline.get_added_tokens_decoder().values(), *tokens]}
    for token in [*source.specials().values(), *source.more_specials()]:
        if token.content not in known:
            tokens.append(token)
            known.add(token.content)
    pipeline.add_tokens(tokens)
    _check_apart(pipeline, source)


def _check_apart(pipeline: Any, source: Source) -> None:
    """Of two tokens that normalise alike the library finds a random one; at one that becomes nothing it panics."""
    first_of: dict[str, str] = {}
    for token in pipeline.get_added_tokens_decoder().values():
        if not token.normalized or not pipeline.normalizer:
            continue
        with library_errors.told_of(f"tokenizer: {source.file} cannot be run"):
            text = pipeline.normalizer.normalize_str(token.content)
        where = f"tokenizer: {source.file}: the added token"
        if not text:
            raise UserError(f'{where} {token.content!r} normalises to nothing; remove it, or set "normalized": false')
        if text in first_of:
            raise UserError(
                f"{where}s {first_of[text]!r} and {token.content!r} both normalise to {text!r}, so which is found "
                'changes from load to load; remove one, or set "normalized": false for both'
            )
        first_of[text] = token.content


def _check_class(source: Source, file: str, reader: str, families: tuple[str, ...]) -> None:
    if source.family not in families:
        raise UserError(
            f"tokenizer: {source.file.parent}: {file} of a {source.class_name or source.family}; only the {file} of a "
            f"{reader} can be adopted"
        )


def difference(source: Source, first: Any, second: Any) -> check_texts.Difference | None:
    """The first check text that two pipelines over the same vocabulary cut differently."""
    added = [token.content for token in first.get_added_tokens_decoder().values()]
    texts = check_texts.lines(second.get_vocab(), added)
    with library_errors.told_of(f"tokenizer: {source.file} cannot be run"):
        return check_texts.first_difference(_pieces_of(first), _pieces_of(second), texts)


def _pieces_of(pipeline: Any) -> Callable[[list[str]], list[list[str]]]:
    def pieces(texts: list[str]) -> list[list[str]]:
        return [encoding.tokens for encoding in pipeline.encode_batch(texts, add_special_tokens=False)]

    return pieces


def first_stated(*values: bool | None) -> bool:
    """The first that is stated."""
    return next(bool(value) for value in values if value is not None)
