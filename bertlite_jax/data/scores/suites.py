"""The averages of GLUE and SuperGLUE as on their leaderboards."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from bertlite_jax.data.tasks.table import TASKS
from bertlite_jax.errors import UserError

MISMATCHED = "mnli_mismatched"
"""The name of MNLI's second test set for `suite_average`."""


def suite_average(suite: str, scores: Mapping[str, Mapping[str, float]]) -> float:
    """The mean over tasks of the mean over each one's metrics, without the diagnostic sets AX, AX-b and AX-g.

    Args:
      suite: `glue` or `superglue`.
      scores: task -> metric -> value, fractions or percent; GLUE needs `mnli_mismatched` too, and the two sets of MNLI
        count as one task.

    Raises:
      UserError: a task of the suite, or one of its metrics, is missing.
    """
    wanted = {name: task.metrics for name, task in TASKS.items() if task.suite == suite and "train" in task.splits}
    if suite == "glue":
        wanted[MISMATCHED] = wanted["mnli"]
    missing = [name for name, metrics in wanted.items() if not set(metrics) <= set(scores.get(name, {}))]
    if missing or not wanted:
        raise UserError(f"task: no average of {suite} without the scores of {', '.join(missing) or 'its tasks'}")
    means = {name: fmean(scores[name][metric] for metric in metrics) for name, metrics in wanted.items()}
    if suite == "glue":
        means["mnli"] = (means["mnli"] + means.pop(MISMATCHED)) / 2
    return fmean(means.values())
