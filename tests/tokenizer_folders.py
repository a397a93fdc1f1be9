"""Folders of transformers in the forms that people have, with the tokenizer files only."""

from __future__ import annotations

import json
import pathlib
import string
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NAMES = {f"{role}_token": piece for role, piece in zip(("pad", "unk", "cls", "sep", "mask"), SPECIALS, strict=True)}
_LETTERS = string.ascii_lowercase + string.digits + "äéöüßжйабв한国北京大学是苹果"
_SYMBOLS = ".,-_[]@#!?'\"()"
UNCASED = (*SPECIALS, *_LETTERS, *_SYMBOLS, *("##" + c for c in _LETTERS), "the", "##ing", "##er", "apple")
CASED = (*UNCASED, *string.ascii_uppercase, *("##" + c for c in string.ascii_uppercase), "The")


def write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_folder(
    folder: pathlib.Path, files: dict[str, Any] | None = None, model_type: str | None = "bert", **config: Any
) -> pathlib.Path:
    """A folder with config.json, tokenizer_config.json where `config` says something, and further JSON files."""
    folder.mkdir(parents=True, exist_ok=True)
    if model_type:
        write_json(folder / "config.json", {"model_type": model_type})
    if config:
        write_json(folder / "tokenizer_config.json", config)
    for name, value in (files or {}).items():
        write_json(folder / name, value)
    return folder


def vocab_txt(folder: pathlib.Path, pieces: Sequence[str] = UNCASED, **more: Any) -> pathlib.Path:
    """A folder with a vocab.txt."""
    write_folder(folder, **more)
    (folder / "vocab.txt").write_text("".join(piece + "\n" for piece in pieces), encoding="utf-8")
    return folder


def wordpiece(
    folder: pathlib.Path,
    pieces: Sequence[str] = UNCASED,
    normalizer: Any = None,
    pre_tokenizer: Any = None,
    added: Sequence[str | tokenizers.AddedToken] = (),
    longest: int = 100,
    change: Callable[[Any], None] = lambda tokenizer: None,
    **more: Any,
) -> pathlib.Path:
    """A folder with a WordPiece tokenizer.json, of a class that runs it as it is unless `tokenizer_class` says other.

    Args:
      folder: to write.
      pieces: of the model.
      normalizer: None for BERT's.
      pre_tokenizer: None for BERT's.
      added: further tokens, found in the raw text.
      longest: characters of a word that is not unknown.
      change: applied to the tokenizer before it is saved.
      more: for `write_folder`.
    """
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    model: Any = models.WordPiece(vocab=vocabulary, unk_token="[UNK]", max_input_chars_per_word=longest)
    tokenizer: Any = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizer or normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    _finish(tokenizer, added, change)
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"} | NAMES | more
    write_folder(folder, **config)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _finish(tokenizer: Any, added: Sequence[Any], change: Callable[[Any], None]) -> None:
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.add_tokens(list(added))
    cls, sep = (("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]")))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[cls, sep]
    )
    change(tokenizer)


def sentencepiece_model(path: pathlib.Path, **options: Any) -> pathlib.Path:
    """A SentencePiece model with ALBERT's special pieces."""
    lines = [f"the cat sat on the mat {n} times, x{chr(97 + n % 26)} and {n % 7}.5 or 2,{n:03}" for n in range(200)]
    sizes: dict[str, Any] = {"vocab_size": 64} | options
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=file, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
            control_symbols=["[CLS]", "[SEP]", "[MASK]"], num_threads=16, minloglevel=4,
            **sizes,
        )  # fmt: skip
    return path


def unigram(folder: pathlib.Path, steps: Sequence[Any], pre_tokenizer: Any, **more: Any) -> pathlib.Path:
    """A folder with a Unigram tokenizer.json; <pad> and <unk> are 0 and 1."""
    words = ["the", "cat", "sat", "mat", "2010,", "2010", "ing"]
    pieces = [(name, 0.0) for name in ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")]
    pieces += [(piece, -8.0 - n / 100) for n, piece in enumerate([*_LETTERS, *_SYMBOLS, "▁", "A", "T"])]
    pieces += [("▁" + word, -3.0 - n / 10) for n, word in enumerate(words)]
    tokenizer: Any = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=1, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(list(steps))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.Metaspace()
    names = NAMES | {"pad_token": "<pad>", "unk_token": "<unk>"}
    cls, sep = (("[CLS]", 2), ("[SEP]", 3))
    tokenizer.add_special_tokens(list(names.values()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[cls, sep]
    )
    config: dict[str, Any] = {"model_type": "albert", "tokenizer_class": "PreTrainedTokenizerFast"} | names | more
    write_folder(folder, **config)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def charsmap() -> Any:
    """SentencePiece's own character map, as a normaliser."""
    with tempfile.TemporaryDirectory() as scratch:
        model = sentencepiece_model(pathlib.Path(scratch) / "any.model").read_bytes()
    schema: Any = sentencepiece_model_pb2
    return normalizers.Precompiled(schema.ModelProto.FromString(model).normalizer_spec.precompiled_charsmap)


ALBERT_STEPS = (normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(),
                normalizers.StripAccents(), normalizers.Lowercase(), charsmap())  # fmt: skip
ALBERT_WORDS = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])


def older(folder: pathlib.Path) -> pathlib.Path:
    """The folder with a tokenizer.json as early versions wrote it: the model without its kind, another Metaspace."""
    path = folder / "tokenizer.json"
    file = json.loads(path.read_text(encoding="utf-8"))
    del file["model"]["type"]
    for step in file["pre_tokenizer"].get("pretokenizers", []):
        if step["type"] == "Metaspace":
            step.clear()
            step |= {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}
    write_json(path, file)
    return folder


def xlm_roberta(folder: pathlib.Path) -> pathlib.Path:
    """A BERT with XLM-R's vocabulary, as multilingual sentence encoders have it."""
    pieces = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces += [(piece, -8.0 - n / 100) for n, piece in enumerate([*_LETTERS, *_SYMBOLS, "\u2581", "A", "T"])]
    pieces += [("\u2581the", -3.0), ("\u2581a", -3.5), ("<mask>", 0.0)]
    tokenizer: Any = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = charsmap()
    tokenizer.pre_tokenizer = ALBERT_WORDS
    tokenizer.decoder = decoders.Metaspace()
    mask = tokenizers.AddedToken("<mask>", lstrip=True, special=True)
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", mask])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    write_folder(folder, tokenizer_class="XLMRobertaTokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def byte_level(
    folder: pathlib.Path, added: Sequence[Any] = (), prefix_space: bool = False, **more: Any
) -> pathlib.Path:
    """A folder with a byte-level BPE tokenizer.json as RoBERTa's: <s>, <pad>, </s>, <unk>, then bytes, <mask> last."""
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "n"), ("Ġ", "a"), ("i", "n"), ("in", "g")]
    pieces = [*names, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(merge) for merge in merges), "<mask>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer: Any = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*names, tokenizers.AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.add_tokens(list(added))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=prefix_space)
    roles = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    stated = {f"{role}_token": piece for role, piece in roles.items()}
    config: dict[str, Any] = {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": prefix_space} | stated | more
    write_folder(folder, **config)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
