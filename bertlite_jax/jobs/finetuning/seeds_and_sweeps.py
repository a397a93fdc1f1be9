"""Several fine-tuning runs: the same recipe with several seeds, or a grid of learning rates and batch sizes.

Each run has a folder of its own. Finished runs are read, not repeated, so the same command resumes where it stopped.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bertlite_jax.config.finetune import Finetune, check_finetune
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.answering import task_splits
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.jobs.runs import one_job, workdir

RATES = (5e-5, 4e-5, 3e-5, 2e-5)
BATCHES = (16, 32)
"""BERT's grid for GLUE: google-research/bert:README.md, and Devlin et al. 2018 (arXiv 1810.04805), section A.3."""


def finetune_seeds(config: Finetune, run: str, init: str, seeds: int, overwrite: bool = False) -> dict[str, Any]:
    """Trains the recipe with several seeds, from `run.seed` on, in `seed-<n>/`.

    Returns:
      Median, minimum and maximum of each of the task's figures, and the folder of the best run by the first one; also
      written to `summary.json` of the work directory. If a signal stopped a run, what `finetune` returned for it.
    """
    _refuse_single_run(run)
    with one_job.alone_in(run, of_runs=True):
        return _train_seeds(config, run, init, seeds, overwrite)


def _train_seeds(config: Finetune, run: str, init: str, seeds: int, overwrite: bool) -> dict[str, Any]:
    by_folder: dict[str, dict[str, Any]] = {}
    for seed in range(config.run.seed, config.run.seed + seeds):
        folder = str(pathlib.Path(run) / f"seed-{seed}")
        print(f"finetune: seed {seed} in {folder}")
        seed_config = dataclasses.replace(config, run=dataclasses.replace(config.run, seed=seed))
        by_folder[folder] = finetune(seed_config, folder, init, overwrite)
        if "stopped" in by_folder[folder]:
            return by_folder[folder]
    runs = list(by_folder.values())
    metric = runs[0]["metric"]
    summary: dict[str, Any] = {"task": runs[0]["task"], "metric": metric, "seeds": seeds}
    for name in _scores(config, runs[0]):
        values = [figures[name] for figures in runs]
        summary |= {name: float(np.median(values)), f"{name}_min": min(values), f"{name}_max": max(values)}
    speeds = [figures["examples_per_second"] for figures in runs if figures["examples_per_second"]]
    summary["examples_per_second"] = float(np.median(speeds)) if speeds else None
    summary["best_run"] = max(by_folder, key=lambda folder: by_folder[folder][metric])
    whole_files.write_json(pathlib.Path(run) / "summary.json", summary)
    return summary


def finetune_sweep(
    config: Finetune,
    run: str,
    init: str,
    rates: Sequence[float] = RATES,
    batches: Sequence[int] = BATCHES,
    seeds: int = 1,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Trains the recipe at each learning rate and batch size, in `lr-<rate>-batch-<examples>/`.

    With several seeds, a point's figures are the medians. A point that diverges has no figures; the sweep continues.

    Returns:
      `points` (rate, batch size, folder and figures of each), and of the best point by the task's first metric
      `best_rate`, `best_batch`, `best_run` and its figures; also written to `summary.json` of the work directory.

    Raises:
      UserError: the grid is empty, or `finetune` refuses the recipe.
      Diverged: every point diverged.
    """
    _refuse_single_run(run)
    if not rates or not batches:
        raise UserError("finetune: the sweep has no points; pass learning rates and batch sizes")
    points = [_point(config, run, rate, batch) for batch in batches for rate in rates]
    _check_points(points)
    with one_job.alone_in(run, of_runs=True):
        return _train_points(points, run, init, seeds, overwrite)


class _Point(NamedTuple):
    """A point of the grid: its recipe, and its work directory."""

    config: Finetune
    folder: str


def _point(config: Finetune, run: str, rate: float, batch: int) -> _Point:
    optim = dataclasses.replace(config.optim, learning_rate=rate)
    data = dataclasses.replace(config.data, batch_examples=batch)
    folder = str(pathlib.Path(run) / f"lr-{rate:g}-batch-{batch}")
    return _Point(dataclasses.replace(config, optim=optim, data=data), folder)


def _check_points(points: Sequence[_Point]) -> None:
    """Raises UserError for what would end the sweep at a later point, when others have been trained already."""
    seen: dict[str, _Point] = {}
    for point in points:
        check_finetune(point.config)
        if seen.setdefault(point.folder, point) != point:
            raise UserError(
                f"finetune: --sweep-rates has two rates that are {point.config.optim.learning_rate:g} to six digits; "
                "leave one out"
            )


def _train_points(grid: Sequence[_Point], run: str, init: str, seeds: int, overwrite: bool) -> dict[str, Any]:
    metric = ""
    points: list[dict[str, Any]] = []
    for config, folder in grid:
        rate, batch = config.optim.learning_rate, config.data.batch_examples
        print(f"finetune: learning rate {rate:g}, batch {batch} in {folder}")
        point = {"learning_rate": rate, "batch_examples": batch, "folder": folder}
        try:
            if seeds > 1:
                figures = finetune_seeds(config, folder, init, seeds, overwrite)
            else:
                figures = finetune(config, folder, init, overwrite)
        except Diverged as error:
            print(error)
            points.append(point | {"diverged": str(error)})
            continue
        if "stopped" in figures:
            return figures
        metric = figures["metric"]
        points.append(point | {name: figures[name] for name in (*_scores(config, figures), "examples_per_second")})
    finished = [point for point in points if "diverged" not in point]
    if not finished:
        raise Diverged("finetune: every point of the sweep diverged; try lower learning rates")
    best = max(finished, key=lambda point: point[metric])
    summary = {
        "task": task_splits.task_of(grid[0].config.data).name,
        "metric": metric,
        **{name: best[name] for name in _scores(grid[0].config, best)},
        "best_rate": best["learning_rate"],
        "best_batch": best["batch_examples"],
        "best_run": best["folder"],
        "points": points,
    }
    whole_files.write_json(pathlib.Path(run) / "summary.json", summary)
    return summary


def _scores(config: Finetune, figures: dict[str, Any]) -> list[str]:
    """Names of the task's scores among a run's figures, including those of further validation splits."""
    metrics = task_splits.task_of(config.data).metrics
    return [name for name in figures if any(name == m or name.endswith(f"_{m}") for m in metrics)]


def _refuse_single_run(run: str) -> None:
    if (pathlib.Path(run) / workdir.CONFIG).is_file():
        raise UserError(f"finetune: {run} holds a single run; several runs need another --workdir")
