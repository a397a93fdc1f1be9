"""The table of tasks. Another task of a known kind is one more entry."""

from __future__ import annotations

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks import glue, layouts, race, spans, superglue, words
from bertlite_jax.data.tasks.task import Columns, Task

CHNSENTICORP = Task(
    name="chnsenticorp",
    head=Head(labels=("0", "1")),
    metrics=("accuracy",),
    layout=layouts.texts,
    splits={"train": (("train.jsonl",),), "validation": (("valid.jsonl",),), "test": (("test.jsonl",),)},
    columns=Columns(text=("text1",)),
    folders=("chnsenticorp",),
    rows={"train": 9146, "validation": 1200, "test": 1200},
)
"""Reviews of hotels, books and computers in Chinese; 1 is favourable."""

TASKS: dict[str, Task] = {
    task.name: task for task in (*glue.TASKS, *superglue.TASKS, *spans.TASKS, *race.TASKS, *words.TASKS, CHNSENTICORP)
}
