"""Weights to and from the folders that `transformers` reads. Numpy only: neither torch nor transformers is imported."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from bertlite_jax import config as settings
from bertlite_jax import config_files
from bertlite_jax.config import Model, UserError
from bertlite_jax.convert import hf_config, hf_tokenizer, model_card, names, parameters
from bertlite_jax.convert.folders import new_folder, write_json
from bertlite_jax.convert.names import Family
from bertlite_jax.data import tokenizer as tokenizers

WEIGHTS = "model.safetensors"
OUR_WEIGHTS = "params.safetensors"
_OUR_FORMAT = "bertlite parameters 1"
_DEFAULT_IDS = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}

Path = os.PathLike[str] | str


# --- Out -------------------------------------------------------------------------------------------------------------


def to_hf(
    params: dict[str, Any],
    model: Model,
    tokenizer: tokenizers.Tokenizer | None,
    out: Path,
    *,
    pair_task: str,
    family: Family | None = None,
    overwrite: bool = False,
    facts: dict[str, Any] | None = None,
) -> Family:
    """Writes the folder `out`: config.json, model.safetensors, tokenizer files and a model card.

    The class that `architectures` in config.json names loads it, with `from_pretrained(out)`, and so does
    AutoTokenizer. The padded rows of the vocabulary are left out, and so are tied repetitions of tensors.

    Args:
      params: nested parameters of the pretraining model, arrays.
      model: their shape.
      tokenizer: written in the form that AutoTokenizer reads; None writes no tokenizer.
      out: folder; must not exist or be empty unless `overwrite`. It appears complete or not at all.
      pair_task: the task that the pair head was trained on.
      family: whose classes; None chooses (`hf_config.choose_family`).
      overwrite: replace an earlier export.
      facts: figures of the run for the model card, such as `summary.json` holds.

    Returns:
      The family.

    Raises:
      UserError: no class holds the model, the parameters do not fit it, another vocabulary, or `out` is in the way.
    """
    if family is None:
        family = hf_config.choose_family(model, tokenizer.kind if tokenizer else None)
    hf_config.check_family(model, family)
    if tokenizer is not None and tokenizer.vocab_size != model.vocab_size:
        raise UserError(
            f"convert: to-hf: the tokenizer has {tokenizer.vocab_size} pieces and model.vocab_size is "
            f"{model.vocab_size}; is it the tokenizer of this run?"
        )
    tensors = names.to_theirs(parameters.flatten(params), family, model)
    special_ids = hf_tokenizer.special_ids(tokenizer) if tokenizer else _DEFAULT_IDS
    with new_folder(out, overwrite, WEIGHTS) as folder:
        safetensors.numpy.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        write_json(folder / "config.json", hf_config.to_config(model, family, special_ids, pair_task))
        if tokenizer is not None:
            hf_tokenizer.write(tokenizer, folder, model.max_positions, model.token_types)
        card = model_card.render(model, family, tokenizer, pair_task, facts or {})
        (folder / "README.md").write_text(card, encoding="utf-8")
    return family


def run_to_hf(run: Path, out: Path, *, family: Family | None = None, overwrite: bool = False) -> Family:
    """`to_hf` for the newest checkpoint in the work directory of a pretraining run."""
    run = pathlib.Path(run)
    trained = config_files.read_json(run / "config.json")
    params, model = load_weights(run)
    summary = run / "summary.json"
    facts = json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else {}
    tokenizer = tokenizers.load(os.fspath(run / "tokenizer"))
    return to_hf(
        params,
        model,
        tokenizer,
        out,
        pair_task=trained.data.pair_task,
        family=family,
        overwrite=overwrite,
        facts=facts,
    )


# --- In --------------------------------------------------------------------------------------------------------------


def from_hf(folder: Path) -> tuple[dict[str, Any], Model]:
    """Reads ALBERT, BERT or DistilBERT weights: pretraining, masked-LM and base models.

    Heads that the checkpoint lacks are absent from the result: `model.pooler` is False and `model.pair_classes` 0
    where they are, and `params` has no `mlm`. `parameters.missing_parts(params, wanted)` names them.

    Args:
      folder: holds config.json and model.safetensors, or an index and the shards that it names.

    Returns:
      Nested parameters, f32 arrays, and the shape. Settings that no config.json states have our defaults.

    Raises:
      UserError: an unreadable file, an unsupported model, or tensors that do not fit the config (all are listed).
    """
    folder = pathlib.Path(folder)
    where = str(folder)
    family, model = hf_config.from_config(_read_json(folder / "config.json"), str(folder / "config.json"))
    tensors = names.canonical_names(_read_tensors(folder), family, where)
    model = _with_heads(model, family, tensors)
    settings.check_model(model)
    flat = names.to_ours(tensors, family, model, where)
    flat, model = names.reduce(flat, family, model)
    return parameters.nest(flat), model


def _with_heads(model: Model, family: Family, tensors: parameters.Flat) -> Model:
    """The pooler and pair head that the tensors have."""
    modules = {ours: theirs for ours, theirs, _ in names.TABLES[family]}
    pooler = "pooler" in modules and f"{modules['pooler']}.weight" in tensors
    pair = tensors.get(f"{modules['pair']}.weight") if "pair" in modules else None
    return dataclasses.replace(model, pooler=pooler, pair_classes=0 if pair is None else len(pair))


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"convert: {path} does not exist; is its folder a model of transformers?") from error
    except json.JSONDecodeError as error:
        raise UserError(f"convert: {path}:{error.lineno}: not JSON: {error.msg}") from error


def _read_tensors(folder: pathlib.Path) -> parameters.Flat:
    index = folder / f"{WEIGHTS}.index.json"
    if (folder / WEIGHTS).is_file():
        files = [WEIGHTS]
    elif index.is_file():
        files = sorted(set(_read_json(index)["weight_map"].values()))
    else:
        raise UserError(f"convert: {folder} has neither {WEIGHTS} nor {index.name}; save the model with safetensors")
    tensors: parameters.Flat = {}
    for name in files:
        tensors |= read_safetensors(folder / name)
    return tensors


def read_safetensors(path: pathlib.Path) -> parameters.Flat:
    """All tensors of a file. Raises UserError where it is missing or damaged."""
    try:
        return safetensors.numpy.load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"convert: {path} does not exist") from error
    except safetensors.SafetensorError as error:
        raise UserError(f"convert: {path} is damaged or no safetensors file: {error}") from error


# --- Our own folder of weights ---------------------------------------------------------------------------------------


def save_params(params: dict[str, Any], model: Model, out: Path, *, overwrite: bool = False) -> None:
    """Writes `out/config.json` and `out/params.safetensors`, flat names joined by "/"; `load_weights` reads it."""
    flat = {path: np.ascontiguousarray(value) for path, value in parameters.flatten(params).items()}
    with new_folder(out, overwrite, OUR_WEIGHTS) as folder:
        safetensors.numpy.save_file(flat, folder / OUR_WEIGHTS, metadata={"format": _OUR_FORMAT})
        write_json(folder / "config.json", {"format": _OUR_FORMAT, "model": dataclasses.asdict(model)})


def load_weights(path: Path) -> tuple[dict[str, Any], Model]:
    """Weights to start from: a run's work directory, a folder of `transformers`, or one that `save_params` wrote.

    Returns:
      Nested parameters and their shape. Of a run, the newest good checkpoint, with the vocabulary padded as the run's
      config says; `parameters.pad_vocabulary` fits other weights to it.

    Raises:
      UserError: none of the three, or damaged.
    """
    folder = pathlib.Path(path)
    if (folder / "checkpoints").is_dir():
        from bertlite_jax.train import checkpoint

        model = config_files.read_json(folder / "config.json").model
        params, _ = checkpoint.restore_params(folder / "checkpoints")
        return params, model
    if (folder / OUR_WEIGHTS).is_file():
        stated = _read_json(folder / "config.json")
        model = config_files.from_dict(Model, stated["model"], str(folder / "config.json"))
        flat = read_safetensors(folder / OUR_WEIGHTS)
        parameters.check_shapes(flat, model, str(folder))
        return parameters.nest(flat), model
    if (folder / "config.json").is_file():
        return from_hf(folder)
    raise UserError(
        f"convert: {folder} is neither a run's work directory (no checkpoints), nor a folder of transformers (no "
        f"config.json), nor one of convert.py from-hf (no {OUR_WEIGHTS})"
    )
