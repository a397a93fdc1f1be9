"""Our tokenizer as the files that `transformers.AutoTokenizer` reads, with the ids that the model was trained on.

`tokenizer.json` holds the whole pipeline. For SentencePiece it is built as transformers' own converter does
(`convert_slow_tokenizer.py`, AlbertConverter): the unigram pieces with their scores, the precompiled character map of
the model, and, for the digit-comma rule, pieces such as `▁2011,` made so unlikely that they are never chosen.
"""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import tokenizers
from tokenizers import decoders as token_decoders
from tokenizers import models, normalizers, pre_tokenizers, processors

from bertlite_jax.config.model import SPECIAL_IDS
from bertlite_jax.data.vocabulary import codecs
from bertlite_jax.data.vocabulary.scored_pieces import sentencepiece_charsmap, sentencepiece_pieces
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.data.vocabulary.word_starts import SPACE
from bertlite_jax.errors import UserError
from bertlite_jax.host.whole_files import write_json


def special_token_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Ids by role: pad, unk, cls, sep, mask."""
    return dict(zip(SPECIAL_IDS, tokenizer.special_ids, strict=True))


def special_pieces(tokenizer: Tokenizer) -> dict[str, str]:
    """Pieces by role, such as `[CLS]`."""
    ids = special_token_ids(tokenizer)
    return dict(zip(ids, tokenizer.pieces(list(ids.values())), strict=True))


def write_tokenizer(tokenizer: Tokenizer, folder: pathlib.Path, max_length: int, token_types: int) -> None:
    """Writes tokenizer.json, tokenizer_config.json, special_tokens_map.json, and the model file for older readers.

    Args:
      tokenizer: ours.
      folder: exists.
      max_length: longest input of the model in tokens, special tokens included; the class's own default is 1e30.
      token_types: fewer than 2 leaves `token_type_ids` out of what the tokenizer returns.
    """
    pieces = special_pieces(tokenizer)
    backend = build_fast_tokenizer(tokenizer)
    backend.save(str(folder / "tokenizer.json"))
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    values: dict[str, Any] = {
        **_class_settings(tokenizer),
        **{f"{role}_token": piece for role, piece in pieces.items()},
        "model_max_length": max_length,
        # ALBERT's tokenizer class leaves token_type_ids out unless told, and every pair loses its segments.
        "model_input_names": inputs if token_types > 1 else ["input_ids", "attention_mask"],
    }
    write_json(folder / "tokenizer_config.json", values)
    write_json(folder / "special_tokens_map.json", {f"{role}_token": piece for role, piece in pieces.items()})
    for name in ("spiece.model", "vocab.txt"):
        source = pathlib.Path(tokenizer.folder) / name
        if source.is_file():
            shutil.copyfile(source, folder / name)


def build_fast_tokenizer(tokenizer: Tokenizer) -> Any:
    """The pipeline of the `tokenizers` library: normaliser, pre-tokeniser, model, [CLS] a [SEP] b [SEP]."""
    folder = pathlib.Path(tokenizer.folder)
    if tokenizer.kind == "sentencepiece":
        backend = _unigram(tokenizer)
    elif tokenizer.kind == "wordpiece":
        backend = _wordpiece(tokenizer)
    else:
        file = codecs.bpe_json((folder / "tokenizer.json").read_bytes())
        file = codecs.with_specials(file, special_pieces(tokenizer).values())
        backend = tokenizers.Tokenizer.from_str(json.dumps(file))
    pieces, ids = special_pieces(tokenizer), special_token_ids(tokenizer)
    # RoBERTa's mask absorbs the space before it, because the piece that it replaces would start with that space.
    absorbs_space = {"mask"} if tokenizer.kind == "bpe" else set()
    # An adopted pipeline has its special pieces already, with flags of its own.
    present = {token.content for token in backend.get_added_tokens_decoder().values()}
    backend.add_special_tokens(
        [
            tokenizers.AddedToken(piece, special=True, lstrip=role in absorbs_space)
            for role, piece in pieces.items()
            if piece not in present
        ]
    )
    cls, sep = pieces["cls"], pieces["sep"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, ids["cls"]), (sep, ids["sep"])],
    )
    written = backend.get_vocab_size()
    if written != tokenizer.vocab_size:
        raise UserError(
            f"convert: {folder}: {written} pieces when written for AutoTokenizer and {tokenizer.vocab_size} in the "
            "tokenizer; does its vocabulary have a piece twice?"
        )
    return backend


def _unigram(tokenizer: Tokenizer) -> Any:
    settings = tokenizer.settings
    scores, charsmap = sentencepiece_pieces(tokenizer.folder), sentencepiece_charsmap(tokenizer.folder)
    model: Any = models.Unigram(scores, unk_id=tokenizer.unk_id, byte_fallback=False)
    backend: Any = tokenizers.Tokenizer(model)
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not settings["keep_accents"]:
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if settings["lower"]:
        steps.append(normalizers.Lowercase())
    if charsmap:
        steps.append(normalizers.Precompiled(charsmap))
    backend.normalizer = normalizers.Sequence(steps)
    words: Any = pre_tokenizers.WhitespaceSplit()
    marks: Any = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, marks])
    backend.decoder = token_decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    return backend


def _wordpiece(tokenizer: Tokenizer) -> Any:
    settings = tokenizer.settings
    vocab = {piece: i for i, piece in enumerate(tokenizer.pieces(list(range(tokenizer.vocab_size))))}
    unk = special_pieces(tokenizer)["unk"]
    model: Any = models.WordPiece(vocab=vocab, unk_token=unk, max_input_chars_per_word=100)
    backend: Any = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings["split_chinese"],
        strip_accents=not settings["keep_accents"],
        lowercase=settings["lower"],
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = token_decoders.WordPiece(prefix="##")
    return backend


def _class_settings(tokenizer: Tokenizer) -> dict[str, Any]:
    """The class that AutoTokenizer creates, and its settings.

    Since version 5, `AlbertTokenizer` and `BertTokenizer` only take the pieces from tokenizer.json and rebuild the
    pipeline from these settings, with ALBERT's special pieces fixed. Tokenizers that do not fit them get the class that
    has no pipeline of its own and uses the one in tokenizer.json. So do SentencePiece vocabularies with capital letters
    or accents: before 5.16 `AlbertTokenizer` gives other ids for these, whatever its settings say.
    """
    settings = tokenizer.settings
    if tokenizer.kind == "wordpiece":
        return {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": settings["lower"],
            "strip_accents": not settings["keep_accents"],
            "tokenize_chinese_chars": settings["split_chinese"],
        }
    pieces = special_pieces(tokenizer)
    usual = (pieces["cls"], pieces["sep"], tokenizer.unk_id) == ("[CLS]", "[SEP]", 1)
    if tokenizer.kind == "sentencepiece" and usual and settings["lower"] and not settings["keep_accents"]:
        return {"tokenizer_class": "AlbertTokenizer", "do_lower_case": True, "keep_accents": False}
    return {"tokenizer_class": "PreTrainedTokenizerFast"}
