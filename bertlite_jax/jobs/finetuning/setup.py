"""What is determined before a fine-tuning run writes anything."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from bertlite_jax.config.model import Head, Split
from bertlite_jax.data import tasks
from bertlite_jax.data.examples import batches, features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.jobs.answering import task_splits
from bertlite_jax.jobs.finetuning.start import Start
from bertlite_jax.model.task_heads import TaskModel


class Extra(NamedTuple):
    """Additional data of `learn`, read before the first step."""

    domain: np.ndarray | None = None
    """[M] int32: the domain of each training example."""
    texts: Sequence[Example] = ()
    """Unlabelled texts, and behind them the copies of training texts."""
    unlabelled: features.Encoded | None = None
    """`texts` as windows; each text is followed by its augmentation if `learn` augments. None where there are no texts,
    and until a masked language model has proposed words for them, which are stored in the work directory."""
    shape: batches.Shape | None = None
    """Shape of the batches of unlabelled texts."""
    digests: Mapping[str, str] = MappingProxyType({})
    """Folders of the teacher and of the masked language model, and the SHA-256 of what is read there."""
    answers: pathlib.Path | None = None
    """Folder for what both say, where several runs share it; None: that of the run."""


class Setup(NamedTuple):
    """A fine-tuning run before its first step."""

    start: Start
    task: tasks.Task
    model: TaskModel
    mesh: jax.sharding.Mesh
    train: task_splits.Split
    valid: task_splits.Split
    steps: int
    """In the whole run."""
    per_epoch: int
    """Steps in an epoch."""
    shape: batches.Shape
    """Of every batch."""
    notes: dict[str, Any]
    """Counts for `summary.json`."""
    extra: Extra = Extra()
    splits: tuple[Split, ...] = Head().splits
    """Of a tagger: how the words of its training data were made, see `Head.splits`."""
