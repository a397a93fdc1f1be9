"""`bertlite finetune --task all-glue`: all tasks of a suite whose files are found, beside published results.

Each task has a folder of its own in the work directory. Finished runs are read, not repeated.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from bertlite_jax.config.finetune import Finetune
from bertlite_jax.data import tasks
from bertlite_jax.data.scores import suites
from bertlite_jax.data.tasks.task import find_files
from bertlite_jax.errors import UserError
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.finetuning.finetune import finetune
from bertlite_jax.jobs.finetuning.seeds_and_sweeps import finetune_seeds
from bertlite_jax.jobs.runs import one_job

SUITES = {"all-glue": "glue", "all-superglue": "superglue"}

FROM_MNLI = ("rte", "mrpc", "stsb")
"""These start from the suite's own MNLI model, if it was trained: Lan et al. 2020, section 4.9."""

_GLUE = ("mnli", "qnli", "qqp", "rte", "sst2", "mrpc", "cola", "stsb")
_SUPERGLUE = ("boolq", "cb", "copa", "multirc", "record", "superglue_rte", "wic", "wsc")
PUBLISHED: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {
    "glue": {
        name: dict(zip(_GLUE, ((value,) for value in row), strict=True))
        for name, row in {
            "BERT-large": (86.6, 92.3, 91.3, 70.4, 93.2, 88.0, 60.6, 90.0),
            "RoBERTa-large": (90.2, 94.7, 92.2, 86.6, 96.4, 90.9, 68.0, 92.4),
            "ALBERT-xxlarge 1M": (90.4, 95.2, 92.0, 88.1, 96.8, 90.2, 68.7, 92.7),
            "ALBERT-xxlarge 1.5M": (90.8, 95.3, 92.2, 89.2, 96.9, 90.9, 71.4, 93.0),
        }.items()
    },
    "superglue": {
        "BERT-large": dict(
            zip(
                _SUPERGLUE,
                ((77.4,), (75.7, 83.6), (70.6,), (70.0, 24.0), (72.0, 71.3), (71.6,), (69.5,), (64.3,)),
                strict=True,
            )
        )
    },
}
"""In percent. GLUE: validation sets, medians of five runs, Lan et al. 2020 (arXiv 1909.11942), table 9; Matthews'
correlation for CoLA, Pearson's for STS-B, else accuracy, MNLI matched. SuperGLUE: test sets, all metrics of a task,
Wang et al. 2019 (arXiv 1905.00537), table 3."""


def shown_metrics(suite: str, task: str) -> tuple[str, ...]:
    """Names of the metrics that the published results report for a task."""
    if suite == "superglue":
        return tasks.TASKS[task].metrics
    return ({"cola": "mcc", "stsb": "pearson"}.get(task, "accuracy"),)


def finetune_suite(
    name: str,
    recipe_of: Callable[[str], Finetune],
    run: str,
    init: str,
    seeds: int = 1,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Trains the suite's tasks one after the other, MNLI first, since others start from it.

    A task whose files are missing is skipped, and so is the suite's average then.

    Args:
      name: all-glue or all-superglue.
      recipe_of: task to its recipe, with `data.task` and `data.folder` set.
      run: work directory; each task has a folder `<task>/` in it.
      init: the encoder.
      seeds: number of runs of each task, as for `finetune_seeds`.
      overwrite: delete the runs that the directory holds, and start again.

    Returns:
      `tasks` (task to its summary), `left_out` (task to reason), `average` on the validation sets or None, and `table`:
      rows for our model and each published one; also written to `summary.json`. If a signal stopped a run, what
      `finetune` returned for it.

    Raises:
      UserError: no task has files, or `finetune` refuses a recipe for another reason than missing files.
    """
    with one_job.alone_in(run, of_runs=True):
        return _train_tasks(SUITES[name], recipe_of, run, init, seeds, overwrite)


def _train_tasks(
    suite: str, recipe_of: Callable[[str], Finetune], run: str, init: str, seeds: int, overwrite: bool
) -> dict[str, Any]:
    wanted = [task for task, entry in tasks.TASKS.items() if entry.suite == suite and "train" in entry.splits]
    recipes = {task: recipe_of(task) for task in sorted(wanted, key=lambda task: task != "mnli")}
    left_out = {task: why for task, recipe in recipes.items() if (why := _missing_files(task, recipe.data.folder))}
    for task, recipe in recipes.items():
        if task not in left_out and not (pathlib.Path(run) / task / "summary.json").is_file():
            _read_once(task, recipe.data.folder)
    summaries: dict[str, dict[str, Any]] = {}
    for task, recipe in recipes.items():
        folder = str(pathlib.Path(run) / task)
        if task in left_out:
            print(f"finetune: {task} is skipped: {left_out[task]}")
            continue
        from_mnli = task in FROM_MNLI and "mnli" in summaries
        start = summaries["mnli"].get("best_run", str(pathlib.Path(run) / "mnli")) if from_mnli else init
        print(f"finetune: {task} in {folder}, from {start}")
        if seeds > 1:
            summaries[task] = finetune_seeds(recipe, folder, start, seeds, overwrite)
        else:
            summaries[task] = finetune(recipe, folder, start, overwrite)
        if "stopped" in summaries[task]:
            return summaries[task]
    if not summaries:
        raise UserError(f"finetune: --data has no task of {suite}: {'; '.join(left_out.values())}")
    summary = {
        "suite": suite,
        "tasks": summaries,
        "left_out": left_out,
        "average": average(suite, summaries),
        "table": table(suite, summaries),
    }
    whole_files.write_json(pathlib.Path(run) / "summary.json", summary)
    return summary


def _missing_files(task: str, folder: str) -> str:
    """Why a task cannot be trained; empty if it can."""
    try:
        for split in _needed_splits(task):
            find_files(tasks.TASKS[task], folder, split)
    except UserError as error:
        return str(error)
    return ""


def _read_once(task: str, folder: str) -> None:
    """Raises UserError for a file that cannot be read, before the tasks in front of this one have trained for hours."""
    for split in _needed_splits(task):
        if not sum(1 for _ in tasks.read(tasks.TASKS[task], folder, split)):
            raise UserError(f"finetune: {task}: the split {split} in {folder} has no examples")


def _needed_splits(task: str) -> tuple[str, str]:
    return "train", next(name for name in tasks.TASKS[task].splits if name.startswith("validation"))


def average(suite: str, summaries: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The average by the suite's rule, in percent; None if a task is missing."""
    scores = {task: {m: figures[m] for m in tasks.TASKS[task].metrics} for task, figures in summaries.items()}
    mismatched = summaries.get("mnli", {}).get("validation_mismatched_accuracy")
    if mismatched is not None:
        scores[suites.MISMATCHED] = {"accuracy": mismatched}
    try:
        return 100 * suites.suite_average(suite, scores)
    except UserError:
        return None


def table(suite: str, summaries: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of percentages as text, ours first, with a column for each trained or published task; two metrics as a/b."""
    order = [*(_GLUE if suite == "glue" else _SUPERGLUE)]
    order += [task for task in summaries if task not in order]
    ours = {
        task: tuple(100 * figures[metric] for metric in shown_metrics(suite, task))
        for task, figures in summaries.items()
    }
    rows = {"this run": ours} | PUBLISHED[suite]
    return [
        {"model": model} | {task: "/".join(f"{v:.1f}" for v in row[task]) if task in row else "" for task in order}
        for model, row in rows.items()
    ]
