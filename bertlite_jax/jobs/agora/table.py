"""The rounds of a loop as rows of a table, for the terminal and as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bertlite_jax.jobs.agora.history import Round, as_number


def rows_of(rounds: Sequence[Round], metric: str) -> list[dict[str, Any]]:
    """A row for each round: models, scores, mistakes, points, and how many sets went and came back.

    Args:
      rounds: of the loop.
      metric: by which sets are sorted.
    """
    return [
        {
            "round": each.round,
            "models": len(each.scores),
            f"best {metric}": each.scores[each.best],
            "median": _median(each),
            "best set": each.best,
            "mistakes": each.mistakes,
            "new points": each.points,
            "gone": len(each.removed),
            "back": len(each.replayed),
        }
        for each in rounds
    ]


def _median(one: Round) -> float | None:
    """Of the scores of a round; None if that is of a model that diverged."""
    median = statistics.median(map(as_number, one.scores.values()))
    return median if math.isfinite(median) else None


def markdown(summary: Mapping[str, Any], rounds: Sequence[Round]) -> str:
    """The whole of table.md, of a summary and the rounds that it is of."""
    metric, rows = summary["metric"], summary["table"]
    names = list(rows[0])
    lines = [
        f"# Agora: {summary['task']}",
        "",
        f"Best {metric} {summary[metric]:.4f} in round {summary['best_round']}, by {summary['best_set']}; the best of "
        f"the first round, which had no points, {summary[f'first_round_{metric}']:.4f}. {summary['models']:,} models "
        f"were trained, on up to {summary['points']:,} points. The teacher {summary['teacher']} is right on "
        f"{summary['teacher_right']:.1%} of the validation examples. The loop ended, as {summary['ended']}.",
        "",
        "These scores are of the validation split, from whose mistakes the points were made and by which sets were "
        "chosen: of other text, the best model may know less. `bertlite predict` scores it on a file of your own.",
        "",
        "| " + " | ".join(names) + " |",
        "|" + "|".join("---" if name == "best set" else "--:" for name in names) + "|",
    ]
    lines += ["| " + " | ".join(_shown(row[name]) for name in names) + " |" for row in rows]
    removed = [f"* round {each.round}: {name}: {reason}" for each in rounds for name, reason in each.removed.items()]
    back = [f"* round {each.round}: {name} came back" for each in rounds for name in each.replayed]
    return "\n".join([*lines, "", "## Sets that went, and why", "", *removed, *back]) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if value is None:
        return "diverged"
    return f"{value:,}" if isinstance(value, int) else str(value)
