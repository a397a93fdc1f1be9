"""The maximum point, which trials are compared with: trained once, and then only what it predicts is needed.

Its predictions for the held-out rows lie in `teacher.npz`; no later trial, and no restart, runs it again.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from bertlite_jax.config.search.settings import Search, model_of
from bertlite_jax.errors import Diverged, UserError
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.runs import arrays
from bertlite_jax.jobs.searching import comparison, training
from bertlite_jax.jobs.searching.comparison import Seen
from bertlite_jax.jobs.searching.training import Setup
from bertlite_jax.model.heads import PretrainingModel
from bertlite_jax.search import space
from bertlite_jax.train.distillation.losses import Top
from bertlite_jax.train.pretraining import objective
from bertlite_jax.train.step import Batch

FILE = "teacher.npz"
MOST_BYTES = 2 * 2**30
"""Of predictions that are kept."""


class Teacher(NamedTuple):
    """What is known of the maximum point after its training."""

    seen: tuple[Seen, ...]
    """Its predictions for each held-out batch, on the host."""
    loss: float
    """Of the masked language model on the held-out rows, in nats."""
    learning_rate: float
    """The one of `surrogate.learning_rates` with the least loss."""


def steps_of(config: Search) -> int:
    """Its number of updates."""
    return config.surrogate.teacher_steps or config.surrogate.steps


def is_wanted(config: Search) -> bool:
    """Whether the error of a trial is a comparison with it."""
    return config.surrogate.kind.startswith("teacher")


def is_kept(path: pathlib.Path, key: str) -> bool:
    """Whether an earlier start has left what it predicts.

    Raises:
      UserError: the file is damaged.
    """
    return path.is_file() and _read(path, key) is not None


def open_teacher(setup: Setup, path: pathlib.Path, key: str) -> Teacher:
    """Reads the predictions of an earlier start, or trains the maximum point and writes them.

    Args:
      setup: of the search.
      path: of the file.
      key: everything that they follow from (`surrogate.memo_key`); with another one the point is trained again.

    Raises:
      UserError: the file is damaged, the predictions are too many to keep, or the point does not fit into memory.
      Diverged: it did, at every learning rate.
    """
    if path.is_file() and (stored := _read(path, key)):
        return stored
    config = setup.config
    check_size(setup)
    seed, maximum = config.surrogate.seeds[0], config.maximum
    members = [training.Member(rate, seed) for rate in config.surrogate.learning_rates]
    print(
        f"search: training the maximum point {space.describe(maximum)} for {steps_of(config)} steps, once", flush=True
    )
    try:
        trained = training.train(setup, maximum, members, steps_of(config))
    except training.NoMemory as error:
        raise UserError(f"search: the maximum point {space.describe(maximum)}: {error}") from error
    losses = {number: trained.figures[steps_of(config)]["mlm"][number] for number in range(len(members))}
    real = {number: loss for number, loss in losses.items() if training.is_real(trained.figures, number)}
    if not real:
        raise Diverged(
            f"search: the maximum point {space.describe(maximum)} diverged with every one of "
            f"surrogate.learning_rates = {config.surrogate.learning_rates}; lower them"
        )
    best = min(real, key=lambda number: real[number])
    params = jax.tree.map(lambda leaf: leaf[best], trained.params)
    teacher = Teacher(_seen(setup, params), float(real[best]), members[best].learning_rate)
    _write(path, teacher, key)
    return teacher


def check_size(setup: Setup) -> None:
    """Raises UserError where the predictions would take more than `MOST_BYTES`."""
    config = setup.config
    slots = sum(rows["labels"].size for rows in setup.rows.held_out)
    size = 4 * slots * (2 * config.surrogate.teacher_pieces or config.model.padded_vocab)
    if size > MOST_BYTES:
        raise UserError(
            f"search: the predictions of the maximum point would take {size / 2**30:,.1f} GiB; lower run.eval_rows "
            f"(now {config.run.eval_rows}; 0 is all), or keep the likeliest with --surrogate.teacher-pieces 64"
        )


def _seen(setup: Setup, params: Any) -> tuple[Seen, ...]:
    config = setup.config
    model = PretrainingModel(model_of(config.model, config.maximum), setup.compute)
    pieces = min(config.surrogate.teacher_pieces, config.model.padded_vocab)

    @jax.jit
    def view(params: Any, rows: Batch) -> Seen:
        logits, _ = objective.logits_of(model.apply, params, rows, None)
        return comparison.seen_of(logits, pieces)

    return tuple(jax.device_get(view(params, rows)) for rows in setup.rows.held_out)


# --- The file --------------------------------------------------------------------------------------------------------


def _write(path: pathlib.Path, teacher: Teacher, key: str) -> None:
    predictions: dict[str, Any] = {
        f"{name}_{number}": np.asarray(array)
        for number, seen in enumerate(teacher.seen)
        for name, array in seen.items()
    }
    figures = np.array([teacher.loss, teacher.learning_rate, len(teacher.seen)], np.float64)
    with whole_files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, key=np.frombuffer(key.encode(), np.uint8), figures=figures, **predictions)


def _read(path: pathlib.Path, key: str) -> Teacher | None:
    """What `_write` wrote; None where it was written for another key."""
    with arrays.opened(path, "search", "remove it, and the maximum point is trained again") as stored:
        if stored["key"].tobytes().decode() != key:
            return None
        loss, rate, count = stored["figures"].tolist()
        names = [name for name in Top._fields if f"{name}_0" in stored]
        held: Mapping[str, Any] = stored  # Arrays of numpy, which serve as JAX's do.
        seen = tuple({name: held[f"{name}_{number}"] for name in names} for number in range(int(count)))
        return Teacher(seen, loss, rate)
