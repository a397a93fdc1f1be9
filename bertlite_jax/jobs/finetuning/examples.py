"""Reads the examples to train and evaluate on, and describes them."""

from __future__ import annotations

import itertools
import pathlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from bertlite_jax.config.finetune import Examples, Finetuned
from bertlite_jax.config.model import Head
from bertlite_jax.data import tasks
from bertlite_jax.data.examples import batches, features, span_features
from bertlite_jax.data.scores import task_metrics
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import labels
from bertlite_jax.data.tasks.own.reader import unknown_in_words, within
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import inputs, span_answers
from bertlite_jax.jobs.answering.outputs import make_forward, outputs_of, predictions
from bertlite_jax.jobs.answering.task_splits import (
    COUNTED_BY_ENCODE,
    Evaluate,
    Split,
    examples_of,
    in_words,
    options_of_more,
)
from bertlite_jax.model.task_heads import TaskModel

_NOTES = {
    "truncated": "{number:,} texts were longer than {limit} and lost their end",
    "empty_texts": "{number:,} texts are empty; they are used like all others",
    "nothing_to_learn": "{number:,} questions have an answer that is not in their text; they are not trained on",
    "divided_answers": "{number:,} questions have an answer that no window shows whole; lower data.window_step",
    "words_cut_off": "{number:,} words lie behind data.length; they are not trained on, and answered with O",
}
"""Counts of `features.encode` that are worth a line."""


def open_splits(task: tasks.Task, data: Examples, head: Head, tokenizer: Tokenizer) -> tuple[Split, Split]:
    """The training split, and the validation split that decides which model is best."""
    counts: Counter[str] = Counter()
    stream = training_examples(task, data, head, counts)
    if head.kind == "span":
        encoded = span_features.encode(stream, tokenizer, data, training=True, where=f"{task.name} train").encoded
    else:
        encoded = features.encode(stream, tokenizer, head, data.length, f"{task.name} train")
    decisive = next((name for name in task.splits if name.startswith("validation")), "validation")
    return Split("train", encoded, [], reading_counts=counts), _validation_split(task, decisive, data, head, tokenizer)


def training_examples(
    task: tasks.Task, data: Examples, head: Head, counts: Counter[str] | None = None
) -> Iterator[Example]:
    """The examples of the training split, and behind them those of `data.added_file`.

    Args:
      task: the task.
      data: where its files are.
      head: of the model; its labels are those that an added example may have.
      counts: as of `task_splits.examples_of`.

    Raises:
      UserError: a file cannot be read, or an added example has a label that the task lacks.
    """
    yield from itertools.islice(examples_of(task, data, "train", counts), data.train_examples or None)
    if not data.added_file:
        return
    if head.kind == "span":
        raise UserError("config: data.added_file is not for questions about a text; leave it out")
    notes = inputs.Notes()
    for example in inputs.read(data.added_file, head, options_of_more(data), notes, "finetune"):
        if notes.unknown:
            raise UserError(
                f"finetune: {data.added_file}: example {example.id} has the label "
                f"{labels.shown(next(iter(notes.unknown)))}; those of the task are: "
                f"{', '.join(map(labels.shown, head.labels[:12]))}"
            )
        yield example


def other_validation_splits(task: tasks.Task, data: Examples, head: Head, tokenizer: Tokenizer) -> dict[str, Split]:
    """Further validation splits, such as MNLI's mismatched one. Prints a line for those whose files are missing."""
    splits = {}
    for name in [name for name in task.splits if name.startswith("validation")][1:]:
        try:
            splits[name] = _validation_split(task, name, data, head, tokenizer)
        except UserError as error:
            print(f"finetune: {name} is not scored: {error}")
    return splits


def _validation_split(task: tasks.Task, name: str, data: Examples, head: Head, tokenizer: Tokenizer) -> Split:
    counts: Counter[str] = Counter()
    examples = list(itertools.islice(examples_of(task, data, name, counts), data.validation_examples or None))
    where = f"{task.name} {name}"
    if head.kind == "span":
        questions = span_features.encode(examples, tokenizer, data, training=False, where=where)
        return Split(name, questions.encoded, examples, questions, counts)
    known = [within(example, head) for example in examples]
    encoded = features.encode(known, tokenizer, head, data.length, where)
    # Without a label for the loss, but scored.
    lacking = sum(one.label is None and other.label is not None for one, other in zip(known, examples, strict=True))
    if lacking:
        _refuse_other_labels(task, lacking, len(examples), where)
        encoded.counts["unlabelled"] -= lacking
        encoded.counts["unknown_labels"] = lacking
    return Split(name, encoded, examples, reading_counts=counts)


def _refuse_other_labels(task: tasks.Task, lacking: int, count: int, where: str) -> None:
    """Raises UserError if no validation label is a label of the training file: all scores would be 0."""
    if lacking == count and isinstance(task, tasks.OwnTask):
        raise UserError(
            f"finetune: {where}: none of its labels is one of the training file's: {unknown_in_words(task.unknown)}; "
            f"known are: {', '.join(map(labels.shown, task.head.labels[:12]))}; if they are numbers of those, name "
            "them in their order with --data.label-names"
        )


def check_training(encoded: features.Encoded, head: Head) -> None:
    """Raises UserError if there is nothing to learn from."""
    if encoded.counts["unlabelled"]:
        raise UserError(f"finetune: {encoded.counts['unlabelled']} training examples have no label; remove them")
    if head.kind == "classify" and head.problem == "single_label" and len(np.unique(encoded.labels)) < 2:
        only = head.labels[int(encoded.labels[0])]
        raise UserError(f"finetune: all training examples have the label {only}, so there is nothing to learn")


MOST_EPOCHS, MOST_PLANNED = 20_000, 10**9
"""Of a run: epochs, and examples in all of them. Rows are planned for each before the first step."""
_PLANNED_IN_A_MINUTE = 8_000_000
"""7 to 9 microseconds an example on one core of a cloud CPU."""


def check_planned(steps: int, batch: int, examples: int, what: str = "examples") -> None:
    """Raises UserError for a run whose rows could not be planned in reasonable time; announces what takes minutes.

    Args:
      steps: in the whole run.
      batch: examples in a batch.
      examples: in an epoch.
      what: they are called.
    """
    epochs = -(-steps // batches.batches_in_epoch(examples, batch))
    if epochs > MOST_EPOCHS:
        raise UserError(
            f"config: {steps:,} steps are {epochs:,} epochs of {examples:,} {what}; at most {MOST_EPOCHS:,} epochs are "
            "possible; lower run.steps or run.epochs"
        )
    if steps * batch > MOST_PLANNED:
        raise UserError(
            f"config: {steps:,} steps of {batch:,} {what} are {steps * batch:,}; at most {MOST_PLANNED:,} are possible "
            "in a run; lower run.steps or run.epochs"
        )
    if steps * batch > _PLANNED_IN_A_MINUTE:
        minutes = steps * batch / _PLANNED_IN_A_MINUTE
        print(f"finetune: planning the rows of {steps * batch:,} {what} first, some {minutes:,.0f} minutes")


def describe(train: Split, valid: Split, head: Head) -> dict[str, Any]:
    """Prints a line for everything that a user should know about the data. Returns counts for `summary.json`."""
    counts = {f"{split.name}_{name}": n for split in (train, valid) for name, n in split.encoded.counts.items()}
    for split in (train, valid):
        from_reading = {name: n for name, n in split.reading_counts.items() if name not in COUNTED_BY_ENCODE}
        counts |= {f"{split.name}_{name}": number for name, number in from_reading.items()}
        if text := in_words(split.reading_counts):
            print(f"finetune: {split.name}: {text}")
        for name, text in _NOTES.items():
            if number := split.encoded.counts.get(name):
                limit = "data.question_length" if head.kind == "span" else "data.length"
                print(f"finetune: {split.name}: {text.format(number=number, limit=limit)}")
    if head.kind in ("choose", "span") or head.problem != "single_label":
        return counts
    train_labels, valid_labels = (
        np.unique(split.encoded.labels[split.encoded.labels >= 0]) for split in (train, valid)
    )
    unseen = [head.labels[int(label)] for label in np.setdiff1d(valid_labels, train_labels)]
    if unseen:
        print(f"finetune: {valid.name} has labels without a training example: {', '.join(unseen)}")
    shares = np.bincount(valid.encoded.labels[valid.encoded.labels >= 0])
    majority = {"majority_share": float(shares.max() / shares.sum())} if shares.size else {}
    return counts | {"labels_never_trained": unseen} | majority


def open_evaluation(
    task: tasks.Task, config: Finetuned, model: TaskModel, mesh: jax.sharding.Mesh, length: int, pad_id: int
) -> Evaluate:
    """Returns the function that scores parameters on a split by the task's own metrics."""
    forward, head = make_forward(model, mesh), config.head

    def evaluate(
        params: Any, split: Split, folder: pathlib.Path | None = None, answered: set[int] | None = None
    ) -> dict[str, Any]:
        layouts = batches.evaluation_batches(split.encoded, length, config.data.pack, mesh.size, head, pad_id)
        if split.questions:
            outputs = span_answers.outputs_of(forward, params, split.questions, layouts, mesh)
            answers = span_answers.predictions_of(split.questions, outputs, config.data.answer_length)
            texts = span_answers.texts_of(answers, head)
            if folder:
                span_answers.write_official(folder / "predictions.json", texts)
                return span_answers.breakdown(split.examples, texts)
            return span_answers.figures(task, split.examples, answers, texts, head)
        outputs = outputs_of(forward, params, split.encoded, layouts, head, mesh)
        answers = predictions(head, outputs, split.examples)
        if answered is not None and head.kind == "classify" and head.problem == "single_label":
            answered.update(map(task_metrics.decided, answers))
        return task_metrics.score(task, split.examples, answers)

    return evaluate
