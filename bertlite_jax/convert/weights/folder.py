"""Weights with everything that an export needs, and our own folder format for them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.numpy

from bertlite_jax.config import files
from bertlite_jax.config.checks import check_head, check_model
from bertlite_jax.config.int8 import Bits
from bertlite_jax.config.model import Head, Model
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.reading import Reading, reading_in, write_reading
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files
from bertlite_jax.host.whole_files import new_folder, sha256_of, write_json

FILE = "params.safetensors"
_FORMAT = "bertlite parameters 1"
_SUMS = "sha256"
SUM_OF_DESCRIPTION = "sha256_of_description"
"""Field with the SHA-256 of the fields that are no sums: a label in another place changes every answer."""

Path = os.PathLike[str] | str


@dataclasses.dataclass(frozen=True)
class Sentence:
    """How a text becomes one vector, as a folder of sentence-transformers states it.

    Attributes:
      pooling: the mean over the real tokens, or the state of the first one.
      normalize: divide the vector by its length (L2).
      max_length: the most tokens that are read, special tokens included; 0 for all positions.
      unheld: why these settings do not give the vectors of the source; empty if they do.
    """

    pooling: Literal["mean", "cls"] = "mean"
    normalize: bool = True
    max_length: int = 0
    unheld: str = ""


@dataclasses.dataclass(frozen=True)
class Weights:
    """A model with all that an export needs.

    Attributes:
      params: nested arrays as in `PretrainingModel`, or `TaskModel` if there is a head. Heads of the pretraining model
        may be missing.
      model: their shape.
      head: of a task model; None for a pretrained one.
      tokenizer: None if the source had none.
      pair_task: what the pair head was trained on.
      facts: figures of the run by their names in `summary.json`, for the model card.
      sentence: how the source makes sentence vectors; None if it does not say, which means `Sentence()`.
      reading: how a task model's examples were read in its training; None if the source does not say.
      trained_bits: of the file of integers that the weights were trained for; 0: they were not.
    """

    params: dict[str, Any]
    model: Model
    head: Head | None = None
    tokenizer: Tokenizer | None = None
    pair_task: str = "none"
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    sentence: Sentence | None = None
    reading: Reading | None = None
    trained_bits: Bits | Literal[0] = 0

    def digest(self) -> str:
        """SHA-256 of shape and parameters, by which a pretrained model is identified that others learn from."""
        return parameters.digest(self.params, json.dumps(dataclasses.asdict(self.model)))


MOST_UNSTATED = 512
"""Tokens that a task model reads where nothing says how many it was trained on and it has more positions."""


def answer_length(weights: Weights) -> int:
    """The most tokens of an example that a task model answers, special tokens included."""
    return min(_trained_length(weights) or MOST_UNSTATED, weights.model.max_positions)


def longest_input(weights: Weights, sentence: bool = False) -> int:
    """The most tokens that an export reads, special tokens included: `model_max_length` of its tokenizer.

    Args:
      weights: of the export.
      sentence: whether it makes sentence vectors.

    Returns:
      For a task model the length that it was trained with, so that other programs cut a text where `predict` does; all
      positions where nothing says that length, and for a pretrained model.
    """
    if sentence:
        return sentence_length(weights)
    return min(_trained_length(weights) or weights.model.max_positions, weights.model.max_positions)


def _trained_length(weights: Weights) -> int:
    return weights.reading.length if weights.head and weights.reading else 0


def sentence_length(weights: Weights) -> int:
    """The most tokens of a text that its vector is computed from, special tokens included."""
    stated = weights.sentence.max_length if weights.sentence else 0
    return min(stated or weights.model.max_positions, weights.model.max_positions)


def save_weights(weights: Weights, out: Path, *, overwrite: bool = False) -> None:
    """Writes `out/config.json`, `out/params.safetensors` (flat names joined by "/") and `out/tokenizer`.

    Beside them, for a task model, how its examples were read (`reading.FILE`).

    config.json has the SHA-256 of every other file and of its own fields.

    Args:
      weights: what to write.
      out: folder; it appears complete or not at all.
      overwrite: replace an earlier result.

    Raises:
      UserError: `out` is in the way or cannot be written.
    """
    flat = {path: np.ascontiguousarray(value) for path, value in parameters.flatten(weights.params).items()}
    stated = {"format": _FORMAT, "model": dataclasses.asdict(weights.model), "pair_task": weights.pair_task}
    if weights.head:
        stated["head"] = dataclasses.asdict(weights.head)
    if weights.sentence:
        stated["sentence"] = dataclasses.asdict(weights.sentence)
    if weights.trained_bits:
        stated["trained_bits"] = weights.trained_bits
    with new_folder(out, overwrite, FILE) as folder:
        safetensors.numpy.save_file(flat, folder / FILE, metadata={"format": _FORMAT})
        if weights.tokenizer:
            shutil.copytree(weights.tokenizer.folder, folder / "tokenizer")
        if weights.head:
            write_reading(weights.reading, folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        stated[_SUMS] = {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}
        write_json(folder / "config.json", stated | {SUM_OF_DESCRIPTION: sum_of_description(stated)})


def load_weights(folder: pathlib.Path) -> Weights:
    """Reads what `save_weights` wrote. Raises UserError where it is damaged."""
    where = folder / "config.json"
    stated = read_json(where)
    if "model" not in stated:
        raise UserError(f"convert: {where} has no `model`, so its format is not {_FORMAT}")
    model = files.from_dict(Model, stated["model"], str(where))
    check_model(model)
    head = files.from_dict(Head, stated["head"], str(where)) if "head" in stated else None
    if head:
        check_head(head, model)
    sentence = files.from_dict(Sentence, stated["sentence"], str(where)) if "sentence" in stated else None
    check_description(stated, str(where))
    _check_sums(folder, stated.get(_SUMS, {}))
    flat = read_safetensors(folder / FILE)
    parameters.check_shapes(flat, model, str(folder), head)
    parameters.check_finite(flat, str(folder / FILE))
    tokenizer = load_tokenizer(folder / "tokenizer") if (folder / "tokenizer").is_dir() else None
    pair_task = stated.get("pair_task", "none")
    reading = reading_in(folder) if head else None
    params, bits = parameters.nest(flat), _trained_bits(stated, str(where))
    return Weights(params, model, head, tokenizer, pair_task, sentence=sentence, reading=reading, trained_bits=bits)


def _trained_bits(stated: dict[str, Any], where: str) -> Any:
    bits = stated.get("trained_bits", 0)
    if bits not in (0, 4, 7, 8):
        raise UserError(f"convert: {where}: trained_bits is {bits!r}; it should be 4, 7 or 8")
    return bits


def sum_of_description(stated: dict[str, Any]) -> str:
    """SHA-256 of all fields but the sums, in whichever order and layout the file has them."""
    fields = {name: value for name, value in stated.items() if name not in (_SUMS, SUM_OF_DESCRIPTION)}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def check_description(stated: dict[str, Any], where: str) -> None:
    """Raises UserError where a field is not as it was written; descriptions of older versions have no sum."""
    if SUM_OF_DESCRIPTION in stated and stated[SUM_OF_DESCRIPTION] != sum_of_description(stated):
        raise UserError(
            f"convert: {where} is damaged: its fields do not have the SHA-256 that it states; copy the folder again "
            f"(or, if you changed a field yourself, remove {SUM_OF_DESCRIPTION})"
        )


def _check_sums(folder: pathlib.Path, sums: Any) -> None:
    """Raises UserError for a file that is not as it was written; folders of older versions have no sums."""
    if not isinstance(sums, dict):
        raise UserError(f"convert: {folder / 'config.json'}: {_SUMS} is {sums!r}; it should be a table of files")
    for name, digest in sums.items():
        path = folder / name
        if not path.exists():
            raise UserError(f"convert: {path} is missing; copy the whole folder")
        check_readable(path)
        if sha256_of(path) != digest:
            raise UserError(
                f"convert: {path} is damaged: its SHA-256 is not the one in config.json; copy the folder again (or, if "
                f"you changed the file yourself, remove {_SUMS} from config.json)"
            )


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UserError where the file is missing or is not a JSON object."""
    if not path.exists():
        raise UserError(f"convert: {path} does not exist; is its folder a model of transformers?")
    return json_files.read_object(path, "convert")


def check_readable(path: pathlib.Path) -> None:
    """Raises UserError unless a file can be opened: safetensors says of most of them that there is no such file."""
    try:
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"convert: {path} does not exist") from error
    except OSError as error:
        raise UserError(f"convert: {path} cannot be read: {error.strerror}") from error


def read_safetensors(path: pathlib.Path) -> parameters.Flat:
    """All tensors of a file. Raises UserError where it is missing, cannot be read or is damaged."""
    check_readable(path)
    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(f"convert: {path} is damaged or no safetensors file: {error}") from error
