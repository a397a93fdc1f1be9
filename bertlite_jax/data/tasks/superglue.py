"""The tasks of SuperGLUE, in the layouts of its official JSONL files, cast to texts, pairs and choices.

| task | first text | second text or choices | group |
|---|---|---|---|
| BoolQ | question | passage | |
| CB, RTE, AX-b, AX-g | premise | hypothesis | AX-g: the pair whose answers should agree |
| COPA | premise | "because" or "so" + choice | |
| MultiRC | passage | question + answer, one row an answer | the question |
| ReCoRD | passage | query with one entity in it, one row an entity | the query |
| WiC | "word: sentence" | "word: sentence" | |
| WSC | text | "span 2 means span 1" | |

Sources: Wang et al. 2019 (arXiv 1905.00537) and its file layouts; the casts of COPA, MultiRC, ReCoRD and WSC as in
alexa/bort. A ReCoRD row has its entity as `choices[0]` and the query's right answers in `answers`.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from bertlite_jax.config import Head, UserError
from bertlite_jax.data.example import Example
from bertlite_jax.data.tasks import fields, layouts
from bertlite_jax.data.tasks.files import Record, json_lines
from bertlite_jax.data.tasks.glue import BINARY, ENTAILMENT, THREE_WAY
from bertlite_jax.data.tasks.task import Columns, Files, Task, needs_labels

YES_NO = Head(labels=("false", "true"))
CHOICE = Head(kind="choose", labels=())

PLACEHOLDER = "@placeholder"
_CONNECTORS = {"cause": "because", "effect": "so"}
_SENTENCE_MARK = re.compile(r"<b>Sent \d+: ?</b>|<br\s*/?>")
_HIGHLIGHT_AFTER_STOP = re.compile(r"([.?!\"'])\s*@highlight\s*")
_HIGHLIGHT = re.compile(r"\s*@highlight\s*")


def copa(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """Two continuations of a premise, its cause or its effect."""
    for line, record in json_lines(path, counts):
        where = f"{path}:{line}"
        asked = fields.text(record, ("question",), where)
        if asked not in _CONNECTORS:
            raise UserError(f"task: {where}: 'question' is {asked[:40]!r}; cause or effect is expected")
        offered = tuple(fields.text(record, (name,), where) for name in ("choice1", "choice2"))
        yield (
            line,
            Example(
                id=fields.identity(record, task.columns, line),
                text=fields.text(record, ("premise",), where),
                choices=tuple(f"{_CONNECTORS[asked]} {choice}" for choice in offered),
                label=layouts.chosen(record, task.columns.label, offered, split, where),
            ),
        )


def wic(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """Whether a word means the same in two sentences; each text says which word."""
    for line, record in json_lines(path, counts):
        where = f"{path}:{line}"
        word = fields.text(record, ("word",), where)
        yield (
            line,
            Example(
                id=fields.identity(record, task.columns, line),
                text=f"{word}: {fields.text(record, ('sentence1',), where)}",
                pair=f"{word}: {fields.text(record, ('sentence2',), where)}",
                label=fields.label(task, record, split, where),
            ),
        )


def wsc(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """Whether a pronoun means a noun: the text, and the claim that it does."""
    for line, record in json_lines(path, counts):
        where = f"{path}:{line}"
        target = fields.typed(record, "target", dict, where)
        noun, pronoun = (fields.text(target, (name,), where) for name in ("span1_text", "span2_text"))
        yield (
            line,
            Example(
                id=fields.identity(record, task.columns, line),
                text=fields.text(record, ("text",), where),
                pair=f"{pronoun} means {noun}",
                label=fields.label(task, record, split, where),
            ),
        )


def ax_g(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """Pairs of sentences that differ in a pronoun's gender; two lines that follow each other are a pair."""
    for line, record in json_lines(path, counts):
        where = f"{path}:{line}"
        name = fields.identity(record, task.columns, line)
        pair = record.get("pair_id", int(name) // 2 if name.isdigit() else line // 2)
        yield (
            line,
            Example(
                id=name,
                text=fields.text(record, ("premise",), where),
                pair=fields.text(record, ("hypothesis",), where),
                label=fields.label(task, record, split, where),
                group=str(pair),
            ),
        )


def multirc(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """One row an answer; the id is passage-question-answer, as the submission file nests them."""
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
    """One row an entity of the passage, filled into the query; the id is passage-query-number of the entity.

    Entities that are written alike are one row. Queries whose answers are no entity of the passage are counted as
    `answer_not_among_entities`: they cannot be answered.
    """
    for line, found in json_lines(path, counts):
        where = f"{path}:{line}"
        passage = fields.typed(found, "passage", dict, where)
        text = fields.typed(passage, "text", str, where)
        entities = list(dict.fromkeys(_entity(text, e, where) for e in _some(passage, "entities", where)))
        shown = _HIGHLIGHT.sub(". ", _HIGHLIGHT_AFTER_STOP.sub(r"\1 ", text)).strip()
        for query in _some(found, "qas", where):
            group = f"{_index(found, where)}-{_index(query, where)}"
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
    """Of each group the rows of label 1 and as many others, drawn by seed and group: ReCoRD's training rows.

    Nine of ten rows are wrong entities. Source: alexa/bort, which draws about one to one. Streams, one group at a time.
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
    kept = set(draw.sample(wrong, min(len(wrong), len(group) - len(wrong))))
    yield from (example for place, example in enumerate(group) if example.label == 1 or place in kept)


def _objects(record: Record, name: str, where: str) -> list[dict[str, Any]]:
    found = fields.typed(record, name, list, where)
    if not all(isinstance(item, dict) for item in found):
        raise UserError(f"task: {where}: {name!r} is not a list of objects")
    return found


def _some(record: Record, name: str, where: str) -> list[dict[str, Any]]:
    """At least one object: without any, a question would be lost without a word."""
    if not (found := _objects(record, name, where)):
        raise UserError(f"task: {where}: {name!r} is empty")
    return found


def _index(record: Record, where: str) -> int:
    return fields.typed(record, "idx", int, where)


def _entity(text: str, span: Record, where: str) -> str:
    """The end is that of the last character, not behind it."""
    start, end = (fields.typed(span, name, int, where) for name in ("start", "end"))
    if not 0 <= start <= end < len(text):
        raise UserError(f"task: {where}: an entity from {start} to {end} in a text of {len(text)} characters")
    return text[start : end + 1].strip()


def _answers(query: Record, split: str, where: str) -> tuple[tuple[str, int], ...]:
    if query.get("answers") is None and not needs_labels(split):
        return ()
    found = _some(query, "answers", where) if needs_labels(split) else _objects(query, "answers", where)
    return tuple((fields.text(a, ("text",), where), fields.typed(a, "start", int, where)) for a in found)


_THREE: dict[str, Files] = {
    "train": (("train.jsonl",),),
    "validation": (("val.jsonl",), ("dev.jsonl",)),
    "test": (("test.jsonl",),),
}
_ENTAILED = Columns(text=("premise",), pair=("hypothesis",), id=("idx",))
_OWN = Columns(id=("idx",))


def _rows(train: int, dev: int, test: int) -> dict[str, int]:
    return {"train": train, "validation": dev, "test": test}


TASKS = (
    Task(
        name="boolq",
        head=YES_NO,
        metrics=("accuracy",),
        layout=layouts.texts,
        splits=_THREE,
        columns=Columns(text=("question",), pair=("passage",), id=("idx",)),
        folders=("BoolQ",),
        rows=_rows(9427, 3270, 3245),
        suite="superglue",
        sent_as={"test": "BoolQ.jsonl"},
    ),
    Task(
        name="cb",
        head=THREE_WAY,
        metrics=("f1_macro", "accuracy"),
        layout=layouts.texts,
        splits=_THREE,
        columns=_ENTAILED,
        folders=("CB",),
        rows=_rows(250, 56, 250),
        suite="superglue",
        sent_as={"test": "CB.jsonl"},
    ),
    Task(
        name="copa",
        head=CHOICE,
        metrics=("accuracy",),
        layout=copa,
        splits=_THREE,
        columns=_OWN,
        folders=("COPA",),
        rows=_rows(400, 100, 500),
        suite="superglue",
        sent_as={"test": "COPA.jsonl"},
    ),
    Task(
        name="multirc",
        head=BINARY,
        metrics=("group_f1a", "group_em"),
        layout=multirc,
        splits=_THREE,
        folders=("MultiRC",),
        rows=_rows(27243, 4848, 9693),
        suite="superglue",
        sent_as={"test": "MultiRC.jsonl"},
    ),
    Task(
        name="record",
        head=BINARY,
        metrics=("entity_f1", "entity_em"),
        layout=record,
        splits=_THREE,
        folders=("ReCoRD",),
        suite="superglue",
        sent_as={"test": "ReCoRD.jsonl"},
    ),
    Task(
        name="superglue_rte",
        head=ENTAILMENT,
        metrics=("accuracy",),
        layout=layouts.texts,
        splits=_THREE,
        columns=_ENTAILED,
        folders=("RTE",),
        rows=_rows(2490, 277, 3000),
        suite="superglue",
        sent_as={"test": "RTE.jsonl"},
    ),
    Task(
        name="wic",
        head=YES_NO,
        metrics=("accuracy",),
        layout=wic,
        splits=_THREE,
        columns=_OWN,
        folders=("WiC",),
        rows=_rows(5428, 638, 1400),
        suite="superglue",
        sent_as={"test": "WiC.jsonl"},
    ),
    Task(
        name="wsc",
        head=YES_NO,
        metrics=("accuracy",),
        layout=wsc,
        splits=_THREE,
        columns=_OWN,
        folders=("WSC",),
        rows=_rows(554, 104, 146),
        suite="superglue",
        sent_as={"test": "WSC.jsonl"},
        sent_labels=("False", "True"),
    ),
    Task(
        name="axb",
        head=ENTAILMENT,
        metrics=("mcc",),
        layout=layouts.texts,
        splits={"test": (("AX-b.jsonl",),)},
        columns=Columns(text=("sentence1",), pair=("sentence2",), id=("idx",)),
        folders=("AX-b",),
        rows={"test": 1104},
        suite="superglue",
        sent_as={"test": "AX-b.jsonl"},
    ),
    Task(
        name="axg",
        head=ENTAILMENT,
        metrics=("parity", "accuracy"),
        layout=ax_g,
        splits={"test": (("AX-g.jsonl",),)},
        columns=_ENTAILED,
        folders=("AX-g",),
        rows={"test": 356},
        suite="superglue",
        sent_as={"test": "AX-g.jsonl"},
    ),
)
"""AX-b and AX-g have no training file: a model of RTE answers them."""
