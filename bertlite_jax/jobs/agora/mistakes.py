"""What a model answers to examples, which of the answers are right, and whether a teacher is right often enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from bertlite_jax.config.model import Head
from bertlite_jax.data.scores import task_metrics
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.answering import outputs
from bertlite_jax.jobs.finetuning.few_labels import teacher

LEAST = Fraction(2, 3)
"""Of its answers, a teacher gives more than this share rightly. Source: de Wynter 2020 (arXiv 2010.07990)."""
_CHUNK = 512
"""Examples that are answered at once."""

Answer = Callable[[Sequence[Example]], list[Float[np.ndarray, "..."]]]
"""(examples) -> the logits of each: [C], or [choices]."""


def check_kind(head: Head) -> None:
    """Raises UserError for a task in which an example as a whole is neither right nor wrong."""
    if head.kind in ("tag", "span"):
        what = "tags of words" if head.kind == "tag" else "places in texts"
        raise UserError(
            f"agora: the task asks for {what}: a changed text has other ones, and no example is just a mistake; Agora "
            "is for labels, choices and numbers"
        )


def open_model(folder: str, head: Head) -> Answer:
    """Opens a task model whose answers come in the order of the labels of `head`."""
    answer_chunk = teacher.open_answers(folder, head, "agora")

    def answer(examples: Sequence[Example]) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        for first in range(0, len(examples), _CHUNK):
            found += answer_chunk([bare(example, head) for example in examples[first : first + _CHUNK]])
        return [logits[:, 0] if head.kind == "choose" else logits[0] for logits in found]

    return answer


def bare(example: Example, head: Head) -> Example:
    """An example with nothing but what a model reads, and its label: ReCoRD's entity is no choice of it."""
    choices = example.choices if head.kind == "choose" else ()
    return Example(example.id, example.text, example.pair, choices, label=example.label)


def right(head: Head, answers: Sequence[Any], examples: Sequence[Example], off_by: float) -> Bool[np.ndarray, " M"]:
    """Which examples are answered rightly.

    One label or choice: it is the likeliest. Several labels: these and no others. Numbers: none is off by more.

    Args:
      head: of the model.
      answers: as of `outputs.predictions`.
      examples: with labels, M of them.
      off_by: how much a number may be off.
    """
    if head.problem == "regression":
        gold = np.array([example.label for example in examples], float).reshape(len(examples), -1)
        given = np.array(answers, float).reshape(len(examples), -1)
        return np.all(np.abs(given - gold) <= off_by, axis=1)
    if head.problem == "multi_label":
        # Labels that the head lacks stand behind its own, and are never answered.
        return np.array([_padded(answer, e.label) == e.label for answer, e in zip(answers, examples, strict=True)])
    return np.array([task_metrics.decided(answer) == e.label for answer, e in zip(answers, examples, strict=True)])


def _padded(bits: Sequence[int], label: Any) -> tuple[int, ...]:
    return (*map(int, bits), *(0,) * (len(label) - len(bits)))


def answered(answer: Answer, head: Head, examples: Sequence[Example], off_by: float) -> Bool[np.ndarray, " M"]:
    """Which examples a model answers rightly."""
    return right(head, outputs.predictions(head, answer(examples), examples), examples, off_by)


def check_teacher(folder: str, correct: int, examples: int, off_by: float = 0.0) -> None:
    """Raises UserError for a teacher that is not right on more than two thirds of the examples.

    Args:
      folder: of the teacher.
      correct: examples that it answers rightly.
      examples: all.
      off_by: how much a number may be off; 0 for labels and choices.
    """
    if Fraction(correct, examples) > LEAST:
        return
    within = f" (off by at most {off_by:g})" if off_by else ""
    more = ", or allow more with --agora.tolerance" if off_by else ""
    raise UserError(
        f"agora: --teacher {folder} answers {correct:,} of {examples:,} validation examples rightly{within}, "
        f"{correct / examples:.1%}, and its labels help only if it is right on more than two thirds; train it longer "
        f"or on more text, or name another one{more}"
    )


def majority(head: Head, examples: Sequence[Example]) -> int:
    """How many examples one label for all of them answers rightly; 0 where examples do not have one label each."""
    if (head.kind, head.problem) != ("classify", "single_label"):
        return 0
    return max(Counter(example.label for example in examples).values(), default=0)
