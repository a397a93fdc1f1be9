"""The validation split that decided which model of a fine-tuning run is best, and what models answer to it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from bertlite_jax.config.finetune import Finetuned
from bertlite_jax.convert.weights.folder import Weights
from bertlite_jax.data.scores.answers import Prediction
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own.reader import within
from bertlite_jax.jobs.answering import span_predict, task_splits
from bertlite_jax.jobs.answering.open_model import open_task_model

_CHUNK = 512
"""Examples that are answered together."""


def examples_of(config: Finetuned) -> list[Example]:
    """The examples of a run's task, without those whose label the model lacks.

    Such a label has no probability; its examples are errors in the score, and not looked at further.

    Raises:
      UserError: the data is gone.
    """
    task = task_splits.task_of(config.data)
    split = next((name for name in task.splits if name.startswith("validation")), "validation")
    stream = task_splits.examples_of(task, config.data, split)
    examples = list(itertools.islice(stream, config.data.validation_examples or None))
    if config.head.kind == "span":
        return examples
    examples = [within(example, config.head) for example in examples]
    return [example for example in examples if example.label is not None]


def outputs_of(place: str, loaded: Weights, examples: Sequence[Example]) -> list[np.ndarray]:
    """What a model, loaded from a place, answers to each example: logits as of `outputs.outputs_of`; not for spans."""
    model = open_task_model(place, loaded)
    outputs: list[np.ndarray] = []
    for first in range(0, len(examples), _CHUNK):
        outputs += model.answer(examples[first : first + _CHUNK])[0]
    return outputs


def spans_of(place: str, loaded: Weights, examples: Sequence[Example]) -> list[Prediction]:
    """The answers to each question."""
    model = span_predict.open_model(loaded, place)
    found: list[Prediction] = []
    for first in range(0, len(examples), _CHUNK):
        found += model.answer(examples[first : first + _CHUNK], span_predict.MOST_ANSWERS)[0]
    return found
