"""New training points: mistakes are changed, what leaks or is too near or too far goes, the teacher labels the rest."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bertlite_jax.config.agora.settings import Agora
from bertlite_jax.config.model import Head
from bertlite_jax.data.examples import augment, transformations
from bertlite_jax.data.examples.subsequence import distance
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own.options import OwnOptions
from bertlite_jax.host import whole_files
from bertlite_jax.jobs.agora.leaks import row_of
from bertlite_jax.jobs.agora.mistakes import Answer
from bertlite_jax.jobs.answering import inputs, outputs
from bertlite_jax.jobs.finetuning.few_labels import copies

DRAWS = 2
"""How often a transformation is tried before the next one is."""

Transform = Callable[[Example, int], Example]
"""(mistake, number of the draw) -> a changed example without a label."""


# --- Changed examples ------------------------------------------------------------------------------------------------


def transforms_of(settings: Agora, seed: int, masked_lm: copies.Changes | None) -> list[Transform]:
    """The transformations of the settings, in their order.

    Args:
      settings: of the loop.
      seed: of the draws.
      masked_lm: the words that a masked language model proposes, if the settings ask for them.
    """
    found: list[Transform] = []
    for name in settings.transforms:
        if name == "masked_lm":
            assert masked_lm is not None
            found.append(_of_changes(masked_lm))
        else:
            make = transformations.make_deletion if name == "deletion" else transformations.make_swap
            found.append(_of_words(make(settings.rate, seed)))
    return found


def _of_changes(changes: copies.Changes) -> Transform:
    return lambda example, number: copies.changed(example, changes, number)


def _of_words(change: augment.Change) -> Transform:
    return _of_changes(copies.Changes(lambda text, number: augment.in_text(change, text, number), change))


def changed(
    mistakes: Sequence[Example],
    transforms: Sequence[Transform],
    settings: Agora,
    round_number: int,
    is_new: Callable[[Example], bool],
) -> list[Example]:
    """Changed examples, at most `points` of each mistake: the first of all mistakes, then the second, and so on.

    Transformations take turns in coming first. Where none gives what can be used, a template is tried.

    Args:
      mistakes: validation examples.
      transforms: of the loop.
      settings: of the loop.
      round_number: from 1; each round draws anew.
      is_new: whether an example may become a point at all.
    """
    found: list[Example] = []
    seen: set[int] = set()
    for copy in range(settings.points):
        for place, mistake in enumerate(mistakes):
            number = (round_number << 36 | place << 12 | copy) << 16
            for candidate in _candidates(mistake, transforms, settings.templates, copy, number):
                row = row_of(candidate)
                if row not in seen and is_new(candidate) and _fits(mistake, candidate, settings):
                    seen.add(row)
                    found.append(dataclasses.replace(candidate, id=f"{round_number}-{mistake.id}-{copy}"))
                    break
    return found


def _candidates(
    mistake: Example, transforms: Sequence[Transform], templates: Sequence[str], copy: int, number: int
) -> Iterator[Example]:
    """What may become the point of a mistake, in the order in which it is tried."""
    first = copy % max(1, len(transforms))
    for turn, transform in enumerate((*transforms[first:], *transforms[:first])):
        for draw in range(DRAWS):
            # Each of its texts has a number of its own.
            yield transform(mistake, number + ((turn * DRAWS + draw) << 8))
    for place in range(len(templates)):
        yield transformations.in_template(mistake, templates[(copy + place) % len(templates)])


def _fits(mistake: Example, candidate: Example, settings: Agora) -> bool:
    """Whether the share of the words that differ is neither too small nor too large."""
    found = distance(_words_of(mistake), _words_of(candidate))
    return settings.least_distance <= found <= settings.most_distance


def _words_of(example: Example) -> list[str]:
    return [word for text in (example.text, example.pair or "", *example.choices) for word in augment.words_of(text)[0]]


# --- Labels ----------------------------------------------------------------------------------------------------------


def labelled(points: Sequence[Example], answer: Answer, head: Head, confidence: float) -> list[Example]:
    """The points with the labels that the teacher gives them, without those of which it is not sure enough."""
    found = []
    for point, logits in zip(points, answer(points), strict=True):
        (given,) = outputs.predictions(head, [logits], [point])
        if head.kind == "choose" or head.problem == "single_label":
            if given.max() < confidence:
                continue
            given = int(np.argmax(given))
        found.append(dataclasses.replace(point, label=given))
    return found


def balanced(points: Sequence[Example], head: Head, most: int) -> list[Example]:
    """The first points, `most` at most; where each has one label, no label has more than its even part of `most`."""
    if (head.kind, head.problem) != ("classify", "single_label"):
        return list(points[:most])
    part, counts, found = -(-most // len(head.labels)), Counter[Any](), []
    for point in points:
        if counts[point.label] < part and len(found) < most:
            counts[point.label] += 1
            found.append(point)
    return found


# --- Their file ------------------------------------------------------------------------------------------------------


def write(
    path: pathlib.Path, before: Sequence[str], points: Sequence[Example], head: Head, columns: OwnOptions
) -> None:
    """Writes a file of `data.added_file`: lines of earlier rounds, and a line for each new point.

    Args:
      path: of the file.
      before: lines, as of `lines_of`.
      points: new ones.
      head: of the model.
      columns: as of `task_splits.options_of_more`.
    """
    lines = [json.dumps(record_of(point, head, columns), ensure_ascii=False) for point in points]
    path.parent.mkdir(parents=True, exist_ok=True)
    whole_files.write_text(path, "".join(f"{line}\n" for line in (*before, *lines)))


def record_of(point: Example, head: Head, columns: OwnOptions) -> dict[str, Any]:
    """A point as `bertlite predict` and `data.added_file` read it.

    Its fields are called as the user called the columns of the training file, since that is how it is read. Where
    labels have a column each, their names stand in one list.
    """
    record: dict[str, Any] = {columns.id or "id": point.id, columns.text or "text": point.text}
    if point.pair is not None:
        record[columns.pair or "pair"] = point.pair
    if len(columns.choices) > 1:
        record |= zip(columns.choices, point.choices, strict=True)
    elif point.choices:
        record[columns.choices[0] if columns.choices else "choices"] = list(point.choices)
    label = "label" if not columns.label or "," in columns.label else columns.label
    return record | {label: _as_written(point.label, head)}


def _as_written(label: Any, head: Head) -> Any:
    """A label as a file has it: a choice by its number, others by name."""
    if head.kind == "choose" or head.problem == "regression":
        return label
    if head.problem == "multi_label":
        return [name for name, bit in zip(head.labels, label, strict=True) if bit]
    return head.labels[label]


def lines_of(path: pathlib.Path) -> list[str]:
    """The lines of a file of points; none where there is no file."""
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []


def rows_in(path: pathlib.Path, head: Head, columns: OwnOptions) -> set[int]:
    """A hash of the texts of each point in a file; nothing where there is no file or no line.

    Raises:
      UserError: a line is damaged.
    """
    if not lines_of(path):
        return set()
    return {row_of(example) for example in inputs.read(str(path), head, columns, job="agora", labelled=False)}
