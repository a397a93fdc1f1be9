"""What one run of a grid has left in its work directory: final figures, and the curve of its evaluations."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from types import NoneType
from typing import Any

from bertlite_jax.host import json_files, json_shapes
from bertlite_jax.host.json_shapes import NUMBER
from bertlite_jax.report import plots
from bertlite_jax.report.run import metrics

FINISHED, DIVERGED = "finished", "diverged"
"""Status of a run that has its final figures, and of one whose loss was lost; `jobs/ablation/children` has the rest."""
BELOW_UNIGRAM = 0.1
"""Nats below the unigram entropy at which a run has left the plateau."""
_SUMMARY = {"steps": int, "real_tokens": int, "valid_mlm_loss": NUMBER, "unigram_entropy": NUMBER, "parameters": int}
_TABLE = {
    "members": [
        {
            "member": str,
            "valid_mlm_loss": (*NUMBER, NoneType),
            "seeds": [{"seed": int, "status": str, "valid_mlm_loss": (*NUMBER, NoneType)}],
        }
    ]
}


@dataclasses.dataclass(frozen=True)
class Result:
    """One run: how it stands, and its figures, None where there are none yet."""

    seed: int
    status: str
    line: str = ""
    """Why it is not finished."""
    valid_mlm_loss: float | None = None
    unigram_entropy: float | None = None
    valid_predictions: float | None = None
    steps: int | None = None
    left_at: int | None = None
    """Step of the first evaluation that is `BELOW_UNIGRAM` below the unigram entropy."""
    real_tokens: int | None = None
    train_seconds: float | None = None
    """Of its steps alone: without the start, compiling, evaluations and checkpoints."""
    total_flops: float | None = None
    parameters: int | None = None
    score: float | None = None
    """Of the task that it was fine-tuned on."""
    curve: tuple[tuple[int, ...], tuple[float, ...]] = ((), ())
    """Steps and validation losses."""


def read(run: pathlib.Path, seed: int, status: str, line: str = "") -> Result:
    """The figures of a work directory of pretraining.

    Args:
      run: the work directory; may be missing.
      seed: of the run.
      status: how it stands; where it is `FINISHED`, there is a summary.
      line: why it is not.

    Raises:
      UserError: a file of the run is damaged.
    """
    lines = metrics.read_lines(run / "metrics.jsonl") if (run / "metrics.jsonl").is_file() else []
    steps, losses = plots.series(lines, "valid_mlm_loss")
    result = Result(seed, status, line, curve=(tuple(steps), tuple(losses)), left_at=_left_at(lines))
    if status != FINISHED:
        return result
    path = run / "summary.json"
    summary = json_files.read_object(path, "ablate")
    json_shapes.check(summary, _SUMMARY, str(path), "ablate")
    figures = {name: summary[name] for name in _SUMMARY} | {"valid_predictions": summary.get("valid_predictions")}
    totals = plots.series(lines, "total_flops")[1]
    return dataclasses.replace(
        result, **figures, train_seconds=_train_seconds(lines), total_flops=totals[-1] if totals else None
    )


def read_table(grid: pathlib.Path) -> list[dict[str, Any]]:
    """The members in the table.json of a grid's folder, as `figures.rows` made them.

    Raises:
      UserError: there is none, or it is damaged.
    """
    path = grid / "table.json"
    content = json_files.read_object(path, "ablate")
    json_shapes.check(content, _TABLE, str(path), "ablate")
    return content["members"]


def _left_at(lines: Sequence[dict[str, Any]]) -> int | None:
    """The step of the first evaluation with a loss clearly below the unigram entropy."""
    for line in sorted(lines, key=lambda line: line["step"]):
        loss, unigram = line.get("valid_mlm_loss"), line.get("unigram_entropy")
        if loss is not None and unigram is not None and loss <= unigram - BELOW_UNIGRAM:
            return line["step"]
    return None


def _train_seconds(lines: Sequence[dict[str, Any]]) -> float | None:
    """Seconds that the steps took: real tokens of each stretch of logged steps over their measured rate.

    The total that is logged beside them counts what happened between the steps too.
    """
    seconds, before, rate = 0.0, 0.0, None
    waiting = 0.0
    for line in lines:
        tokens = line.get("total_real_tokens")
        if tokens is None:
            continue
        waiting, before = waiting + tokens - before, tokens
        rate = line.get("tokens_per_second") or rate
        if rate:
            seconds, waiting = seconds + waiting / rate, 0.0
    return seconds if rate else None
