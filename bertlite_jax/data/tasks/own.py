"""Users' own files as tasks of any known kind: CSV, TSV, JSONL or CoNLL columns."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks import fields, layouts
from bertlite_jax.data.tasks.files import field_names, records
from bertlite_jax.data.tasks.task import Columns, Task
from bertlite_jax.errors import UserError

Kind = Literal["classify", "multi_label", "regression", "choose", "tag"]

TEXT = ("text", "text1", "sentence", "sentence1", "premise", "question")
PAIR = ("pair", "text2", "sentence2", "hypothesis")
LABEL = ("label", "labels", "gold_label", "score")
WORDS = ("tokens", "words")
TAGS = ("tags", "labels", "ner_tags")
IDS = ("id", "idx", "index")
MOST_LABELS = 1000

_METRICS = {
    "classify": ("accuracy", "f1_macro"),
    "multi_label": ("f1_micro", "f1_macro", "exact"),
    "regression": ("pearson", "spearman"),
    "choose": ("accuracy",),
}
_SPANS = ("span_f1", "span_precision", "span_recall", "accuracy")


def task_of_file(
    train: str = "",
    validation: str = "",
    test: str = "",
    *,
    kind: Kind = "classify",
    text: str = "",
    pair: str = "",
    label: str = "",
    id: str = "",
    choices: Sequence[str] = (),
    labels: Sequence[str] = (),
    separator: str = "|",
) -> Task:
    """A task whose splits are the given files; `read(task, "", split)` reads them.

    The name of a file decides its format: `.jsonl` (also `.ndjson`, `.json`) is one object a line, `.csv` is
    comma-separated with RFC 4180 quotes, others are tab-separated without quotes; CSV and TSV begin with a header.
    For `tag` other names are CoNLL columns.

    Args:
      train: file of the training split. One of the three files has to be given.
      validation: file of the validation split.
      test: file of the test split, which may lack labels.
      kind: what is predicted. `multi_label`: a list of names, or one string with `separator` between them;
        `regression`: a number; `choose`: the number of the right choice from 0; `tag`: a tag for each word.
      text: column or field of the text; empty: the first of `TEXT` that the first file has. For `tag`: the list of
        words in a JSONL file; empty: the first of `WORDS`.
      pair: column or field of the second text; empty: the first of `PAIR`; if there is none, examples are single texts.
      label: column or field of the label; empty: the first of `LABEL`. For `tag`: the list of tags; empty: `TAGS`.
      id: column or field of the id; empty: the first of `IDS`; if there is none, ids are line numbers.
      choices: for `choose`: a field with a list, or one column each; empty: the field `choices`.
      labels: names of the outputs in their order; empty: those of `train`, numbers by size, others in alphabetical
        order.
      separator: between the labels of one example, for `multi_label` in CSV and TSV.

    Raises:
      UserError: a file or a column is missing, or there is no label or more than `MOST_LABELS`.
    """
    splits = {"train": train, "validation": validation, "test": test}
    given = {split: str(pathlib.Path(path).absolute()) for split, path in splits.items() if path}
    if not given:
        raise UserError("task: no file is given; a training, validation or test file is needed")
    for path in given.values():
        if not pathlib.Path(path).is_file():
            raise UserError(f"task: {path}: no such file")
    first = next(iter(given.values()))
    if kind == "tag":
        names = (id,) if id else _usual_ids(first) if layouts.is_json(first) else ()
        columns = Columns(text=(text,) if text else WORDS, label=(label,) if label else TAGS, id=names)
    else:
        columns = _columns(first, text, pair, label, id, tuple(choices), kind, separator)
    names = tuple(labels) or _labels(kind, given.get("train", ""), columns)
    return Task(
        name=pathlib.Path(first).stem,
        head=_head(kind, names),
        metrics=_metrics(kind, names),
        layout={"tag": layouts.tagged_words, "choose": layouts.choices}.get(kind, layouts.texts),
        splits={split: ((path,),) for split, path in given.items()},
        columns=columns,
    )


def _columns(
    path: str, text: str, pair: str, label: str, id: str, choices: tuple[str, ...], kind: Kind, separator: str
) -> Columns:
    has = field_names(path)
    for name in (text, pair, id, *choices):
        if name:
            fields.find(dict.fromkeys(has), (name,), f"{path}:1")
    usual = next((name for name in TEXT if name in has), "")
    if not text and not usual:
        raise UserError(f"task: {path}:1: which column is the text? It has: {', '.join(has[:12])}")
    text = text or usual
    if kind != "choose":
        pair = pair or next((name for name in PAIR if name in has and name != text), "")
    return Columns(
        text=(text,),
        pair=(pair,) if pair else (),
        label=(label,) if label else LABEL,
        id=(id,) if id else _usual_ids(path),
        choices=(choices or ("choices",)) if kind == "choose" else (),
        separator=separator,
    )


def _usual_ids(path: str) -> tuple[str, ...]:
    """The first of `IDS` that the file has, or none: then ids are line numbers and need no memory."""
    has = field_names(path)
    return tuple(name for name in IDS if name in has)[:1]


def _head(kind: Kind, names: tuple[str, ...]) -> Head:
    if kind in ("tag", "choose"):
        return Head(kind=kind, labels=names)
    return Head(labels=names, problem="single_label" if kind == "classify" else kind)


def _metrics(kind: Kind, names: tuple[str, ...]) -> tuple[str, ...]:
    if kind == "tag":
        return _SPANS if any(name.startswith("B-") for name in names) else ("accuracy",)
    return _METRICS[kind]


def _labels(kind: Kind, train: str, columns: Columns) -> tuple[str, ...]:
    if kind == "regression":
        return ("score",)
    if kind == "choose":
        return ()
    if not train:
        raise UserError("task: name the labels; there is no training file to take them from")
    labels: dict[str, None] = {}
    for name in _names_in(kind, train, columns):
        labels[name] = None
        if len(labels) > MOST_LABELS:
            raise UserError(f"task: {train}: more than {MOST_LABELS} labels; is it a regression, or another column?")
    if not labels:
        raise UserError(f"task: {train}: it has no label")
    return tuple(sorted(labels, key=_order))


def _names_in(kind: Kind, path: str, columns: Columns) -> Iterator[str]:
    if kind == "tag":
        for _, _, _, tags in layouts.sentences(columns, path, Counter()):
            yield from tags or ()
        return
    for line, record in records(path, columns, Counter()):
        where = f"{path}:{line}"
        value = fields.find(record, columns.label, where)
        if value is not None and kind == "multi_label":
            yield from fields.label_names(value, columns.separator, where)
        elif value is not None and (name := fields.label_name(value, where)):
            yield name


def _order(name: str) -> tuple[bool, float, str]:
    """Sorts numbers by size, before all other names."""
    try:
        return (False, float(name), name)
    except ValueError:
        return (True, 0.0, name)
