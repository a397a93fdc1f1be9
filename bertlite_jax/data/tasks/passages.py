"""MultiRC and ReCoRD: passages with questions; one example for each answer or entity.

Sources: Khashabi et al. 2018, Zhang et al. 2018 (arXiv 1810.12885) and the layouts of SuperGLUE's files.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from bertlite_jax.data.tasks import fields
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.files import Record, json_lines
from bertlite_jax.data.tasks.task import Task, needs_labels
from bertlite_jax.errors import UserError

PLACEHOLDER = "@placeholder"
_SENTENCE_MARK = re.compile(r"<b>Sent \d+: ?</b>|<br\s*/?>")
_HIGHLIGHT_AFTER_STOP = re.compile(r"([.?!\"'])\s*@highlight\s*")
_HIGHLIGHT = re.compile(r"\s*@highlight\s*")


def multirc(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """One example for each answer; the id is passage-question-answer, as the submission file nests them."""
    for line, record in json_lines(path, counts):
        where = f"{path}:{line}"
        passage = fields.typed(record, "passage", dict, where)
        text = " ".join(_SENTENCE_MARK.sub(" ", fields.text(passage, ("text",), where)).split())
        for question in _some(passage, "questions", where):
            group = f"{_index(record, where)}-{_index(question, where)}"
            asked = fields.text(question, ("question",), where)
            for answer in _some(question, "answers", where):
                yield (
                    line,
                    Example(
                        id=f"{group}-{_index(answer, where)}",
                        text=text,
                        pair=f"{asked} {fields.text(answer, ('text',), where)}",
                        label=fields.label(task, answer, split, where),
                        group=group,
                    ),
                )


def record(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """One example for each entity of the passage, filled into the query; the id is passage-query-number of the entity.

    Entities that are spelled alike are one example. Queries without an answer among the entities are counted as
    `answer_not_among_entities`: they cannot be answered.
    """
    for line, entry in json_lines(path, counts):
        where = f"{path}:{line}"
        passage = fields.typed(entry, "passage", dict, where)
        text = fields.typed(passage, "text", str, where)
        entities = list(dict.fromkeys(_entity(text, e, where) for e in _some(passage, "entities", where)))
        shown = _HIGHLIGHT.sub(". ", _HIGHLIGHT_AFTER_STOP.sub(r"\1 ", text)).strip()
        for query in _some(entry, "qas", where):
            group = f"{_index(entry, where)}-{_index(query, where)}"
            cloze = fields.text(query, ("query",), where)
            if PLACEHOLDER not in cloze:
                raise UserError(f"task: {where}: query {_index(query, where)} has no {PLACEHOLDER}")
            right = _answers(query, split, where)
            counts["answer_not_among_entities"] += bool(right) and not {gold for gold, _ in right} & set(entities)
            for number, entity in enumerate(entities):
                yield (
                    line,
                    Example(
                        id=f"{group}-{number}",
                        text=shown,
                        pair=cloze.replace(PLACEHOLDER, entity),
                        choices=(entity,),
                        label=int(entity in {gold for gold, _ in right}) if right else None,
                        group=group,
                        answers=right,
                    ),
                )


def balance(examples: Iterable[Example], seed: int) -> Iterator[Example]:
    """Of each group the examples with label 1 and as many others, drawn by seed and group, to train on ReCoRD.

    Nine of ten examples are wrong entities. Streams, one group at a time. Source: alexa/bort, which draws about one to
    one.
    """
    group: list[Example] = []
    for example in examples:
        if group and group[0].group != example.group:
            yield from _balanced(group, seed)
            group = []
        group.append(example)
    yield from _balanced(group, seed)


def _balanced(group: list[Example], seed: int) -> Iterator[Example]:
    if not group:
        return
    wrong = [place for place, example in enumerate(group) if example.label != 1]
    draw = random.Random(f"{seed} {group[0].group}")
    drawn = set(draw.sample(wrong, min(len(wrong), len(group) - len(wrong))))
    yield from (example for place, example in enumerate(group) if example.label == 1 or place in drawn)


def _objects(record: Record, name: str, where: str) -> list[dict[str, Any]]:
    objects = fields.typed(record, name, list, where)
    if not all(isinstance(item, dict) for item in objects):
        raise UserError(f"task: {where}: {name!r} is not a list of objects")
    return objects


def _some(record: Record, name: str, where: str) -> list[dict[str, Any]]:
    """At least one object: an empty list would drop a question silently."""
    if not (objects := _objects(record, name, where)):
        raise UserError(f"task: {where}: {name!r} is empty")
    return objects


def _index(record: Record, where: str) -> int:
    return fields.typed(record, "idx", int, where)


def _entity(text: str, span: Record, where: str) -> str:
    """The text of an entity; `end` is its last character."""
    start, end = (fields.typed(span, name, int, where) for name in ("start", "end"))
    if not 0 <= start <= end < len(text):
        raise UserError(f"task: {where}: an entity from {start} to {end} in a text of {len(text)} characters")
    return text[start : end + 1].strip()


def _answers(query: Record, split: str, where: str) -> tuple[tuple[str, int], ...]:
    if query.get("answers") is None and not needs_labels(split):
        return ()
    answers = _some(query, "answers", where) if needs_labels(split) else _objects(query, "answers", where)
    return tuple((fields.text(a, ("text",), where), fields.typed(a, "start", int, where)) for a in answers)
