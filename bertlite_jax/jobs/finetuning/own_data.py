"""A user's own files before anything trains: what was taken for what, and what the run's config stores of it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bertlite_jax.config.finetune import Finetune
from bertlite_jax.config.model import Head
from bertlite_jax.data import tasks
from bertlite_jax.data.examples import features
from bertlite_jax.data.scores import task_metrics
from bertlite_jax.data.tasks.own import conll, labels
from bertlite_jax.data.tasks.own.formats import open_file
from bertlite_jax.data.tasks.own.reader import unknown_in_words
from bertlite_jax.data.tasks.own.survey import Survey
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import task_splits
from bertlite_jax.jobs.answering.task_splits import Split
from bertlite_jax.jobs.runs import workdir

_OF_LABELS = ("accuracy", "f1", "f1_macro", "mcc")
"""Metrics that need no more than a label for each text."""
FEW = 50
"""With fewer examples, a score says little."""


def decided(config: Finetune, run: str, overwrite: bool = False) -> Finetune:
    """The recipe with what `auto` stands for, and prints what was taken for what.

    A work directory of an older version has a run whose held-out texts and metric were chosen otherwise; where it is
    resumed, both stay `auto`, which means just that.

    Args:
      config: the recipe.
      run: the work directory.
      overwrite: a run that it holds will be deleted.

    Raises:
      UserError: the files cannot be used; see `tasks.task_of_file`.
    """
    data = config.data
    if data.task or not data.folder:
        return config
    stored = None if overwrite else _stored(pathlib.Path(run))
    if stored is not None and data.kind == "auto":
        data = dataclasses.replace(data, kind=stored.get("kind", "auto"))
    task = task_splits.task_of(data)
    assert isinstance(task, tasks.OwnTask)
    assert task.survey is not None
    _refuse_nothing_to_learn(task.survey)
    names = task.options.label_names if task.survey.named else ()
    data = dataclasses.replace(data, kind=task.options.kind, label_names=names)
    if data.decimal == "auto":
        data = dataclasses.replace(
            data, decimal=task.options.decimal if stored is None else stored.get("decimal", "auto")
        )
    if data.held_out == "auto" and not data.validation_file:
        data = dataclasses.replace(data, held_out="stratified" if stored is None else stored.get("held_out", "auto"))
    if data.metric == "auto":
        usual: Any = "f1_macro" if task.survey.imbalanced else task.metrics[0]
        data = dataclasses.replace(data, metric=usual if stored is None else stored.get("metric", "auto"))
    for line in task.survey.in_words():
        print(f"finetune: {line}")
    print(
        f"finetune: {_validation_in_words(data)}; the best model is the one with the best {_first_metric(data, task)}"
    )
    return dataclasses.replace(config, data=data)


def _refuse_nothing_to_learn(survey: Survey) -> None:
    """Raises UserError where all training examples, or all their words, have one label."""
    given = [name for name, count in survey.counts.items() if count]
    # A label that is none of those that were named is told with its line, when the examples are read.
    unknown = survey.kind == "classify" and sum(survey.counts.values()) < survey.examples
    only = ""
    if survey.numbers and survey.numbers[0] == survey.numbers[1]:
        only = f"all training examples have the number {survey.numbers[0]:g}"
    elif survey.kind in ("classify", "tag") and len(given) == 1 and not unknown:
        what = "words have the tag" if survey.kind == "tag" else "training examples have the label"
        only = f"all {what} {labels.shown(given[0])}"
    elif survey.kind == "multi_label" and not given:
        only = "no training example has a label"
    elif survey.kind == "multi_label" and all(survey.counts[name] == survey.examples for name in survey.names):
        only = f"all training examples have all labels ({', '.join(map(labels.shown, survey.names[:8]))})"
    if only:
        raise UserError(f"finetune: {only}, so there is nothing to learn")


def _stored(run: pathlib.Path) -> dict[str, Any] | None:
    """The group `data` in the config of a run, as it is; None if there is no run, or no such config."""
    try:
        values = json.loads((run / workdir.CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # What is wrong with it is told when the work directory is opened.
    found = values.get("data") if isinstance(values, dict) else None
    return found if isinstance(found, dict) else None


def _validation_in_words(data: Any) -> str:
    if data.validation_file:
        return f"validation: {data.validation_file}"
    share = f"validation: {data.validation_fraction:.0%}"
    if data.held_out == "stratified" and data.kind == "classify":
        return f"{share} of each label are held out, at least one text of each that has two"
    return f"{share} of the texts are held out"


def _first_metric(data: Any, task: tasks.Task) -> str:
    return task.metrics[0] if data.metric == "auto" else data.metric


# --- Warnings --------------------------------------------------------------------------------------------------------


def warnings(task: tasks.Task, train: Split, valid: Split, head: Head) -> list[str]:
    """What a user should know of how their own data are divided before they believe a score; a line for each."""
    if not isinstance(task, tasks.OwnTask):
        return []
    found = []
    if task.unknown:
        found.append(
            f"{valid.name} has labels that the training file lacks: {unknown_in_words(task.unknown)}; each counts as "
            "an error"
        )
    if head.kind == "classify" and head.problem == "single_label":
        there, here = (np.unique(split.encoded.labels) for split in (train, valid))
        missing = [head.labels[int(label)] for label in np.setdiff1d(there, here) if label >= 0]
        if missing:
            advice = "" if valid.name in task.splits else "; name a file that has some with --data.validation-file"
            found.append(f"{valid.name} has no example of {_some(missing)}, which is never scored{advice}")
    if len(valid.examples) < FEW:
        found.append(_few(task, len(valid.examples), head))
    shared = len(_contents(valid.encoded) & _contents(train.encoded))
    if shared:
        found.append(f"{shared:,} texts of {valid.name} are training texts too, so its score is too good")
    return found


def _few(task: tasks.Task, count: int, head: Head) -> str:
    """The warning that few examples are scored; what one of them is worth only where the metric is a share of them."""
    scored = f"only {count} example{' is' if count == 1 else 's are'} scored"
    is_share = task.metrics[0] in ("accuracy", "exact") and head.kind != "tag"
    return f"{scored}: each moves {task.metrics[0]} by {1 / count:.1%}" if is_share else scored


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _contents(encoded: features.Encoded) -> set[int]:
    """A hash for the tokens of each example."""
    ends = encoded.offsets[encoded.firsts]
    return {hash(encoded.tokens[start:end].tobytes()) for start, end in itertools.pairwise(ends)}


def columns_of_training(task: tasks.Task) -> dict[str, int]:
    """`train_conll_columns`, by which `predict` knows files of another form; empty for other files."""
    if not isinstance(task, tasks.OwnTask) or task.survey is None or task.head.kind != "tag":
        return {}
    path = task.survey.path
    return {"train_conll_columns": conll.width_of(path)} if open_file(path, task.options).format == "columns" else {}


def baseline(task: tasks.Task, train: Split, valid: Split, head: Head) -> dict[str, Any]:
    """What one answer for everything scores: the commonest label or tag of the training file, or its mean number.

    Returns:
      `majority_label` and `majority_score`, by the first metric. With tags that make spans also
      `majority_tag_accuracy`, since a tag `O` has no spans. With numbers also `chance_score`, the correlation that two
      series of so many independent numbers exceed once in twenty times: 2 standard errors of 1 / sqrt(n). Empty for
      other heads.
    """
    metric, examples = task.metrics[0], valid.examples
    if any(example.label is None for example in examples):
        return {}
    if head.problem == "regression" and len(head.labels) == 1:
        mean = float(train.encoded.labels.mean())
        chance = min(0.99, 2 / len(examples) ** 0.5)
        return {"majority_label": f"{mean:.4g}", "majority_score": 0.0, "chance_score": chance}
    if head.kind == "tag" and metric in ("span_f1", "accuracy"):
        best = int(np.bincount(train.encoded.labels[train.encoded.labels >= 0]).argmax())
        same: list[Any] = [(best,) * len(example.words) for example in examples]
        found = {name: task_metrics.METRICS[name](task, examples, same) for name in dict.fromkeys((metric, "accuracy"))}
        more = {"majority_tag_accuracy": float(found["accuracy"])} if metric != "accuracy" else {}
        return {"majority_label": head.labels[best], "majority_score": float(found[metric]), **more}
    if head.kind == "classify" and head.problem == "single_label" and metric in _OF_LABELS:
        label = int(np.bincount(train.encoded.labels[train.encoded.labels >= 0]).argmax())
        score = task_metrics.METRICS[metric](task, examples, [label] * len(examples))
        return {"majority_label": head.labels[label], "majority_score": float(score)}
    return {}


def _beside_majority(summary: dict[str, Any]) -> str:
    """The best model's score beside that of one answer for everything."""
    metric, label = summary["metric"], summary["majority_label"]
    line = f"best {metric} {summary[metric]:.4f}; always {label}: {summary['majority_score']:.4f}"
    if "chance_score" in summary:
        line += f", and by chance up to {summary['chance_score']:.2f}"
    if "majority_tag_accuracy" in summary and "accuracy" in summary:
        line += f"; accuracy {summary['accuracy']:.4f}; always {label}: {summary['majority_tag_accuracy']:.4f}"
    return line


def verdict(summary: dict[str, Any], confidence: float) -> list[str]:
    """Lines that put the best model's score beside that of always giving the commonest label, and name what was vain.

    Args:
      summary: of the run.
      confidence: `learn.confidence`.
    """
    found = []
    if "majority_score" in summary:
        found.append(_beside_majority(summary))
    if only := summary.get("only_answer"):
        found.append(
            f"all answers of the best model are {only}: it has learnt nothing that tells texts apart; train longer, or "
            "with another --optim.learning-rate or --learn.class-weights balanced"
        )
    elif "majority_score" in summary and not summary[summary["metric"]] > max(
        summary["majority_score"], summary.get("chance_score", 0.0)
    ):
        found.append(
            f"the best model is no better than that: in {summary['steps']:,} steps it has learnt nothing that its "
            "validation texts show; train longer (--run.epochs), or with another --optim.learning-rate"
        )
    if summary.get("consistency_share") == 0:
        found.append(
            f"learn.consistency had no effect: the model was never as sure of an unlabelled text as learn.confidence = "
            f"{confidence}; lower it, or leave learn.consistency out, which costs time"
        )
    return found
