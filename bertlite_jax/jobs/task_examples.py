"""The examples of a fine-tuning run: opened, counted, and scored by the task's metric."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from bertlite_jax.config import Examples, Finetuned, Head, UserError, fields_close_to
from bertlite_jax.data import features, task_batches, tasks
from bertlite_jax.data import metrics as task_metrics
from bertlite_jax.data.example import Example
from bertlite_jax.data.tokenizer import Tokenizer
from bertlite_jax.jobs import task_model
from bertlite_jax.model.task_heads import TaskModel
from bertlite_jax.train import sharding


class Split(NamedTuple):
    """A split of a task."""

    name: str
    encoded: features.Encoded
    examples: list[Example]
    """Only of splits that are scored; a training split is read once and not kept."""


Evaluate = Callable[[Any, Split], dict[str, float]]
"""Parameters and a split in, the task's figures out."""


def make_mesh(devices: int) -> jax.sharding.Mesh:
    """Raises UserError where there are fewer devices than wanted."""
    try:
        return sharding.make_mesh(devices)
    except ValueError as error:
        raise UserError(f"config: run.devices: {error}; on a CPU set JAX_NUM_CPU_DEVICES") from error


def task_named(name: str) -> tasks.Task:
    """Raises UserError for a name that is in no table, or a head that this job does not train."""
    if name not in tasks.TASKS:
        known = fields_close_to(name, list(tasks.TASKS)) if name else f"known: {', '.join(tasks.TASKS)}"
        raise UserError(f"finetune: --task {name or 'is missing'} is no task; {known}")
    task = tasks.TASKS[name]
    if task.head.kind == "span":
        raise UserError(f"finetune: {name} asks for spans, which this job does not train yet")
    if "train" not in task.splits:
        raise UserError(f"finetune: {name} has no training split; train a task of the same labels and predict this one")
    return task


def open_splits(task: tasks.Task, data: Examples, head: Head, tokenizer: Tokenizer) -> tuple[Split, Split]:
    """The training split and the one that decides which model is best."""
    if not data.folder:
        raise UserError("finetune: --data is missing; name the folder with the task's files")
    stream = itertools.islice(tasks.read(task, data.folder, "train"), data.train_examples or None)
    encoded = features.encode(stream, tokenizer, head, data.length, f"{task.name} train")
    decisive = next(name for name in task.splits if name.startswith("validation"))
    return Split("train", encoded, []), _held_out(task, decisive, data, head, tokenizer)


def other_validation_splits(task: tasks.Task, data: Examples, head: Head, tokenizer: Tokenizer) -> dict[str, Split]:
    """Further splits with labels, such as MNLI's mismatched one; those whose files are missing are named and left."""
    found = {}
    for name in [name for name in task.splits if name.startswith("validation")][1:]:
        try:
            found[name] = _held_out(task, name, data, head, tokenizer)
        except UserError as error:
            print(f"finetune: {name} is not scored: {error}")
    return found


def _held_out(task: tasks.Task, name: str, data: Examples, head: Head, tokenizer: Tokenizer) -> Split:
    examples = list(itertools.islice(tasks.read(task, data.folder, name), data.validation_examples or None))
    return Split(name, features.encode(examples, tokenizer, head, data.length, f"{task.name} {name}"), examples)


def check_training(encoded: features.Encoded, head: Head) -> None:
    """Raises UserError where nothing can be learnt."""
    if encoded.counts["unlabelled"]:
        raise UserError(f"finetune: {encoded.counts['unlabelled']} training examples have no label; leave them out")
    if head.kind == "classify" and head.problem == "single_label" and len(np.unique(encoded.labels)) < 2:
        only = head.labels[int(encoded.labels[0])]
        raise UserError(f"finetune: all training examples have the label {only}; there is nothing to tell apart")


def describe(train: Split, valid: Split, head: Head) -> dict[str, Any]:
    """Counts for `summary.json`; says in a line each what a user should know of the data."""
    counts = {f"{split.name}_{name}": n for split in (train, valid) for name, n in split.encoded.counts.items()}
    for split in (train, valid):
        for name, text in _WORTH_A_LINE.items():
            if number := split.encoded.counts.get(name):
                print(f"finetune: {split.name}: {text.format(number=number)}")
    if head.kind == "choose" or head.problem != "single_label":
        return counts
    seen, there = (np.unique(split.encoded.labels[split.encoded.labels >= 0]) for split in (train, valid))
    unseen = [head.labels[int(label)] for label in np.setdiff1d(there, seen)]
    if unseen:
        print(f"finetune: {valid.name} has labels that no training example has: {', '.join(unseen)}")
    shares = np.bincount(valid.encoded.labels[valid.encoded.labels >= 0])
    majority = {"majority_share": float(shares.max() / shares.sum())} if shares.size else {}
    return counts | {"labels_never_trained": unseen} | majority


_WORTH_A_LINE = {
    "truncated": "{number:,} examples were longer than data.length and lost their end",
    "empty_texts": "{number:,} texts are empty; they are examples like the others",
    "words_cut_off": "{number:,} words stand behind data.length; they are not learnt from, and answered with O",
}


def open_evaluation(
    task: tasks.Task, config: Finetuned, model: TaskModel, mesh: jax.sharding.Mesh, length: int, pad_id: int
) -> Evaluate:
    """Returns the function that scores parameters on a split by the task's own metrics."""
    forward, head = task_model.make_forward(model, mesh), config.head

    def evaluate(params: Any, split: Split) -> dict[str, float]:
        layouts = task_batches.evaluation_batches(split.encoded, length, config.data.pack, mesh.size, head, pad_id)
        outputs = task_model.outputs_of(forward, params, split.encoded, layouts, head, mesh)
        return task_metrics.score(task, split.examples, task_model.predictions(head, outputs, split.examples))

    return evaluate
