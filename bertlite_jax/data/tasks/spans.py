"""Question answering by a span of the context: SQuAD 1.1 and 2.0, CMRC 2018. `questions` reads the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks import questions
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.task import Task


def asked(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """The questions of a file, each with its number in the file instead of a line.

    Adds the counts of `questions` for odd things: moved_answers, missing_answers and others.
    """
    notes = questions.Notes()
    try:
        yield from enumerate(questions.read([path], notes), 1)
    finally:
        # These two are counted for every task.
        counts.update({name: n for name, n in notes.counts.items() if name not in ("questions", "unlabelled")})


_TRAIN = (("train.json",), ("train.jsonl",))
_VALIDATION = (("dev.json",), ("dev.jsonl",), ("valid.json",), ("valid.jsonl",))


def _squad(name: str, version: str, rows: tuple[int, int], no_answer: bool) -> Task:
    return Task(
        name=name,
        head=Head(kind="span", labels=(), no_answer=no_answer),
        metrics=("answer_f1", "answer_exact"),
        layout=asked,
        splits={
            "train": ((f"train-{version}.json",), *_TRAIN),
            "validation": ((f"dev-{version}.json",), *_VALIDATION),
        },
        folders=("squad", "SQuAD"),
        rows=dict(zip(("train", "validation"), rows, strict=True)),
    )


TASKS = (
    _squad("squad1", "v1.1", (87599, 10570), no_answer=False),
    _squad("squad2", "v2.0", (130319, 11873), no_answer=True),
    Task(
        name="cmrc2018",
        head=Head(kind="span", labels=()),
        metrics=("chinese_average", "chinese_f1", "chinese_exact"),
        layout=asked,
        splits={
            "train": (("cmrc2018_train.json",), *_TRAIN),
            "validation": (("cmrc2018_dev.json",), *_VALIDATION),
            "test": (("cmrc2018_trial.json",),),
        },
        folders=("cmrc2018",),
        rows={"train": 10142, "validation": 3219, "test": 1002},
    ),
)
"""The test sets of SQuAD and CMRC 2018 are not published; CMRC's trial set takes the place of one. A user's own files
in one of these layouts are called train.json(l) and dev.json(l)."""
