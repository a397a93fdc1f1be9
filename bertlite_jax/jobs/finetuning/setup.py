"""What is settled before a fine-tuning run writes anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from bertlite_jax.data import tasks
from bertlite_jax.data.examples import batches, features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.jobs.answering import task_splits
from bertlite_jax.jobs.finetuning.start import Start
from bertlite_jax.model.task_heads import TaskModel


class Extra(NamedTuple):
    """What few-label settings bring with them, read before the first step."""

    domain: np.ndarray | None = None
    """[M] int32, the domain of each training example."""
    texts: Sequence[Example] = ()
    """Without labels."""
    unlabelled: features.Encoded | None = None
    """The same, as windows: each text, and beside it its augmentation where one is wanted."""
    shape: batches.Shape | None = None
    """Of their batches."""


class Setup(NamedTuple):
    """All that is settled before anything is written."""

    start: Start
    task: tasks.Task
    model: TaskModel
    mesh: jax.sharding.Mesh
    train: task_splits.Split
    valid: task_splits.Split
    steps: int
    per_epoch: int
    """Steps."""
    shape: batches.Shape
    notes: dict[str, Any]
    """For `summary.json`."""
    extra: Extra = Extra()
    """What `config.learn` brings with it."""
