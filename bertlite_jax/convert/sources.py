"""Reads weights from a run, a folder of `transformers`, or one of our own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import shlex
from collections.abc import Iterator
from typing import Any

from bertlite_jax import reference_models
from bertlite_jax.config import files
from bertlite_jax.config.distillation.settings import OWN, trained_bits
from bertlite_jax.convert import bundled
from bertlite_jax.convert.huggingface import hub
from bertlite_jax.convert.huggingface.folder import config_file, from_hf
from bertlite_jax.convert.huggingface.sentence_transformers import model_folder
from bertlite_jax.convert.weights import quantized
from bertlite_jax.convert.weights.folder import FILE, Weights, load_weights, read_json
from bertlite_jax.convert.weights.reading import reading_in
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.errors import UserError


@contextlib.contextmanager
def naming(job: str) -> Iterator[None]:
    """Begins the messages of this package with the job that the user typed."""
    try:
        yield
    except UserError as error:
        begin, _, said = str(error).partition(": ")
        if begin in ("convert", job):
            raise UserError(f"{job}: {said}") from error
        raise


def folder_of(path: os.PathLike[str] | str, job: str) -> pathlib.Path:
    """The folder that a user names; of a model of the hub its copy in the cache (`hub.local_folder`).

    Of an encoder that comes with the package, its folder there.
    """
    with naming(job):
        return reference_models.packaged(path) or hub.local_folder(path)


def load(path: os.PathLike[str] | str, job: str = "convert") -> Weights:
    """Weights to start from or to export.

    Args:
      path: the work directory of a pretraining run (its newest good checkpoint is read, with the vocabulary padded as
        in its config; `parameters.pad_vocabulary` fits other weights to that) or of a fine-tuning run (its best model),
        a folder of `transformers`, or one that `save_weights` or `quantized.save` wrote; or a model of the hub
        (`hub.local_folder`) that is such a folder; or the name of one that comes with the package.
      job: that the user started; begins messages.

    Raises:
      UserError: the path is none of these, or is damaged.

    Examples:
      After `bertlite quickstart`:

      >>> from bertlite_jax.convert.sources import load
      >>> weights = load("runs/quickstart")
      >>> weights.model.num_layers, weights.model.share
      (2, 'all')
      >>> weights.params["embeddings"]["word"]["embedding"].shape[0] == weights.tokenizer.vocab_size
      True
    """
    folder = folder_of(path, job)
    with naming(job):
        return _load(folder)


def check_there(path: os.PathLike[str] | str, job: str) -> None:
    """Raises UserError, before minutes of other work, where there is nothing to load; gets a model from the hub."""
    place = folder_of(path, job)
    if not place.exists() and not is_tensorflow(place):
        raise UserError(
            f"{job}: {place} does not exist; name a run, a folder of transformers, one that bertlite convert wrote, a "
            f"model of the hub (hf:OWNER/NAME), or {' or '.join(reference_models.NAMES)}"
        )


def _load(folder: pathlib.Path) -> Weights:
    if (folder / "checkpoints").is_dir():
        return _load_run(folder)
    if (folder / "environment.json").is_file() and (folder / "config.json").is_file():
        raise UserError(f"convert: {folder} is a run without a checkpoint yet; start it again to go on")
    if (folder / FILE).is_file():
        return load_weights(folder)
    if (folder / quantized.FILE).is_file():
        container = quantized.load(folder / quantized.FILE)
        tokenizer = load_tokenizer(folder / "tokenizer") if (folder / "tokenizer").is_dir() else None
        reading = reading_in(folder) if container.head else None
        return dataclasses.replace(quantized.to_weights(container, tokenizer), reading=reading)
    if is_tensorflow(folder):
        raise UserError(
            f"convert: {folder} is a checkpoint of TensorFlow; read it with bertlite convert from-tf "
            f"{shlex.quote(str(folder))} OUT and name OUT"
        )
    if config_file(model_folder(folder)).is_file():
        return from_hf(folder)
    if (folder / bundled.ABOUT).is_file():
        raise UserError(
            f"convert: {folder} is a bundle, which answers by itself: python {shlex.quote(str(folder / 'predict.py'))} "
            "--file FILE.jsonl; name the run or folder that it was made of"
        )
    raise UserError(
        f"convert: {folder} is neither a run's work directory (no checkpoints), nor a folder of transformers (no "
        f"config.json), nor one that bertlite convert wrote (no {FILE}, no {quantized.FILE})"
    )


def is_tensorflow(path: pathlib.Path) -> bool:
    """Whether a path is a checkpoint of TensorFlow, by its prefix, one of its files, or a folder with nothing else."""
    if path.is_dir():
        return any(path.glob("*.index")) and not any(path.glob("*.safetensors")) and not any(path.glob("*.bin"))
    named = re.search(r"\.(index|meta|data-\d{5}-of-\d{5})$", path.name) is not None
    return named or path.with_name(f"{path.name}.index").is_file()


def _load_run(run: pathlib.Path) -> Weights:
    from bertlite_jax.train import checkpoint

    if "head" in read_json(run / "config.json"):
        return _load_task_run(run)
    trained = files.read_json(run / "config.json")
    params, _ = checkpoint.restore_params(run / "checkpoints")
    params.pop(OWN, None)
    tokenizer = load_tokenizer(run / "tokenizer")
    task, bits = trained.data.pair_task, trained_bits(trained)
    return Weights(params, trained.model, None, tokenizer, task, _facts(run), trained_bits=bits)


def _load_task_run(run: pathlib.Path) -> Weights:
    """Reads the model that was best on the validation split, which a fine-tuning run stores as a folder of our own."""
    if not (run / "best").is_dir():
        raise UserError(f"convert: {run} has not been evaluated yet, so there is no best model; let the run continue")
    return dataclasses.replace(load_weights(run / "best"), facts=_facts(run), reading=reading_in(run))


def _facts(run: pathlib.Path) -> dict[str, Any]:
    summary = run / "summary.json"
    return read_json(summary) if summary.is_file() else {}
