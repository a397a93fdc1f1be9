"""Labelled examples from a file of any form that `finetune` reads, to measure a classifier with."""

from __future__ import annotations

import json
import pathlib
from collections import Counter

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import reader
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.errors import UserError

USUAL_COLUMNS = OwnOptions()
"""Columns by their usual names."""


def read_labelled(path: str, head: Head, columns: OwnOptions = USUAL_COLUMNS) -> list[Example]:
    """The examples in order.

    Args:
      path: a table, JSON or Parquet.
      head: classifies with one label.
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
    return f'{{"text": "...", "label": {json.dumps(head.labels[0], ensure_ascii=False)}}} is a valid line'
