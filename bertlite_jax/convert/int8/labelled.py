"""Labelled examples from a file of any form that `finetune` reads, to measure a task model with.

Letters: M examples, W windows, T tokens in all windows, C outputs of the head.
"""

from __future__ import annotations

import json
import pathlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bertlite_jax.config.model import Head
from bertlite_jax.data.examples.features import Encoded
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import reader
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError

USUAL_COLUMNS = OwnOptions()
"""Columns by their usual names."""


class Scorer(NamedTuple):
    """The metric of a task. It comes from the caller: a run knows which of them decided about its best model.

    Attributes:
      metric: its name.
      score: (examples, logits of each) -> the metric. Logits are [C]; for multiple choice [choices]; for tags [words
        that fit, C].
    """

    metric: str
    score: Callable[[Sequence[Example], Sequence[np.ndarray]], float]


class Labelled(NamedTuple):
    """Examples that are scored together.

    Attributes:
      examples: [M], each with a label that the head has.
      encoded: the same examples as windows.
      scorer: what is measured on them.
    """

    examples: list[Example]
    encoded: Encoded
    scorer: Scorer

    def score(self, logits: np.ndarray, head: Head) -> float:
        """The metric of a file's answers: [M, C], for multiple choice [W, 1], for tags [T, C]."""
        return self.scorer.score(self.examples, of_examples(logits, self.encoded, head))


def of_examples(logits: np.ndarray, encoded: Encoded, head: Head) -> list[np.ndarray]:
    """The logits of each example, as `Scorer.score` takes them."""
    if head.kind == "choose":
        return np.split(logits.reshape(-1), encoded.firsts[1:-1])
    if head.kind == "tag":
        parts = (np.split(each, encoded.offsets[1:-1]) for each in (logits, encoded.words))
        return [rows[words >= 0] for rows, words in zip(*parts, strict=True)]
    return list(logits)


def read_labelled(path: str, head: Head, columns: OwnOptions = USUAL_COLUMNS) -> list[Example]:
    """The examples in order.

    Args:
      path: a table, JSON, Parquet, or CoNLL columns.
      head: of the model, not for spans.
      columns: what was said of the columns when the model was trained.

    Raises:
      UserError: the file or a line cannot be read, or an example has no label or one that the model lacks; names the
        file, mostly the line, and what would be right.
    """
    if not pathlib.Path(path).is_file():
        what = "is a folder" if pathlib.Path(path).is_dir() else "does not exist"
        raise UserError(f"convert: {path} {what}; --data takes a file of labelled examples")
    examples: list[Example] = []
    unknown: dict[str, int] = {}
    for line, example in reader.examples(path, head, columns, Counter(), unknown):
        if unknown:
            raise UserError(
                f"convert: {path}:{line}: the label is {json.dumps(next(iter(unknown)), ensure_ascii=False)}; the "
                f"model's labels are: {', '.join(head.labels)}"
            )
        if example.label is None:
            raise UserError(f"convert: {path}:{line}: no label; {_right(head)}")
        examples.append(example)
    if not examples:
        raise UserError(f"convert: {path}: no example; {_right(head)}")
    return examples


def _right(head: Head) -> str:
    """What would be right: a line that has everything which this head needs."""
    label = json.dumps(head.labels[0], ensure_ascii=False) if head.labels else ""
    if head.kind == "tag":
        return f'{{"words": ["..."], "tags": [{label}]}} is a valid line'
    if head.kind == "choose":
        return '{"text": "...", "choices": ["...", "..."], "label": 0} is a valid line'
    if head.problem == "regression":
        label = "0.5"
    return f'{{"text": "...", "label": {f"[{label}]" if head.problem == "multi_label" else label}}} is a valid line'
