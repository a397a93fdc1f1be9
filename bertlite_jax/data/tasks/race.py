"""RACE: questions of English exams for middle and high schools, four options each.

Source: Lai et al. 2017 (arXiv 1704.04683); the blank of a question is filled with the option, or the option follows
the question (google-research/albert:race_utils.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks import fields
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.files import LINE_LIMIT, Record, json_lines, lines
from bertlite_jax.data.tasks.task import Files, Task, needs_labels
from bertlite_jax.errors import UserError
from bertlite_jax.host import json_files

LETTERS = "ABCDEFGHIJ"
BLANK = "_"


def passages(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """One example for each question; the id is passage-number of the question from 0, the group is the level.

    Files: one passage a line (JSONL, or `all.txt`), or one passage a file (the official folders of .txt files). A
    passage without questions (the official training set has some) is counted: `passages_without_questions`.
    """
    for line, passage in _objects(path, counts):
        where = f"{path}:{line}"
        name = fields.text(passage, ("id",), where)
        article = fields.text(passage, ("article",), where)
        questions = fields.strings(passage, "questions", where)
        options = fields.typed(passage, "options", list, where)
        answers = _answers(passage, split, where)
        if not len(questions) == len(options) == len(answers):
            raise UserError(
                f"task: {where}: {len(questions)} questions, {len(options)} lists of options, {len(answers)} answers"
            )
        counts["passages_without_questions"] += not questions
        for number, question in enumerate(questions):
            offered = _options(options[number], f"{where}: question {number}")
            yield (
                line,
                Example(
                    id=f"{name}-{number}",
                    text=article,
                    choices=tuple(filled(question, option) for option in offered),
                    label=_label(answers[number], len(offered), f"{where}: question {number}"),
                    group="high" if name.startswith("high") else "middle",
                ),
            )


def filled(question: str, option: str) -> str:
    """The option in every blank of the question, or behind a question without a blank."""
    if BLANK in question:
        return question.replace(BLANK, option).strip()
    return f"{question.strip()} {option}".strip()


def _objects(path: str, counts: Counter[str]) -> Iterator[tuple[int, Record]]:
    """One object a line; a .txt file whose first line is not a whole object is one object."""
    if not path.endswith(".txt"):
        yield from json_lines(path, counts)
        return
    first = next(lines(path), (1, ""))[1].strip()
    if first.startswith("{") and first.endswith("}") and len(first) > 1:
        yield from json_lines(path, counts)
        return
    parts, size = [], 0
    for _, line in lines(path):
        parts.append(line)
        size += len(line)
        if size > LINE_LIMIT:
            raise UserError(f"task: {path}:1: a passage of more than {LINE_LIMIT >> 20} MB")
    yield 1, json_files.parse_object("\n".join(parts), f"{path}:1", "task")


def _options(options: object, where: str) -> tuple[str, ...]:
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options) or len(options) < 2:
        raise UserError(f"task: {where}: the options are not a list of two or more strings")
    return tuple(option.strip() for option in options)


def _answers(passage: Record, split: str, where: str) -> tuple[str | None, ...]:
    if passage.get("answers") is None and not needs_labels(split):
        return (None,) * len(fields.typed(passage, "questions", list, where))
    return fields.strings(passage, "answers", where)


def _label(letter: str | None, options: int, where: str) -> int | None:
    return None if letter is None else fields.label_index(LETTERS[:options], letter.strip() or "?", where)


def _level(name: str) -> dict[str, Files]:
    """JSONL files named after split and level, or the official folders."""
    return {
        split: (
            (f"{prefix}_{name}*.jsonl",),
            (f"{folder}/{name}/all.txt",),
            (f"{folder}/{name}/*.txt",),
        )
        for split, prefix, folder in (
            ("train", "train", "train"),
            ("validation", "dev", "dev"),
            ("test", "test", "test"),
        )
    }


def _both() -> dict[str, Files]:
    middle, high = _level("middle"), _level("high")
    return {split: tuple(m + h for m, h in zip(middle[split], high[split], strict=True)) for split in middle}


def _task(name: str, splits: dict[str, Files], rows: tuple[int, int, int]) -> Task:
    return Task(
        name=name,
        head=Head(kind="choose", labels=()),
        metrics=("accuracy",),
        layout=passages,
        splits=splits,
        folders=("RACE", "race"),
        rows=dict(zip(("train", "validation", "test"), rows, strict=True)),
    )


TASKS = (
    _task("race_middle", _level("middle"), (25421, 1436, 1436)),
    _task("race_high", _level("high"), (62445, 3451, 3498)),
    _task("race", _both(), (87866, 4887, 4934)),
)
