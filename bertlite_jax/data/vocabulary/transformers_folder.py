"""A vocabulary on disk, and what the files beside it say about how text is read.

The class of transformers that opens the folder decides: it has defaults of its own, and since version 5 most classes
take only the pieces from tokenizer.json and build the rest themselves. So the class is found as `AutoTokenizer` finds
it.

Source: transformers, models/auto/tokenization_auto.py and tokenization_utils_base.py (`_from_pretrained`).
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
from typing import Any, Literal

import tokenizers

from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files

_LOG = logging.getLogger(__name__)

Family = Literal["bert", "albert", "roberta", "xlm-roberta", "file", "other", "unknown"]
"""How a class builds its pipeline. `file`: it runs tokenizer.json as it is. `other`: a class that is not known here.
`unknown`: nothing names a class."""

_FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("Bert", "DistilBert", "Electra", "MobileBert", "ConvBert", "Lxmert", "SqueezeBert"), "bert"),
    "Albert": "albert",
    "Roberta": "roberta",
    "XLMRoberta": "xlm-roberta",
    "PreTrained": "file",
}
_FAMILY_OF_MODEL: dict[str, Family] = {
    **dict.fromkeys(("bert", "distilbert", "electra", "mobilebert", "convbert"), "bert"),
    "albert": "albert",
    "roberta": "roberta",
}
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_ANGLES = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "pad": "<pad>", "cls": "<s>", "mask": "<mask>"}
_DEFAULT_SPECIALS: dict[str, dict[str, str]] = {
    "bert": {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"},
    "albert": {"bos": "[CLS]", "eos": "[SEP]", "unk": "<unk>", "sep": "[SEP]", "pad": "<pad>", "cls": "[CLS]",
               "mask": "[MASK]"},
    "roberta": _ANGLES,
    "xlm-roberta": _ANGLES,
}  # fmt: skip
_TOKEN_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclasses.dataclass(frozen=True)
class Source:
    """A vocabulary file and the statements beside it."""

    file: pathlib.Path
    family: Family
    class_name: str
    """As tokenizer_config.json or config.json states it; else empty."""
    config: dict[str, Any]
    """tokenizer_config.json; empty if there is none."""
    special_map: dict[str, Any]
    """special_tokens_map.json, which counts only where `config` has no added_tokens_decoder."""
    added_ids: dict[str, Any]
    """added_tokens.json: ids by token. Counts like `special_map`."""
    second_type: bool = False
    """Whether the model beside it has a token type for the second text of a pair."""

    def flag(self, name: str) -> bool | None:
        """A setting of tokenizer_config.json that is true, false or absent. Raises UserError for anything else."""
        value = self.config.get(name)
        if value is None or isinstance(value, bool):
            return value
        path = self.file.with_name("tokenizer_config.json")
        raise UserError(f"tokenizer: {path}: {name} = {value!r} should be true or false")

    def specials(self) -> dict[str, tokenizers.AddedToken]:
        """The special tokens by role, as stated or as the class has them; those that nothing names are missing."""
        named: dict[str, Any] = {f"{role}_token": name for role, name in _DEFAULT_SPECIALS.get(self.family, {}).items()}
        named |= {key: value for key, value in self.config.items() if value is not None}
        named |= {key: value for key, value in self.special_map.items() if value is not None}
        keys = [(role, f"{role}_token") for role in ROLES]
        return {role: self._token(named[key], key) for role, key in keys if key in named}

    def more_specials(self) -> list[tokenizers.AddedToken]:
        """Special tokens without a role: additional_special_tokens, or extra_special_tokens as version 5 calls them."""
        found: list[tokenizers.AddedToken] = []
        for stated in (self.config, self.special_map):
            for key in ("extra_special_tokens", "additional_special_tokens"):
                tokens = stated.get(key) or []
                if not isinstance(tokens, list | dict):
                    raise UserError(f"tokenizer: {self.file.parent}: {key} should be a list of tokens")
                found += [
                    self._token(token, key) for token in (tokens.values() if isinstance(tokens, dict) else tokens)
                ]
        return found

    def added_tokens(self, file: dict[str, Any]) -> list[tokenizers.AddedToken]:
        """Tokens that are found in the raw text, in the order of their ids.

        Args:
          file: content of tokenizer.json; empty for other files.
        """
        stated = self.config.get("added_tokens_decoder")
        if stated is not None:
            by_id = self._by_id(stated, "tokenizer_config.json: added_tokens_decoder")
        else:
            special = {token.content for token in [*self.specials().values(), *self.more_specials()]}
            by_id = {}
            for content, number in self.added_ids.items():
                flags = {"normalized": content not in special, "special": content in special}
                by_id |= self._by_id({number: {"content": content} | flags}, "added_tokens.json")
            for token in file.get("added_tokens") or []:
                if not isinstance(token, dict) or "id" not in token:
                    raise UserError(f"tokenizer: {self.file}: added_tokens should be a list of tokens with ids")
                by_id |= self._by_id({token["id"]: token}, "added_tokens")
        return [by_id[number] for number in sorted(by_id)]

    def _by_id(self, stated: Any, where: str) -> dict[int, tokenizers.AddedToken]:
        try:
            return {int(number): self._token(token, where) for number, token in stated.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"tokenizer: {self.file.parent}: {where} should hold tokens by their ids") from error

    def _token(self, value: Any, where: str) -> tokenizers.AddedToken:
        """An added token from its name, or from its name and flags."""
        if isinstance(value, str):
            return tokenizers.AddedToken(value, special=True, normalized=False)
        if isinstance(value, dict) and isinstance(value.get("content"), str):
            flags = {name: value[name] for name in _TOKEN_FLAGS if isinstance(value.get(name), bool)}
            return tokenizers.AddedToken(value["content"], **flags)
        raise UserError(f"tokenizer: {self.file.parent}: {where}: {value!r} is no token (a name, or one with content)")


def find(path: str) -> Source:
    """The vocabulary that `path` names: a file, or a folder with tokenizer.json, spiece.model or vocab.txt.

    Raises:
      UserError: there is none, or a file beside it is damaged.
    """
    place = pathlib.Path(path)
    folder = place if place.is_dir() else place.parent
    beside = {
        name: json_files.read_object(folder / name, "tokenizer") if (folder / name).exists() else {}
        for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json")
    }
    config = beside["tokenizer_config.json"]
    class_name = config.get("tokenizer_class") or beside["config.json"].get("tokenizer_class") or ""
    if not isinstance(class_name, str):
        raise UserError(f"tokenizer: {folder}: tokenizer_class = {class_name!r} should be a name")
    family = _family(class_name, beside["config.json"].get("model_type"))
    if place.is_dir():
        names = ["tokenizer.json", "spiece.model", "vocab.txt"]
        if family == "bert":
            names = ["tokenizer.json", "vocab.txt", "spiece.model"]
        present = [name for name in names if (place / name).exists()]
        if not present:
            raise UserError(f"tokenizer: {path} holds no tokenizer.json, spiece.model or vocab.txt")
        place /= present[0]
    elif place.suffix == ".model":
        # Whoever names the model file itself means that model, however a class of transformers would convert it.
        family = "unknown"
    if family == "albert" and place.suffix == ".txt":
        # AutoTokenizer cannot open it: a vocabulary of BERT's kind beside an ALBERT, of which nothing names the class.
        family = "unknown"
    _check_words(config, folder)
    second_type = _has_second_type(beside["config.json"])
    _warn_of_settings(config, folder, second_type)
    # With added_tokens_decoder, transformers opens neither of the older files.
    older = config.get("added_tokens_decoder") is None
    special_map = beside["special_tokens_map.json"] if older else {}
    added_ids = beside["added_tokens.json"] if older else {}
    return Source(place, family, class_name, config, special_map, added_ids, second_type)


def _has_second_type(model: dict[str, Any]) -> bool:
    """Whether the model in a folder tells the second text of a pair from the first one; False where there is none."""
    if model.get("model_type") not in ("bert", "albert"):
        return False
    types = model.get("type_vocab_size", 2)
    return isinstance(types, int) and types > 1


def _check_words(config: dict[str, Any], folder: pathlib.Path) -> None:
    """Refuses a vocabulary of words that another program finds first, such as MeCab, in a folder without its class.

    Raises:
      UserError: tokenizer_config.json names such a program, as BertJapaneseTokenizer's does.
    """
    for key, usual in (("word_tokenizer_type", "basic"), ("subword_tokenizer_type", "wordpiece")):
        if config.get(key) not in (None, usual):
            raise UserError(
                f"tokenizer: {folder / 'tokenizer_config.json'}: {key} = {config[key]!r}, as of a "
                "BertJapaneseTokenizer, which finds words in another way; only the vocabulary of a BertTokenizer can "
                "be adopted"
            )


def _warn_of_settings(config: dict[str, Any], folder: pathlib.Path, second_type: bool) -> None:
    """Logs what tokenizer_config.json asks for beyond ids, and models here do otherwise."""
    where = folder / "tokenizer_config.json"
    if config.get("truncation_side") == "left":
        _LOG.warning(
            "tokenizer: %s: truncation_side is left, and here long texts lose their end, not their beginning; of a "
            "model that was trained so, cut texts to their last part yourself",
            where,
        )
    inputs = config.get("model_input_names")
    if second_type and isinstance(inputs, list) and "token_type_ids" not in inputs:
        _LOG.warning(
            "tokenizer: %s: model_input_names has no token_type_ids, so AutoTokenizer gives both texts of a pair the "
            "type 0, and here the second one has 1; of a model that was trained on such pairs the answers will differ",
            where,
        )
    if config.get("auto_map"):
        _LOG.warning(
            "tokenizer: %s: auto_map names code of the folder's own, which is not run; where that reads text in "
            "another way, the ids are not those of the model's training",
            where,
        )


def _family(class_name: str, model_type: Any) -> Family:
    if class_name:
        bare = class_name.removesuffix("Fast").removesuffix("Tokenizer")
        return "file" if class_name == "TokenizersBackend" else _FAMILIES.get(bare, "other")
    return _FAMILY_OF_MODEL.get(model_type, "unknown") if isinstance(model_type, str) else "unknown"
