"""The tasks of SuperGLUE, in the layouts of its official JSONL files, cast to texts, pairs and choices.

| task | first text | second text or choices | group |
|---|---|---|---|
| BoolQ | question | passage | |
| CB, RTE, AX-b, AX-g | premise | hypothesis | AX-g: the pair whose answers should agree |
| COPA | premise | "because" or "so" + choice | |
| MultiRC | passage | question + answer, one row an answer | the question |
| ReCoRD | passage | query with one entity in it, one row an entity | the query |
| WiC | "word: sentence" | "word: sentence" | |
| WSC | text, its pronoun between asterisks | "pronoun means noun" | |

Sources: Wang et al. 2019 (arXiv 1905.00537) and its file layouts; the casts of COPA, MultiRC, ReCoRD and WSC as in
alexa/bort; the asterisks as in Raffel et al. 2020 (arXiv 1910.10683, section 2.4). A ReCoRD row has its entity as
`choices[0]` and the query's right answers in `answers`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks import fields, layouts, passages
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.files import json_lines
from bertlite_jax.data.tasks.glue import BINARY, ENTAILMENT, THREE_WAY
from bertlite_jax.data.tasks.task import Columns, Files, Task
from bertlite_jax.errors import UserError

YES_NO = Head(labels=("false", "true"))
CHOICE = Head(kind="choose", labels=())

_CONNECTORS = {"cause": "because", "effect": "so"}


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
    """Whether a word means the same in two sentences; each text begins with the word."""
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
    """Whether a pronoun means a noun: the text with the pronoun marked, and the claim that it does.

    Counted: `pronoun_elsewhere` if it is not at its index but at another (the nearest is marked), `pronoun_not_found`
    if it does not occur (nothing is marked).
    """
    for line, record in json_lines(path, counts):
        where = f"{path}:{line}"
        target = fields.typed(record, "target", dict, where)
        noun, pronoun = (fields.text(target, (name,), where) for name in ("span1_text", "span2_text"))
        index = fields.typed(target, "span2_index", int, where)
        yield (
            line,
            Example(
                id=fields.identity(record, task.columns, line),
                text=marked(fields.text(record, ("text",), where), pronoun, index, counts),
                pair=f"{pronoun} means {noun}",
                label=fields.label(task, record, split, where),
            ),
        )


def marked(text: str, pronoun: str, index: int, counts: Counter[str]) -> str:
    """The text with asterisks around the pronoun that begins in word `index`, or in the word nearest to it.

    Words are counted as the official files do, between spaces: "he" may be the 4th word as `"He,`. Some official
    indices are one off.
    """
    matches = list(re.finditer(rf"(?<!\w){re.escape(pronoun)}(?!\w)", text, re.IGNORECASE)) if pronoun else []
    if not matches:
        counts["pronoun_not_found"] += 1
        return text
    places = [len(text[: match.start() + 1].split()) - 1 for match in matches]
    nearest = min(range(len(matches)), key=lambda at: abs(places[at] - index))
    counts["pronoun_elsewhere"] += places[nearest] != index
    start, end = matches[nearest].span()
    return f"{text[:start]}*{text[start:end]}*{text[end:]}"


def ax_g(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """Pairs of sentences that differ in a pronoun's gender; two consecutive lines are a pair."""
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
        layout=passages.multirc,
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
        layout=passages.record,
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
"""AX-b and AX-g have no training file; a model of RTE answers them."""
