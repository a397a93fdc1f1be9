"""How the examples of a task model were read in its training: columns, metric, length; a file beside exported weights.

Readers of such folders ignore a file that they do not know. Paths of the training files are not in it.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

from bertlite_jax.config import files
from bertlite_jax.config.finetune import Examples, Finetuned
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files
from bertlite_jax.host.whole_files import write_json

FILE = "bertlite_reading.json"
_OF_DATA = (
    "task", "metric", "kind", "text_column", "pair_column", "label_column", "id_column", "choice_columns",
    "label_names", "separator", "delimiter", "window_step", "question_length", "answer_length",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files of examples are read, so that those with the columns of the training file need no options.

    Attributes:
      data: settings of the training. Other than task, metric, the reading of files and windows, all are the defaults.
      pairs: whether it had pairs of texts (True) or single texts (False); None: both, or it is unknown.
      length: most tokens in an example, or in a window on a text; 0 if it is unknown.
    """

    data: Examples
    pairs: bool | None = None
    length: int = 0


def reading_of(data: Examples, pairs: bool | None) -> Reading:
    """What a model that was trained with these settings has to say of files of examples."""
    return Reading(Examples(**{name: getattr(data, name) for name in _OF_DATA}), pairs, data.length)


def reading_in(folder: os.PathLike[str] | str) -> Reading | None:
    """The reading of the model in the work directory of a fine-tuning run, or in a folder that was exported from one.

    None for other folders.

    Raises:
      UserError: a file that is to state it is damaged.
    """
    folder = pathlib.Path(folder)
    if (folder / "best").is_dir():
        return reading_of(files.read_json(folder / "config.json", Finetuned).data, _pairs_of_run(folder))
    path = folder / FILE
    if not path.is_file():
        return None
    reading = files.from_dict(Reading, json_files.read_object(path, "convert"), str(path))
    data = reading.data
    if reading.length < 0 or min(data.window_step, data.question_length, data.answer_length) < 1:
        raise UserError(f"convert: {path} is damaged: a length is not positive; copy the folder again")
    return reading


def write_reading(reading: Reading | None, folder: pathlib.Path) -> None:
    """Writes `FILE` into a folder, if there is something to state."""
    if reading is not None:
        stated = {name: getattr(reading.data, name) for name in _OF_DATA}
        write_json(folder / FILE, {"data": stated, "pairs": reading.pairs, "length": reading.length})


def pairs_of(pairs: int | None, examples: int) -> bool | None:
    """`Reading.pairs` of so many pairs among the training examples; `pairs` is None where they are not counted."""
    return None if pairs is None or 0 < pairs < examples else pairs > 0


def _pairs_of_run(run: pathlib.Path) -> bool | None:
    path = run / "summary.json"
    summary = json_files.read_object(path, "convert") if path.is_file() else {}
    return pairs_of(summary.get("train_pairs"), summary.get("train_examples", 0))
