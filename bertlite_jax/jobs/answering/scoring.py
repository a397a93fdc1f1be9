"""The scores of a file of one's own, from its labels and the answers; the texts are not kept."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.convert.int8.labelled import Scorer
from bertlite_jax.convert.weights.reading import reading_in
from bertlite_jax.data import tasks
from bertlite_jax.data.scores import task_metrics
from bertlite_jax.data.tasks import layouts
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import conll, labels
from bertlite_jax.data.tasks.own.columns import kind_of_head
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.data.tasks.own.task import OwnTask, metrics_of
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files
from bertlite_jax.host.places import final_place, refuse_to_replace
from bertlite_jax.host.whole_files import check_no_folder, new_file, write_json
from bertlite_jax.jobs.answering import outputs
from bertlite_jax.jobs.answering.inputs import format_of


class Scores:
    """Collects labels and answers, batch by batch.

    Args:
      run: of the model; if it was trained on a task that is known by its name, that task's metrics count.
      head: of the model.
      unknown: labels that the model does not know, with their counts; their indices follow on the head's.
    """

    def __init__(self, run: str, head: Head, unknown: dict[str, int]):
        self.task = OwnTask(
            name=run, head=head, metrics=_metrics(run, head), layout=layouts.texts, splits={}, unknown=unknown
        )
        self.names = labels.Names(head.labels)
        """How the input's labels were found among the model's."""
        self.examples: list[Example] = []
        self.answers: list[Any] = []
        self.unlabelled = 0
        self.other_form = ""
        """What to say of an input in another form than the training file, see `other_columns`; empty: the same."""

    def add(self, examples: Sequence[Example], answers: Sequence[Any]) -> None:
        """Adds a batch: its examples, and for each the answer as `task_metrics.score` takes it."""
        for example, answer in zip(examples, answers, strict=True):
            if example.label is None:
                self.unlabelled += 1
                continue
            self.examples.append(dataclasses.replace(example, text="", pair=None, choices=(), words=()))
            self.answers.append(answer if isinstance(answer, tuple) else _small(answer))

    def result(self) -> dict[str, float]:
        """The metrics; empty if there is no label.

        Raises:
          UserError: all labels are unknown, most tags of words are, numbers may count otherwise than the model's, or a
            metric needs a package that is missing.
        """
        if not self.examples:
            return {}
        known, unknown = self.task.head.labels, self.task.unknown
        if said := _counted_otherwise(self.names, self.examples, unknown, self.task.head):
            raise UserError(f"predict: {said}")
        if unknown and not any(_knows(example.label, self.task.head) for example in self.examples):
            raise UserError(
                f"predict: no label of the input is one of the model's ({', '.join(known[:8])}), so nothing is scored; "
                f"it has {', '.join(list(unknown)[:8])}. Pass --labels with the input's names in the order of the "
                "model's outputs"
            )
        if self.task.head.kind == "tag" and (said := _odd_tags(self.examples, known, unknown)):
            raise UserError(f"predict: {said}")
        if self.other_form and not _marks_anything(self.examples, known):
            raise UserError(f"predict: {self.other_form}")
        return task_metrics.score(self.task, self.examples, self.answers)


def write(path: str, scores: Mapping[str, float], scored: int) -> None:
    """Writes the file of `--metrics`, whole or not at all: `examples`, the number that was scored, and the metrics.

    Raises:
      UserError: there is no score, or the file cannot be written.
    """
    if not scores:
        raise UserError(f"predict: --metrics {path}: the input has no labels, so there is nothing to score")
    with new_file(path, overwrite=True, job="predict") as unfinished:
        finite = {name: value if math.isfinite(value) else None for name, value in scores.items()}
        write_json(unfinished, {"examples": scored, **finite})


def check_file(path: str, inputs: str = "-") -> None:
    """Raises UserError, before anything is answered, if a file cannot be written there, or would replace the input."""
    if path:
        check_no_folder(final_place("predict", path), job="predict")
        if inputs != "-":
            refuse_to_replace("predict", inputs, path)


def say(scores: Mapping[str, float], unlabelled: int = 0) -> None:
    """Prints the metrics on standard error."""
    if scores:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        left_out = f" ({unlabelled:,} without a label are not scored)" if unlabelled else ""
        print(f"predict: {figures}{left_out}", file=sys.stderr)


def other_columns(run: str, inputs: str, head: Head) -> str:
    """A line for CoNLL columns that are not as many as the training file of a run had; else empty.

    Which column holds the tags follows from their number, so those of another number may hold something else.
    """
    summary = pathlib.Path(run) / "summary.json"
    if head.kind != "tag" or not summary.is_file() or format_of(inputs, OwnOptions()) != "columns":
        return ""
    trained = json_files.read_object(summary, "predict").get("train_conll_columns")
    width = conll.width_of(inputs)
    if not isinstance(trained, int) or width in (1, trained):
        return ""
    return (
        f"{inputs} has {width} columns, and the training file had {trained}; the last one holds no tag of the model "
        "but O, so it is taken for something else and nothing is scored; give the file the columns of the training "
        "file, or leave the tags out with --no-score"
    )


def _marks_anything(examples: Sequence[Example], known: Sequence[str]) -> bool:
    """Whether a tag is one of the model's, other than O."""
    tags = {tag for example in examples if isinstance(example.label, tuple) for tag in example.label}
    return any(known[tag] != "O" for tag in tags if 0 <= tag < len(known))


def scorer_of(run: str, head: Head) -> Scorer:
    """The first of the metrics that `predict` prints for a model, to measure other forms of it with; not for spans."""

    def score(examples: Sequence[Example], logits: Sequence[np.ndarray]) -> float:
        scores = Scores(run, head, {})
        scores.add(examples, outputs.predictions(head, logits, examples))
        return scores.result()[metric]

    metric = _metrics(run, head)[0]
    return Scorer(metric, score)


def _metrics(run: str, head: Head) -> tuple[str, ...]:
    usual, reading = metrics_of(kind_of_head(head), head.labels), reading_in(run)
    data = reading.data if reading else None
    if data is not None and data.task in tasks.TASKS:
        named = tasks.TASKS[data.task].metrics
        # Those of MultiRC, ReCoRD and AX-g need groups of examples, which a file of one's own has not.
        usual = usual if any(name.startswith(("group_", "entity_", "parity")) for name in named) else named
    if data is None or data.metric == "auto":
        return usual
    return (data.metric, *(name for name in usual if name != data.metric))


def _small(answer: Any) -> Any:
    """An index in place of probabilities."""
    return task_metrics.decided(answer) if np.ndim(answer) else answer


def _odd_tags(examples: Sequence[Example], known: tuple[str, ...], unknown: Mapping[str, int]) -> str:
    """What to say of tags that are mostly unknown: they may be another column of CoNLL, such as chunks; else empty."""
    count = sum(len(example.label) for example in examples if isinstance(example.label, tuple))
    few = count - sum(unknown.values())
    if 2 * few >= count:
        return ""
    return (
        f"only {few:,} of the input's {count:,} tags are among the model's ({', '.join(known[:8])}), so nothing is "
        "scored; the last column of CoNLL is read as tags, and here it seems to hold something else, such as "
        f"{', '.join(list(unknown)[:8])}"
    )


def _counted_otherwise(names: labels.Names, examples: Sequence[Example], unknown: Mapping[str, int], head: Head) -> str:
    """What to say of numbers that may count from 0 and the model's from 1, or the other way round; else empty.

    They are only asked about where numbers stand for names: elsewhere, a number is a name like others.
    """
    count = len(names.names)
    numbers = {labels.plain(name) for name in unknown}
    if "0" in numbers and any(map(labels.is_number, names.own)):
        from_0 = " ".join(map(str, range(count)))
        return (
            f"the input has the label 0, which is none of the model's own ({', '.join(names.own[:8])}), so nothing is "
            f"scored; if its labels count the model's from 0, pass --labels {from_0}"
        )
    if names.numbered and str(count) in numbers and not any(_has_first(example.label, head) for example in examples):
        from_1 = " ".join(str(number) for number in range(1, count + 1))
        return (
            f"the input's numbers of labels go to {count}, and the model's count from 0 (0 is {names.names[0]}), so "
            f"nothing is scored; if they count from 1, pass --labels {from_1}"
        )
    return ""


def _has_first(label: Any, head: Head) -> bool:
    """Whether an example's label, one of its labels, or one of its tags is the first of the model's."""
    if head.problem == "multi_label":
        return bool(label[0])
    return 0 in label if isinstance(label, tuple) else label == 0


def _knows(label: Any, head: Head) -> bool:
    """Whether an example's label, one of its labels, or one of its tags is among the model's."""
    known = len(head.labels)
    if head.problem == "multi_label":
        return any(label[:known])
    return any(each < known for each in label) if isinstance(label, tuple) else label < known
