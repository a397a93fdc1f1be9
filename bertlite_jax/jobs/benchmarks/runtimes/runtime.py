"""What a runtime is, and what it answers."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.jobs.benchmarks.runtimes.process import Batch, Load

Task = Literal["classify", "choose", "tag", "span", "fill-mask", "states"]
"""What is answered: a head's outputs, the masked-LM logits of a pretrained model, or the last states of an encoder."""

CHOICES = 2
"""Number of texts that a head of the kind `choose` chooses between in a benchmark."""

Prepare = Callable[[Weights, pathlib.Path, list[Batch]], tuple[pathlib.Path, Load]]
"""(weights, folder, calibration batches) -> the file that is stored on disk to deploy the model, and how to load it. A
file that is in the folder already is not written again."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A library and an arithmetic that a model can answer in.

    Attributes:
      name: as `--only` takes it.
      about: a few words for the table.
      packages: packages that it needs besides our own.
      prepare: writes its file, see `Prepare`.
    """

    name: str
    about: str
    packages: tuple[str, ...]
    prepare: Prepare


def task_of(source: Weights) -> Task:
    """What a model answers."""
    if source.head:
        return source.head.kind
    return "fill-mask" if "mlm" in source.params else "states"


def answer_of(task: Task, outputs: Mapping[str, Any]) -> np.ndarray:
    """The array that is compared, out of a runtime's outputs by name: [B, C], for spans [B, 2, L], else [B, L, C]."""
    if task == "span":
        return np.stack([outputs["start_logits"], outputs["end_logits"]], axis=1)
    return outputs["last_hidden_state" if task == "states" else "logits"]
