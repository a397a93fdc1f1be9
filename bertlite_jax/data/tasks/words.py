"""Tasks that tag words, with BIO tags."""

from __future__ import annotations

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks import layouts
from bertlite_jax.data.tasks.task import Columns, Task


def bio(types: tuple[str, ...]) -> tuple[str, ...]:
    """O, and B- and I- of every type."""
    return ("O", *(f"{place}-{kind}" for kind in types for place in "BI"))


MOVIE_SLOTS = (
    "Actor",
    "Award",
    "Character_Name",
    "Director",
    "Genre",
    "Opinion",
    "Origin",
    "Plot",
    "Quote",
    "Relationship",
    "Soundtrack",
    "Year",
)

TASKS = (
    Task(
        name="mit_movies",
        head=Head(kind="tag", labels=bio(MOVIE_SLOTS)),
        metrics=("span_f1", "span_precision", "span_recall", "accuracy"),
        layout=layouts.tagged_words,
        splits={"train": (("train.jsonl",),), "validation": (("valid.jsonl",),), "test": (("test.jsonl",),)},
        columns=Columns(text=("tokens",), label=("tags",)),
        folders=("mit_movies",),
        rows={"train": 7034, "validation": 782, "test": 1953},
    ),
    Task(
        name="conll2003",
        head=Head(kind="tag", labels=bio(("LOC", "MISC", "ORG", "PER"))),
        metrics=("span_f1", "span_precision", "span_recall", "accuracy"),
        layout=layouts.tagged_words,
        splits={
            "train": (("train.txt",), ("eng.train",)),
            "validation": (("valid.txt",), ("eng.testa",)),
            "test": (("test.txt",), ("eng.testb",)),
        },
        folders=("conll2003",),
        rows={"train": 14041, "validation": 3250, "test": 3453},
    ),
)
