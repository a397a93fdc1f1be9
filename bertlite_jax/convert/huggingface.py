"""Weights to and from the folders that `transformers` reads. Numpy only: neither torch nor transformers is imported."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import safetensors.numpy

from bertlite_jax import config as settings
from bertlite_jax.config import Model, UserError
from bertlite_jax.convert import hf_config, hf_tokenizer, model_card, names, parameters
from bertlite_jax.convert.folders import new_folder, write_json
from bertlite_jax.convert.names import Family
from bertlite_jax.convert.weights import Weights, read_json, read_safetensors

WEIGHTS = "model.safetensors"
_DEFAULT_IDS = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}

Path = os.PathLike[str] | str


# --- Out -------------------------------------------------------------------------------------------------------------


def to_hf(weights: Weights, out: Path, *, family: Family | None = None, overwrite: bool = False) -> Family:
    """Writes the folder `out`: config.json, model.safetensors, tokenizer files and a model card.

    The class that `architectures` in config.json names loads it, with `from_pretrained(out)`, and so does
    AutoTokenizer. The padded rows of the vocabulary are left out, and so are tied repetitions of tensors.

    Args:
      weights: what to write. Without a tokenizer none is written.
      out: folder; must not exist or be empty unless `overwrite`. It appears complete or not at all.
      family: whose classes; None chooses (`hf_config.choose_family`).
      overwrite: replace an earlier export.

    Returns:
      The family.

    Raises:
      UserError: no class holds the model, the parameters do not fit it, another vocabulary, or `out` is in the way.
    """
    model, tokenizer = weights.model, weights.tokenizer
    if family is None:
        family = hf_config.choose_family(model, tokenizer.kind if tokenizer else None)
    hf_config.check_family(model, family)
    if tokenizer is not None and tokenizer.vocab_size != model.vocab_size:
        raise UserError(
            f"convert: to-hf: the tokenizer has {tokenizer.vocab_size} pieces and model.vocab_size is "
            f"{model.vocab_size}; is it the tokenizer of this run?"
        )
    tensors = names.to_theirs(parameters.flatten(weights.params), family, model)
    special_ids = hf_tokenizer.special_ids(tokenizer) if tokenizer else _DEFAULT_IDS
    with new_folder(out, overwrite, WEIGHTS) as folder:
        safetensors.numpy.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        write_json(folder / "config.json", hf_config.to_config(model, family, special_ids, weights.pair_task))
        if tokenizer is not None:
            hf_tokenizer.write(tokenizer, folder, model.max_positions, model.token_types)
        card = model_card.render(model, family, tokenizer, weights.pair_task, weights.facts)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return family


# --- In --------------------------------------------------------------------------------------------------------------


def from_hf(folder: Path) -> Weights:
    """Reads ALBERT, BERT or DistilBERT weights: pretraining, masked-LM and base models.

    Heads that the checkpoint lacks are absent from the result: `model.pooler` is False and `model.pair_classes` 0
    where they are, and `params` has no `mlm`. `parameters.missing_parts(params, wanted)` names them.

    Args:
      folder: holds config.json and model.safetensors, or an index and the shards that it names.

    Returns:
      f32 arrays and their shape, without a tokenizer. Settings that no config.json states have our defaults.

    Raises:
      UserError: an unreadable file, an unsupported model, or tensors that do not fit the config (all are listed).
    """
    folder = pathlib.Path(folder)
    where = str(folder)
    family, model = hf_config.from_config(read_json(folder / "config.json"), str(folder / "config.json"))
    tensors = names.canonical_names(_read_tensors(folder), family, where)
    model = _with_heads(model, family, tensors)
    settings.check_model(model)
    flat = names.to_ours(tensors, family, model, where)
    flat, model = names.reduce(flat, family, model)
    return Weights(parameters.nest(flat), model)


def _with_heads(model: Model, family: Family, tensors: parameters.Flat) -> Model:
    """The pooler and pair head that the tensors have."""
    modules = {ours: theirs for ours, theirs, _ in names.TABLES[family]}
    pooler = "pooler" in modules and f"{modules['pooler']}.weight" in tensors
    pair = tensors.get(f"{modules['pair']}.weight") if "pair" in modules else None
    return dataclasses.replace(model, pooler=pooler, pair_classes=0 if pair is None else len(pair))


def _read_tensors(folder: pathlib.Path) -> parameters.Flat:
    index = folder / f"{WEIGHTS}.index.json"
    if (folder / WEIGHTS).is_file():
        files = [WEIGHTS]
    elif index.is_file():
        files = sorted(set(read_json(index)["weight_map"].values()))
    else:
        raise UserError(f"convert: {folder} has neither {WEIGHTS} nor {index.name}; save the model with safetensors")
    tensors: parameters.Flat = {}
    for name in files:
        tensors |= read_safetensors(folder / name)
    return tensors
