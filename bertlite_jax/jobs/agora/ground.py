"""What a loop stands on and does not change: its task, its validation examples, its teacher, and what is kept out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bertlite_jax.config.agora import sets
from bertlite_jax.config.agora.sets import Set
from bertlite_jax.config.agora.settings import Agora, Loop
from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights import parameters
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.convert.weights.reading import pairs_of
from bertlite_jax.data import tasks
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.agora import leaks, mistakes
from bertlite_jax.jobs.agora.leaks import KeptOut
from bertlite_jax.jobs.agora.mistakes import Answer
from bertlite_jax.jobs.answering import inputs, task_splits
from bertlite_jax.jobs.finetuning.examples import training_examples
from bertlite_jax.jobs.finetuning.few_labels import masked_lm, teacher
from bertlite_jax.jobs.finetuning.prepare import digests
from bertlite_jax.jobs.finetuning.setup import Setup


class Ground(NamedTuple):
    """What a loop stands on."""

    loop: Loop
    sets: list[Set]
    """Of the first round."""
    folder: pathlib.Path
    """The work directory."""
    head: Head
    task: str
    metrics: tuple[str, ...]
    """Of the task; by the first one models are sorted."""
    dev: list[Example]
    """The validation examples, with labels."""
    examples: int
    """In the training split."""
    off_by: float
    """How much a number may be off, see `Agora.tolerance`."""
    kept_out: KeptOut
    """Of validation, test and other files that no point may come from."""
    train_rows: frozenset[int]
    """Hashes of the training examples, which need no second copy."""
    masked_lm: str
    """Digest of the masked language model; empty without one."""
    teacher: Answer
    right: int
    """Validation examples that the teacher answers rightly."""
    digests: dict[str, dict[str, str]]
    """Of the data and the models, by the names of `environment.json`."""


@contextlib.contextmanager
def naming() -> Iterator[None]:
    """Names our own options in messages about what fine-tuning has other options for."""
    try:
        yield
    except UserError as error:
        said = str(error)
        for theirs, ours in (
            ("finetune: learn.teacher =", "agora: --teacher"),
            ("finetune: learn.augment = masked_lm:", "agora: masked_lm:"),
            ("--learn.augment-model", "--agora.masked-lm, or leave masked_lm out of --agora.transforms"),
        ):
            said = said.replace(theirs, ours)
        raise UserError(said) from error


def learn_of(settings: Agora) -> Learn:
    """How a masked language model replaces words, as fine-tuning says it."""
    return Learn(
        augment="masked_lm",
        augment_rate=settings.rate,
        augment_model=settings.masked_lm,
        candidates=settings.candidates,
        copies=settings.points,
    )


def open_ground(loop: Loop, folder: pathlib.Path, setup: Setup, weights: Weights) -> Ground:
    """Reads what has to be known before the first model is trained, and asks the teacher. Writes nothing.

    Args:
      loop: with a recipe whose `auto` is decided.
      folder: the work directory.
      setup: of fine-tuning with the recipe.
      weights: of `loop.init`.

    Raises:
      UserError: the teacher cannot teach this task, or is right on too few examples; words cannot be replaced; a file
        cannot be read.
    """
    settings, start, task = loop.agora, setup.start, setup.task
    head, data = start.config.head, loop.recipe.data
    _check_confidence(settings, head)
    every = sets.every(loop.recipe, settings)
    with naming():
        replaces = "masked_lm" in settings.transforms
        proposes = masked_lm.check(learn_of(settings), loop.init, weights) if replaces else {}
        counts = setup.train.encoded.counts
        learner = dataclasses.replace(start.config, learn=dataclasses.replace(start.config.learn, teacher=loop.teacher))
        taught = teacher.check(learner, start.tokenizer, pairs_of(counts.get("pairs"), counts["examples"]))
    dev = [mistakes.bare(example, head) for example in setup.valid.examples]
    train = training_examples(task, data, head)
    train_rows = frozenset(leaks.row_of(mistakes.bare(example, head)) for example in train)
    off_by = settings.tolerance * float(np.ptp(setup.train.encoded.labels)) if head.problem == "regression" else 0.0
    answer = mistakes.open_model(loop.teacher, head)
    print(f"agora: the teacher {loop.teacher} answers {len(dev):,} validation examples", flush=True)
    right = int(mistakes.answered(answer, head, dev, off_by).sum())
    mistakes.check_teacher(loop.teacher, right, len(dev))
    return Ground(
        loop=loop,
        sets=every,
        folder=folder,
        head=head,
        task=task.name,
        metrics=task.metrics,
        dev=dev,
        examples=counts["examples"],
        off_by=off_by,
        kept_out=leaks.kept_out([*dev, *(mistakes.bare(example, head) for example in _others(task, loop, head))]),
        train_rows=train_rows,
        masked_lm="".join(proposes.values()),
        teacher=answer,
        right=right,
        digests={"corpora": digests(setup), "teachers": {loop.init: _digest(weights)} | proposes | taught},
    )


def _others(task: tasks.Task, loop: Loop, head: Head) -> Iterator[Example]:
    """Examples that are kept out, beside those of the validation split that are looked at."""
    data = loop.recipe.data
    yield from leaks.other_splits(task, data.folder)
    if "validation" not in task.splits and isinstance(task, tasks.OwnTask):  # Held out of the training file.
        yield from task_splits.examples_of(task, data, "validation")
    for path in loop.agora.keep_out:
        yield from inputs.read(path, head, task_splits.options_of_more(data), job="agora", labelled=False)


def _digest(weights: Weights) -> str:
    """SHA-256 of what every model starts from."""
    tokenizer = weights.tokenizer.hash if weights.tokenizer else ""
    return parameters.digest(weights.params, json.dumps([dataclasses.asdict(weights.model), tokenizer]))


def _check_confidence(settings: Agora, head: Head) -> None:
    if settings.confidence and head.kind != "choose" and head.problem != "single_label":
        raise UserError("config: agora.confidence is for tasks with one label or choice; leave it out")
