"""Settings of sentence-transformers, written and read: pooling, unit length and the longest text.

The files are written in the layout of the versions before 6, which 6.2 reads too, while older versions cannot read the
newer layout. Both layouts are read. Source: huggingface/sentence-transformers:sentence_transformers/base/model.py,
base/modules/transformer.py and sentence_transformer/modules/pooling.py, and the folders of
sentence-transformers/all-MiniLM-L6-v2.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import bertlite_jax
from bertlite_jax.config.model import Model
from bertlite_jax.convert.huggingface.names import Family
from bertlite_jax.convert.weights.folder import Sentence, Weights, read_json
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files
from bertlite_jax.host.whole_files import write_json

_MODULES = "modules.json"
_SETTINGS = "sentence_bert_config.json"
_ABOUT = "config_sentence_transformers.json"
_ENCODERS = ("BERT", "ALBERT", "DistilBERT")
"""Modules of the first versions that were a `Transformer` each."""
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

# --- Out -------------------------------------------------------------------------------------------------------------


def write_sentence(folder: pathlib.Path, model: Model, family: Family, sentence: Sentence, longest: int) -> None:
    """Writes modules.json, 1_Pooling/config.json, sentence_bert_config.json and config_sentence_transformers.json.

    `SentenceTransformer(folder)` then gives [texts, D]: the mean of the last hidden states over the real tokens,
    special tokens included, or the state of the first one; divided by its length (L2) if `sentence.normalize` is set.

    Args:
      folder: holds config.json, the weights of a base model, and a tokenizer.
      model: its shape.
      family: whose class the weights are written for.
      sentence: pooling and unit length.
      longest: the most tokens of a text, special tokens included; longer texts are cut.
    """
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if sentence.normalize:
        modules.append(("2_Normalize", "Normalize"))
    listed: Any = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (path, name) in enumerate(modules)
    ]
    write_json(folder / _MODULES, listed)
    (folder / "1_Pooling").mkdir()
    # Older versions only know these four flags.
    flags = {flag: mode == sentence.pooling for flag, mode in list(_FLAGS.items())[:4]}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": model.hidden_size} | flags)
    settings: dict[str, Any] = {"max_seq_length": longest, "do_lower_case": False}
    if family != "distilbert" and not model.pooler:
        # Otherwise the base class initialises a pooler and warns that its weights are missing.
        settings["model_args"] = {"add_pooling_layer": False}
    write_json(folder / _SETTINGS, settings)
    stated = {"__version__": {"bertlite_jax": bertlite_jax.__version__}, "similarity_fn_name": "cosine", "prompts": {}}
    write_json(folder / _ABOUT, stated)


def sentence_of(weights: Weights, command: str) -> Sentence:
    """The sentence settings of the weights, or the defaults.

    Args:
      weights: to be exported.
      command: named in errors.

    Raises:
      UserError: no export can compute the source's vectors (`Sentence.unheld`).
    """
    sentence = weights.sentence or Sentence()
    if sentence.unheld:
        raise UserError(
            f"convert: {command}: {sentence.unheld}, so the vectors would differ from the source's; export the "
            "hidden states instead (to-hf without the option, onnx --output states)"
        )
    return sentence


# --- In --------------------------------------------------------------------------------------------------------------


def model_folder(folder: pathlib.Path) -> pathlib.Path:
    """Where the model and the tokenizer of a folder lie: old versions of sentence-transformers wrote 0_Transformer.

    Raises:
      UserError: modules.json is damaged.
    """
    if not (folder / _MODULES).is_file():
        return folder
    first = next(iter(_modules(folder / _MODULES)), ("", ""))
    inside = folder / first[1]
    return inside if first[0] == "Transformer" and inside.is_dir() and inside.parent == folder else folder


def with_case(sentence: Sentence | None, folder: pathlib.Path, lower: bool) -> Sentence | None:
    """The settings, not held where texts are lower-cased before they reach a tokenizer that keeps their case.

    Args:
      sentence: as `read_sentence` gives it.
      folder: it was read from.
      lower: whether the adopted tokenizer lower-cases.
    """
    settings = model_folder(folder) / _SETTINGS
    if sentence is None or sentence.unheld or lower or not _optional(settings).get("do_lower_case"):
        return sentence
    return dataclasses.replace(sentence, unheld=_lowered(settings))


def _lowered(settings: pathlib.Path) -> str:
    return f"{settings} lower-cases the texts of a cased tokenizer"


def read_sentence(folder: pathlib.Path) -> Sentence | None:
    """How a folder of sentence-transformers makes its vectors; None for other folders (no modules.json).

    If our model cannot do that, for example because of another pooling or a further layer, `Sentence.unheld` says why.

    Raises:
      UserError: one of the files is damaged, or a module's file is missing.
    """
    if not (folder / _MODULES).is_file():
        return None
    modules = [module for module in _modules(folder / _MODULES) if module[0] != "Dropout"]
    kinds = [kind for kind, _ in modules]
    longest = _max_length(model_folder(folder))
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return Sentence(max_length=longest, unheld=f"{folder / _MODULES} lists the modules {', '.join(kinds)}")
    place = folder / modules[1][1] / "config.json"
    modes = _pooling_modes(read_json(place), place)
    normalize = len(modules) == 3
    reason = _beyond_pooling(folder, folder / modules[2][1] if normalize else None)
    if modes == ["cls"]:
        return Sentence("cls", normalize, longest, reason)
    if modes != ["mean"]:
        reason = f"{place} asks for the pooling {' and '.join(modes)}, and only mean or cls can be exported"
    return Sentence("mean", normalize, longest, reason)


def sentence_notes(folder: pathlib.Path, sentence: Sentence | None) -> list[str]:
    """Remarks for the user about settings that were not imported."""
    if sentence is None:
        return []
    notes = [f"no sentence vectors can be exported: {sentence.unheld}"] if sentence.unheld else []
    prompts = _about(folder).get("prompts")
    if isinstance(prompts, dict) and any(prompts.values()):
        notes.append(f"the prompts of {_ABOUT} ({', '.join(prompts)}) are left out; put them before the texts yourself")
    return notes


def _modules(path: pathlib.Path) -> list[tuple[str, str]]:
    """(kind, folder) of each module in order; the kind is the class's name, or the full type of a foreign class."""
    listed = json_files.read(path, "convert")
    try:
        modules = [(str(module["type"]), str(module["path"])) for module in listed]
    except (TypeError, KeyError) as error:
        raise UserError(f"convert: {path}: not a list of modules with `type` and `path`: {error}") from error
    ours = "sentence_transformers."
    named = [(kind.rpartition(".")[2] if kind.startswith(ours) else kind, place) for kind, place in modules]
    return [("Transformer" if kind in _ENCODERS else kind, place) for kind, place in named]


def _pooling_modes(stated: dict[str, Any], path: pathlib.Path) -> list[str]:
    """The modes by their newer names. The default is the mean, as in sentence-transformers."""
    modes: Any = stated.get("pooling_mode", [mode for flag, mode in _FLAGS.items() if stated.get(flag)])
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not all(isinstance(mode, str) for mode in modes):
        raise UserError(f"convert: {path}: pooling_mode is {modes!r}; it must be a name or a list of names")
    return modes or ["mean"]


def _max_length(folder: pathlib.Path) -> int:
    """max_seq_length, else the tokenizer's model_max_length, as in the newer layout; 0 where there is neither."""
    for name, key in ((_SETTINGS, "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        value = _optional(folder / name).get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 1:
            raise UserError(f"convert: {folder / name}: {key} is {value!r}; it must be a number of tokens")
        # Tokenizers without a longest input state 1e30.
        return int(value) if value < 1e9 else 0
    return 0


def _beyond_pooling(folder: pathlib.Path, normalize: pathlib.Path | None) -> str:
    """What else would change the vectors, as a reason for the user; empty where nothing would."""
    prompt = _about(folder).get("default_prompt_name")
    if prompt and (_about(folder).get("prompts") or {}).get(prompt):
        return f"{folder / _ABOUT} puts the prompt {prompt!r} before every text"
    # The tokenizer keeps its own rule, and BERT's and ALBERT's tokenizers lower-case by default.
    inner = model_folder(folder)
    cased = _optional(inner / "tokenizer_config.json").get("do_lower_case") is False
    if cased and _optional(inner / _SETTINGS).get("do_lower_case"):
        return _lowered(inner / _SETTINGS)
    stated = _optional(normalize / "config.json") if normalize else {}
    if any(
        stated.get(f"module_{way}_name", "sentence_embedding") != "sentence_embedding" for way in ("input", "output")
    ):
        return f"{normalize} normalizes something other than the text's vector"
    return ""


def _about(folder: pathlib.Path) -> dict[str, Any]:
    return _optional(folder / _ABOUT)


def _optional(path: pathlib.Path) -> dict[str, Any]:
    """The object of a JSON file; empty where there is no such file."""
    return read_json(path) if path.is_file() else {}
