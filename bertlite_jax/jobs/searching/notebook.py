"""What has been tried: the error of a trial is looked up, or the trial is trained, with all others of its shape."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import bertlite_jax
from bertlite_jax.config.search.settings import Search, Shape, model_of, trained_as, trial_optim
from bertlite_jax.jobs.searching import results, teacher, training
from bertlite_jax.jobs.searching.results import Line
from bertlite_jax.jobs.searching.training import Member, Setup
from bertlite_jax.search import surrogate
from bertlite_jax.search.trials import Trial


@dataclasses.dataclass
class Notebook:
    """What has been tried, and what that follows from beside the trial."""

    path: pathlib.Path
    """Of `results.jsonl`."""
    lines: results.Lines
    """Grows."""
    surroundings: Mapping[str, Any]
    teacher: str
    """Of `teacher_key`."""

    def key(self, config: Search, trial: Trial) -> str:
        """Of a trial's line."""
        return surrogate.memo_key(
            trial=trial,
            model=model_of(config.model, trial.shape),
            optim=trial_optim(config, trial.learning_rate, trial.steps),
            seeds=config.surrogate.seeds,
            **self.surroundings,
        )

    def line(self, config: Search, trial: Trial) -> Line | None:
        """What has been written of a trial."""
        return self.lines.get((self.key(config, trial), self.teacher))


def surroundings(config: Search, compute: str, tokenizer: str, corpora: Mapping[str, str]) -> dict[str, Any]:
    """What figures follow from beside shape, learning rate, steps and seeds.

    Args:
      config: with all sizes.
      compute: mode of the products.
      tokenizer: its hash.
      corpora: folder to the hash of its content.
    """
    common = trained_as(config)
    return {
        "data": dataclasses.replace(common.data, corpus=(), tokenizer="", read_threads=1),
        "mask": common.mask,
        "objective": common.objective,
        "order": config.run.seed,
        "held_out": config.run.eval_rows,
        "clip_weights": config.surrogate.clip_weights,
        "compute": compute,
        "tokenizer": tokenizer,
        "corpora": list(corpora.values()),
        "versions": [bertlite_jax.__version__, importlib.metadata.version("jax")],
    }


def teacher_key(config: Search, surroundings: Mapping[str, Any]) -> str:
    """Of the maximum point's predictions; empty where nothing is compared with them."""
    if not teacher.is_wanted(config):
        return ""
    settings, steps = config.surrogate, teacher.steps_of(config)
    return surrogate.memo_key(
        model=model_of(config.model, config.maximum),
        optim=[trial_optim(config, rate, steps) for rate in settings.learning_rates],
        seed=settings.seeds[0],
        steps=steps,
        pieces=settings.teacher_pieces,
        **surroundings,
    )


def trials_of(config: Search, shape: Shape, steps: int) -> list[Trial]:
    """One trial for each learning rate."""
    return [Trial(shape, rate, steps) for rate in config.surrogate.learning_rates]


def open_errors(
    setup: Setup, notebook: Notebook, ended: Callable[[Shape, int, list[Line], float], None]
) -> Callable[[Trial], float]:
    """Returns the error of a trial, which is trained where the notebook has no line of it.

    All learning rates of its shape that have none are trained with it.

    Args:
      setup: of the search.
      notebook: gets the lines.
      ended: is told shape, steps, lines and seconds of what was trained.
    """
    config = setup.config

    def error(trial: Trial) -> float:
        if notebook.line(config, trial) is None:
            group = trials_of(config, trial.shape, trial.steps)
            missing = [other for other in group if notebook.line(config, other) is None]
            lines = _train(setup, notebook, missing)
            ended(trial.shape, trial.steps, lines, math.fsum(line.seconds for line in lines))
        line = notebook.line(config, trial)
        assert line is not None, trial
        return results.error(line, config.surrogate)

    return error


def _train(setup: Setup, notebook: Notebook, missing: list[Trial]) -> list[Line]:
    """Trains trials of one shape and one number of steps, one at a time where they do not fit together.

    Returns:
      Their lines, which are in the notebook then.
    """
    config, seeds = setup.config, setup.config.surrogate.seeds
    shape, steps = missing[0].shape, missing[0].steps
    members = [Member(trial.learning_rate, seed) for trial in missing for seed in seeds]
    figures: training.Figures = {}
    seconds, reason = 0.0, ""
    try:
        trained = training.train(setup, shape, members, steps)
        figures, seconds = trained.figures, trained.seconds
    except training.NoMemory as error:
        reason = str(error)
    if reason and len(missing) > 1:  # Outside of the block, whose error holds on to the arrays.
        return [line for trial in missing for line in _train(setup, notebook, [trial])]
    lines = []
    for number, trial in enumerate(missing):
        mine = range(number * len(seeds), (number + 1) * len(seeds))
        real = all(training.is_real(figures, member) for member in mine)
        status = results.NO_MEMORY if reason else results.DONE if real else results.DIVERGED
        why = reason or ("" if real else "a loss on the held-out rows is not finite")
        of_seeds = {
            str(step): {name: [results.as_json(values[member]) for member in mine] for name, values in at_step.items()}
            for step, at_step in figures.items()
        }
        lines.append(
            Line(
                key=notebook.key(config, trial),
                teacher=notebook.teacher,
                status=status,
                reason=why,
                shape=dataclasses.asdict(shape),
                learning_rate=trial.learning_rate,
                steps=steps,
                seeds=list(seeds),
                seconds=seconds / len(missing),
                figures=of_seeds,
            )
        )
    results.append(notebook.path, lines)
    notebook.lines |= results.by_key(lines)
    return lines
