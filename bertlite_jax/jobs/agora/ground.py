"""What a loop stands on and does not change: its task, its validation examples, its teacher, and what is kept out."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bertlite_jax.config.agora import sets
from bertlite_jax.config.agora.sets import Set
from bertlite_jax.config.agora.settings import Agora, Loop
from bertlite_jax.config.few_labels import Learn
from bertlite_jax.config.model import Head
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.convert.weights.reading import pairs_of
from bertlite_jax.data import tasks
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.host.whole_files import sha256_of
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
    _check_fits(settings, head)
    every = sets.every(loop.recipe, settings)
    proposes, taught = _models(loop, setup, weights)
    dev = [mistakes.bare(example, head) for example in setup.valid.examples]
    train = training_examples(task, data, head)
    train_rows = frozenset(leaks.row_of(mistakes.bare(example, head)) for example in train)
    off_by = settings.tolerance * float(np.ptp(setup.train.encoded.labels)) if head.problem == "regression" else 0.0
    kept_out = leaks.kept_out([*dev, *(mistakes.bare(example, head) for example in _others(task, loop, head))])
    answer, right = _asked(loop.teacher, head, dev, off_by)
    return Ground(
        loop=loop,
        sets=every,
        folder=folder,
        head=head,
        task=task.name,
        metrics=task.metrics,
        dev=dev,
        examples=setup.train.encoded.counts["examples"],
        off_by=off_by,
        kept_out=kept_out,
        train_rows=train_rows,
        masked_lm="".join(proposes.values()),
        teacher=answer,
        right=right,
        digests={
            "corpora": digests(setup) | {path: sha256_of(path) for path in settings.keep_out},
            "teachers": {loop.init: masked_lm.digest_of(weights)} | proposes | taught,
        },
    )


def _models(loop: Loop, setup: Setup, weights: Weights) -> tuple[dict[str, str], dict[str, str]]:
    """Folder and digest of the masked language model, if there is one, and of the teacher.

    Raises:
      UserError: one of them cannot do what the loop needs.
    """
    settings, config, counts = loop.agora, setup.start.config, setup.train.encoded.counts
    with naming():
        replaces = "masked_lm" in settings.transforms
        proposes = masked_lm.check(learn_of(settings), loop.init, weights) if replaces else {}
        learner = dataclasses.replace(config, learn=dataclasses.replace(config.learn, teacher=loop.teacher))
        pairs = pairs_of(counts.get("pairs"), counts["examples"])
        return proposes, teacher.check(learner, setup.start.tokenizer, pairs)


def _asked(folder: str, head: Head, dev: list[Example], off_by: float) -> tuple[Answer, int]:
    """Opens the teacher; returns it, and how many validation examples it answers rightly. Raises UserError: too few."""
    answer = mistakes.open_model(folder, head)
    print(f"agora: the teacher {folder} answers {len(dev):,} validation examples", flush=True)
    right = int(mistakes.answered(answer, head, dev, off_by).sum())
    mistakes.check_teacher(folder, right, len(dev), off_by)
    if (same := mistakes.majority(head, dev)) >= right:
        print(
            f"agora: the teacher answers {right:,} rightly, and one label for all would answer {same:,}: its labels "
            "may teach nothing; a better teacher, or a validation file with about as many examples of each label, helps"
        )
    return answer, right


def _others(task: tasks.Task, loop: Loop, head: Head) -> Iterator[Example]:
    """Examples that are kept out, beside those of the validation split that are looked at."""
    data = loop.recipe.data
    yield from leaks.other_splits(task, data.folder)
    if "validation" not in task.splits and isinstance(task, tasks.OwnTask):  # Held out of the training file.
        yield from task_splits.examples_of(task, data, "validation")
    for path in loop.agora.keep_out:
        yield from inputs.read(path, head, task_splits.options_of_more(data), job="agora", labelled=False)


def _check_fits(settings: Agora, head: Head) -> None:
    """Raises UserError for a setting that the task leaves without effect."""
    if settings.tolerance != Agora().tolerance and head.problem != "regression":
        raise UserError("config: agora.tolerance is for tasks with numbers; leave it out")
    if settings.confidence and head.kind != "choose" and head.problem != "single_label":
        raise UserError("config: agora.confidence is for tasks with one label or choice; leave it out")
