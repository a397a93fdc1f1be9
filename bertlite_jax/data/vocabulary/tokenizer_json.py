"""What AutoTokenizer makes of a folder with a tokenizer.json.

Versions 4 and 5 of transformers read some folders differently: 4 runs tokenizer.json with the case settings of
tokenizer_config.json put in, 5 takes the pieces from it and builds the rest. A folder on which the two differ is
refused, since nobody can know which of them its model was trained with.

Source: transformers 5, tokenization_utils_tokenizers.py (`convert_to_native_format`); transformers 4,
models/bert/tokenization_bert_fast.py.
"""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from bertlite_jax.data.vocabulary import known_steps, library_errors, pipelines
from bertlite_jax.data.vocabulary.pipelines import first_stated
from bertlite_jax.data.vocabulary.transformers_folder import Source
from bertlite_jax.errors import UserError

_LOG = logging.getLogger(__name__)
_MODEL_OF_FAMILY = {"albert": "Unigram", "roberta": "BPE", "xlm-roberta": "Unigram"}


def of_file(source: Source, file: dict[str, Any], kind: str, case: pipelines.Case) -> Any:
    """What AutoTokenizer runs for a folder with a tokenizer.json.

    Args:
      source: the file and what is said of it.
      file: its content.
      kind: of its model: WordPiece, Unigram or BPE.
      case: overrides the folder.

    Raises:
      UserError: the file is damaged, versions of transformers differ on it, its class is not known, or `case` asks for
        what its normalizer cannot do.
    """
    if source.family == "other":
        raise UserError(
            f"tokenizer: {source.file.parent}: how {source.class_name} reads text is not known here; if it runs "
            'tokenizer.json as it is, set "tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json'
        )
    stated = _with_case(source, file, case)
    by_file = _parse(source, stated)
    pipelines.add_tokens(by_file, source, file)
    if runs_file(source, kind):
        return by_file
    by_class = _by_class(source, file, case)
    pipelines.add_tokens(by_class, source, file)
    differing = pipelines.difference(source, by_class, by_file)
    if differing:
        raise UserError(
            f"tokenizer: {source.file.parent}: {differing.text!r} becomes {differing.first} where the class "
            f"{source.class_name or 'of the model'} builds the tokenizer (transformers 5) and {differing.second} where "
            'tokenizer.json is run (transformers 4). Set "tokenizer_class": "PreTrainedTokenizerFast" in '
            "tokenizer_config.json to take the file as it is, or delete the file to take the class"
        )
    if source.family in ("roberta", "xlm-roberta"):
        _warn_of_pairs(source)
    return by_class


def _by_class(source: Source, file: dict[str, Any], case: pipelines.Case) -> Any:
    vocabulary = file["model"]["vocab"]
    name = source.class_name or source.family
    with library_errors.told_of(f"tokenizer: {source.file}: {name} cannot be built from it"):
        if source.family == "bert":
            if isinstance(vocabulary, list):
                vocabulary = {piece: number for number, (piece, _) in enumerate(vocabulary)}
            return pipelines.bert(source, vocabulary, case)
        if source.family == "roberta":
            merges: Any = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
                      for merge in file["model"]["merges"]]  # fmt: skip
            pipeline: Any = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
            prefix = first_stated(source.flag("add_prefix_space"), False)
            pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
            pipeline.decoder = tokenizers.decoders.ByteLevel()
            return pipeline
        scores = [(str(piece), float(score)) for piece, score in vocabulary]
        mapping = charsmap(source, file)
        if source.family == "albert":
            lower = first_stated(case[0], source.flag("do_lower_case"), True)
            keep_accents = first_stated(case[1], source.flag("keep_accents"), False)
            return pipelines.albert(scores, 1, mapping, (lower, keep_accents))
        pipeline = tokenizers.Tokenizer(models.Unigram(scores, unk_id=3, byte_fallback=False))
        if mapping:
            pipeline.normalizer = normalizers.Precompiled(mapping)
        pipelines.add_word_marks(pipeline)
        return pipeline


def charsmap(source: Source, file: dict[str, Any]) -> bytes:
    """SentencePiece's character map among the normalizers; empty if there is none. Raises UserError if damaged."""
    for step in known_steps.flat(file.get("normalizer"), "normalizers"):
        if step.get("type") == "Precompiled":
            stated = step.get("precompiled_charsmap")
            with library_errors.told_of(f"tokenizer: {source.file}: its precompiled_charsmap is damaged"):
                mapping = base64.b64decode(stated or "", validate=True)
                if stated and base64.b64encode(mapping).decode() != stated:
                    raise UserError(f"tokenizer: {source.file}: its precompiled_charsmap is damaged")
                normalizers.Precompiled(mapping)
            return mapping
    return b""


def _with_case(source: Source, file: dict[str, Any], case: pipelines.Case) -> dict[str, Any]:
    """The file without truncation and padding, and with the case that is asked for, or that BERT's class puts in."""
    file = file | {"truncation": None, "padding": None}
    lower, keep_accents = case
    only = known_steps.flat(file.get("normalizer"), "normalizers")
    if [step.get("type") for step in only] == ["BertNormalizer"]:
        step = dict(only[0])
        if source.family == "bert":
            stated = source.flag("do_lower_case")
            if stated is None and lower is None and step.get("lowercase") is False:
                pipelines.warn_of_capitals(source)
            step |= {
                "lowercase": first_stated(stated, True),
                "strip_accents": source.flag("strip_accents"),
                "handle_chinese_chars": first_stated(source.flag("tokenize_chinese_chars"), True),
            }
        step |= {} if lower is None else {"lowercase": lower}
        step |= {} if keep_accents is None else {"strip_accents": not keep_accents}
        return file | {"normalizer": step}
    if lower is None and keep_accents is None:
        return file
    kept = [step for step in only if not (lower is False and step.get("type") == "Lowercase")]
    kept = [step for step in kept if not (keep_accents and step.get("type") in ("StripAccents", "NFD", "NFKD"))]
    names = [step.get("type") for step in kept]
    if (lower and "Lowercase" not in names) or (keep_accents is False and "StripAccents" not in names):
        raise UserError(f"tokenizer: {source.file} has a normalisation of its own; leave lower and accents out")
    return file | {"normalizer": {"type": "Sequence", "normalizers": kept} if kept else None}


def _parse(source: Source, file: dict[str, Any]) -> Any:
    """Runs the file. Raises UserError for one that the library does not read."""
    charsmap(source, file)  # The library panics over a damaged one.
    with library_errors.told_of(f"tokenizer: {source.file} is not a file of the tokenizers library"):
        return tokenizers.Tokenizer.from_str(json.dumps(file))


def as_written(source: Source, file: dict[str, Any]) -> dict[str, Any]:
    """The file as this version of the library writes it, with all that older versions leave out."""
    return json.loads(_parse(source, file).to_str())


def runs_file(source: Source, kind: str) -> bool:
    """Whether tokenizer.json is run as it is: no class builds anything from it, or the class cannot, for this kind."""
    return source.family != "bert" and _MODEL_OF_FAMILY.get(source.family) != kind


def check_specials_around(source: Source, pipeline: Any, specials: dict[str, str]) -> None:
    """Refuses a pipeline that does not put its [CLS] and [SEP] around a text, since models here always read them.

    Raises:
      UserError: it puts something else there, in a folder that AutoTokenizer can open.
    """
    if source.family == "unknown":
        return
    with library_errors.told_of(f"tokenizer: {source.file} cannot be run"):
        plain = pipeline.encode("a", add_special_tokens=False).tokens
        found, both = pipeline.encode("a").tokens, pipeline.encode("a", "a")
    around = [specials["cls"], *plain, specials["sep"]]
    if found != around:
        raise UserError(
            f"tokenizer: {source.file}: with its post_processor 'a' becomes {found}, and models here read {around}; "
            "set a post_processor that puts the two around a text"
        )
    if both.tokens != [*around, *plain, specials["sep"]]:
        _warn_of_pairs(source)
    elif source.second_type and not any(both.type_ids):
        _LOG.warning(
            "tokenizer: %s: its post_processor gives both texts of a pair the type 0, and here the second one has 1; "
            "of a model that was trained on such pairs the answers will differ",
            source.file,
        )


def _warn_of_pairs(source: Source) -> None:
    _LOG.warning(
        "tokenizer: %s: AutoTokenizer puts other special pieces into a pair of texts than one between them and one "
        "behind, which models here read; of a model that was trained on pairs the answers will differ",
        source.file,
    )
