"""The examples of a fine-tuning run: opened, counted, and scored by the task's metric."""

from __future__ import annotations

import hashlib
import itertools
import pathlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

import jax
import numpy as np

from bertlite_jax.config.finetune import Examples, Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.data import tasks
from bertlite_jax.data.examples import batches, features, span_features
from bertlite_jax.data.scores import task_metrics
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError, fields_close_to
from bertlite_jax.jobs.answering import span_answers
from bertlite_jax.jobs.answering.outputs import make_forward, outputs_of, predictions
from bertlite_jax.model.task_heads import TaskModel


class Split(NamedTuple):
    """A split of a task."""

    name: str
    encoded: features.Encoded
    examples: list[Example]
    """Only of splits that are scored; a training split is read once and not kept."""
    questions: span_features.Questions | None = None
    """Of tasks that ask for spans: passages and windows."""
    noted: Mapping[str, int] = {}
    """What was left out or odd while reading, by the names of `tasks.read`."""


Evaluate = Callable[..., dict[str, Any]]
"""Parameters and a split in, the task's figures out. Of answers to questions, with a folder as third argument: they
are written there, as the official scorers read them, and tables of what was answered how well come out."""


def task_of(data: Examples) -> tasks.Task:
    """The task of the table, or of somebody's own file.

    Raises:
      UserError: a name that is in no table, nothing to read, or a head that this job does not train.
    """
    if not data.folder:
        raise UserError("finetune: --data is missing; name the folder with the task's files, or a file of your own")
    if not data.task:
        return _own_task(data)
    return task_named(data.task)


def task_named(name: str) -> tasks.Task:
    """Raises UserError for a name that is in no table, or a head that this job does not train."""
    if name not in tasks.TASKS:
        raise UserError(f"finetune: --task {name} is no task; {fields_close_to(name, list(tasks.TASKS))}")
    task = tasks.TASKS[name]
    if "train" not in task.splits:
        raise UserError(f"finetune: {name} has no training split; train a task of the same labels and predict this one")
    return task


def _own_task(data: Examples) -> tasks.Task:
    if not pathlib.Path(data.folder).exists():
        raise UserError(
            f"finetune: {data.folder} does not exist; name a folder with a task's files, or a file of yours"
        )
    if not pathlib.Path(data.folder).is_file():
        known = ", ".join(tasks.TASKS)
        raise UserError(f"finetune: --task is missing, and --data {data.folder} is no file of your own; tasks: {known}")
    return tasks.task_of_file(
        data.folder,
        data.validation_file,
        kind=data.kind,
        text=data.text_column,
        pair=data.pair_column,
        label=data.label_column,
    )


def open_splits(task: tasks.Task, data: Examples, head: Head, tokenizer: Tokenizer) -> tuple[Split, Split]:
    """The training split and the one that decides which model is best."""
    noted: Counter[str] = Counter()
    stream = itertools.islice(examples_of(task, data, "train", noted), data.train_examples or None)
    if head.kind == "span":
        encoded = span_features.encode(stream, tokenizer, data, training=True, where=f"{task.name} train").encoded
    else:
        encoded = features.encode(stream, tokenizer, head, data.length, f"{task.name} train")
    decisive = next((name for name in task.splits if name.startswith("validation")), "validation")
    return Split("train", encoded, [], noted=noted), _held_out(task, decisive, data, head, tokenizer)


def examples_of(
    task: tasks.Task, data: Examples, split: str, counts: MutableMapping[str, int] | None = None
) -> Iterator[Example]:
    """A stream. A file of your own without a validation file beside it gives both splits (`is_held_out`); what is odd
    in it counts for the training split. `counts` is added to as by `tasks.read`."""
    if not data.task and "validation" not in task.splits:
        wanted = split != "train"
        stream = tasks.read(task, data.folder, "train", None if wanted else counts)
        return (example for example in stream if is_held_out(example, data.validation_fraction) == wanted)
    stream = tasks.read(task, data.folder, split, counts)
    # Nine of ten of its rows are wrong entities.
    return tasks.balance(stream, seed=0) if (task.name, split) == ("record", "train") else stream


def read_to_predict(task: tasks.Task, folder: str, split: str) -> list[Example]:
    """All of a split; what is left out or odd is said on standard error."""
    noted: Counter[str] = Counter()
    examples = list(tasks.read(task, folder, split, noted))
    if said := in_words(noted):
        print(f"predict: {split}: {said}", file=sys.stderr)
    return examples


def is_held_out(example: Example, fraction: float) -> bool:
    """Whether an example belongs to the part that is held out: by a hash of its texts alone.

    So the seed and the order of the file do not matter, and a text that comes twice is never on both sides.
    """
    texts = (example.text, example.pair or "", *example.choices, *example.words)
    digest = hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) < fraction * 2**64


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
    noted: Counter[str] = Counter()
    examples = list(itertools.islice(examples_of(task, data, name, noted), data.validation_examples or None))
    where = f"{task.name} {name}"
    if head.kind == "span":
        asked = span_features.encode(examples, tokenizer, data, training=False, where=where)
        return Split(name, asked.encoded, examples, asked, noted)
    return Split(name, features.encode(examples, tokenizer, head, data.length, where), examples, noted=noted)


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
        counts |= {f"{split.name}_{name}": number for name, number in split.noted.items() if name not in _ALWAYS}
        if said := in_words(split.noted):
            print(f"finetune: {split.name}: {said}")
        for name, text in _WORTH_A_LINE.items():
            if number := split.encoded.counts.get(name):
                print(f"finetune: {split.name}: {text.format(number=number)}")
    if head.kind in ("choose", "span") or head.problem != "single_label":
        return counts
    seen, there = (np.unique(split.encoded.labels[split.encoded.labels >= 0]) for split in (train, valid))
    unseen = [head.labels[int(label)] for label in np.setdiff1d(there, seen)]
    if unseen:
        print(f"finetune: {valid.name} has labels that no training example has: {', '.join(unseen)}")
    shares = np.bincount(valid.encoded.labels[valid.encoded.labels >= 0])
    majority = {"majority_share": float(shares.max() / shares.sum())} if shares.size else {}
    return counts | {"labels_never_trained": unseen} | majority


def in_words(noted: Mapping[str, int]) -> str:
    """What `tasks.read` left out or found odd, for a line of output; empty where there was nothing."""
    said = [f"{number:,} {name.replace('_', ' ')}" for name, number in noted.items() if number and name not in _ALWAYS]
    return f"{', '.join(said)} (docs/tasks.md says what is done with them)" if said else ""


_ALWAYS = ("examples", "unlabelled", "empty_text")
"""Counts of `tasks.read` that `features.encode` has too."""

_WORTH_A_LINE = {
    "truncated": "{number:,} examples were longer than data.length and lost their end",
    "empty_texts": "{number:,} texts are empty; they are examples like the others",
    "nothing_to_learn": "{number:,} questions have an answer that is not in their text; nothing is learnt from them",
    "words_cut_off": "{number:,} words stand behind data.length; they are not learnt from, and answered with O",
}


def open_evaluation(
    task: tasks.Task, config: Finetuned, model: TaskModel, mesh: jax.sharding.Mesh, length: int, pad_id: int
) -> Evaluate:
    """Returns the function that scores parameters on a split by the task's own metrics."""
    forward, head = make_forward(model, mesh), config.head

    def evaluate(params: Any, split: Split, folder: pathlib.Path | None = None) -> dict[str, Any]:
        layouts = batches.evaluation_batches(split.encoded, length, config.data.pack, mesh.size, head, pad_id)
        if split.questions:
            found = span_answers.outputs_of(forward, params, split.questions, layouts, mesh)
            answers = span_answers.predictions_of(split.questions, found, config.data.answer_length)
            texts = span_answers.texts_of(answers, head)
            if folder:
                span_answers.write_official(folder / "predictions.json", texts)
                return span_answers.breakdown(split.examples, texts)
            return span_answers.figures(task, split.examples, answers, texts, head)
        outputs = outputs_of(forward, params, split.encoded, layouts, head, mesh)
        return task_metrics.score(task, split.examples, predictions(head, outputs, split.examples))

    return evaluate
