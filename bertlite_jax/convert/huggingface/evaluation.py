"""What a run scored, as its model card states it: a table for readers, and `model-index` for programs.

Source of the format: the model card specification of the hub (its `model-index`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.scores.task_metrics import METRICS
from bertlite_jax.data.tasks import TASKS

_PRETRAINING = {"valid_mlm_loss": "loss", "valid_mlm_accuracy": "accuracy"}
"""Key of summary.json -> type of the metric."""
_TYPES = {
    "mcc": "matthews_correlation",
    "f1_macro": "f1",
    "f1_micro": "f1",
    "exact": "exact_match",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "group_f1a": "f1",
    "group_em": "exact_match",
    "entity_f1": "f1",
    "entity_em": "exact_match",
    "span_f1": "f1",
    "span_precision": "precision",
    "span_recall": "recall",
    "answer_f1": "f1",
    "answer_exact": "exact_match",
    "chinese_f1": "f1",
    "chinese_exact": "exact_match",
}
"""What the hub calls our metrics, where it has another name."""
_SUITES = {"glue": "glue", "superglue": "super_glue"}
_SPLITS = {"mnli": "validation_matched"}
"""What the hub calls our `validation`, where it has another name."""


class Scored(NamedTuple):
    """The scores of a run on its validation examples."""

    task: str
    """Name of the task, or for one's own data of the file; empty for a pretrained model."""
    suite: str
    """That the task is of, such as glue; empty for others."""
    scores: dict[str, float]
    """By the names of summary.json, the one that chose the model first."""


def scored(weights: Weights) -> Scored | None:
    """The scores that the summary of a run has; None where there is none, as for weights from elsewhere."""
    facts = weights.facts
    if weights.head is None:
        names, task, suite = [*_PRETRAINING], "", ""
    else:
        first = facts.get("metric")
        names = sorted(METRICS, key=lambda name: name != first)
        task = _readable(facts.get("task") or "own examples")
        official = weights.reading.data.task if weights.reading else ""
        suite = TASKS[official].suite if official in TASKS else ""
    scores = {name: facts[name] for name in names if _is_figure(facts.get(name))}
    return Scored(task, suite, scores) if scores else None


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _readable(name: str) -> str:
    """A name that can be written: that of a file need not be UTF-8."""
    return name.encode("utf-8", "replace").decode()


def model_index(found: Scored, name: str, pipeline: str) -> str:
    """The scores as YAML for the head of a card.

    Args:
      found: of the run.
      name: of the repository, without its owner.
      pipeline: what the hub calls such a task, as in `pipeline_tag`.
    """
    if found.task:
        dataset = {"type": _SUITES.get(found.suite, found.task), "name": found.task}
        dataset |= {"config": found.task.removeprefix("superglue_")} if found.suite else {}
    else:
        dataset = {"type": "text", "name": "held-out documents of the training corpus"}
    dataset |= {"split": _SPLITS.get(found.task, "validation") if found.suite else "validation"}
    types = _PRETRAINING | _TYPES
    metrics = [{"type": types.get(each, each), "value": value, "name": each} for each, value in found.scores.items()]
    result = {"task": {"type": pipeline}, "dataset": dataset, "metrics": metrics}
    return "\n".join(_yaml({"model-index": [{"name": name, "results": [result]}]}))


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """Lines of YAML in blocks. A string of JSON is one of YAML too; a number is one if it has a point: 1.0e-05."""
    if isinstance(value, list):
        for item in value:
            first, *rest = _yaml(item, f"{indent}  ")
            yield from (f"{indent}- {first.lstrip()}", *rest)
        return
    for key, inner in value.items():
        if isinstance(inner, dict | list):
            yield f"{indent}{key}:"
            yield from _yaml(inner, f"{indent}  ")
        else:
            text = json.dumps(inner, ensure_ascii=False)
            exponent_alone = isinstance(inner, float) and "e" in text and "." not in text
            yield f"{indent}{key}: {text.replace('e', '.0e') if exponent_alone else text}"
