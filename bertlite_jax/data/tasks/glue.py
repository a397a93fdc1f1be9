"""The tasks of GLUE, in the layouts of the files that its servers and scripts hand out.

Sources: Wang et al. 2018 (arXiv 1804.07461), its download script for names and the MRPC split; label orders as in
google-research/albert:classifier_utils.py.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks import layouts
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.files import lines
from bertlite_jax.data.tasks.task import Columns, Files, Task
from bertlite_jax.errors import UserError

BINARY = Head(labels=("0", "1"))
ENTAILMENT = Head(labels=("entailment", "not_entailment"))
THREE_WAY = Head(labels=("contradiction", "entailment", "neutral"))
NUMBER = Head(labels=("score",), problem="regression")

_MRPC_ALL = "msr_paraphrase_train.txt"
_MRPC_TEST = "msr_paraphrase_test.txt"
_MRPC_DEV = "dev_ids.tsv"
_MRPC_IDS = ("#1 ID", "#2 ID")


def mrpc(task: Task, path: str, split: str, counts: Counter[str]) -> Iterator[tuple[int, Example]]:
    """MRPC as its authors hand it out is one file for train and dev; GLUE's `dev_ids.tsv` says which pair is in dev.

    Without that file all pairs are for training. Rows of the other split are counted as `other_split`. The authors'
    test file has no index: the rows count from 0, as in GLUE's.
    """
    if Path(path).name == _MRPC_TEST:
        for index, (line, example) in enumerate(layouts.texts(task, path, split, counts)):
            yield line, dataclasses.replace(example, id=str(index))
        return
    if Path(path).name != _MRPC_ALL:
        yield from layouts.texts(task, path, split, counts)
        return
    dev = _dev_pairs(Path(path).parent / _MRPC_DEV)
    if split != "train" and not dev:
        raise UserError(f"task: {path}: {_MRPC_DEV}, which says which pairs belong to {split}, is not beside it")
    pairs = _pair_ids(path)
    for line, example in layouts.texts(task, path, split, counts):
        if (pairs[line] in dev) == (split != "train"):
            yield line, example
        else:
            counts["other_split"] += 1


def _dev_pairs(path: Path) -> set[tuple[str, ...]]:
    if not path.is_file():
        return set()
    return {tuple(line.strip().split("\t")) for _, line in lines(str(path)) if line.strip()}


def _pair_ids(path: str) -> dict[int, tuple[str, ...]]:
    """Line -> ids of the two sentences; the file has 4,077 lines."""
    rows = ((number, line.split("\t")) for number, line in lines(path))
    header = next(rows, (0, []))[1]
    if not set(_MRPC_IDS) <= set(header):
        raise UserError(f"task: {path}:1: no columns {' and '.join(_MRPC_IDS)}; it has: {', '.join(header)}")
    places = [header.index(name) for name in _MRPC_IDS]
    return {number: tuple(row[place] for place in places if place < len(row)) for number, row in rows}


def _three(train: str = "train.tsv", dev: str = "dev.tsv", test: str = "test.tsv") -> dict[str, Files]:
    return {"train": ((train,),), "validation": ((dev,),), "test": ((test,),)}


def _rows(train: int, dev: int, test: int) -> dict[str, int]:
    return {"train": train, "validation": dev, "test": test}


_TWO = Columns(text=("sentence1",), pair=("sentence2",), id=("index",))

TASKS = (
    Task(
        name="cola",
        head=BINARY,
        metrics=("mcc",),
        layout=layouts.texts,
        splits=_three(),
        columns=Columns(text=("sentence",), id=("index",), header=("source", "label", "mark", "sentence")),
        folders=("CoLA",),
        rows=_rows(8551, 1043, 1063),
        suite="glue",
        sent_as={"test": "CoLA.tsv"},
    ),
    Task(
        name="sst2",
        head=BINARY,
        metrics=("accuracy",),
        layout=layouts.texts,
        splits=_three(),
        columns=Columns(text=("sentence",), id=("index",)),
        folders=("SST-2",),
        rows=_rows(67349, 872, 1821),
        suite="glue",
        sent_as={"test": "SST-2.tsv"},
    ),
    Task(
        name="mrpc",
        head=BINARY,
        metrics=("f1", "accuracy"),
        layout=mrpc,
        splits={
            "train": (("train.tsv",), (_MRPC_ALL,)),
            "validation": (("dev.tsv",), (_MRPC_ALL,)),
            "test": (("test.tsv",), (_MRPC_TEST,)),
        },
        columns=Columns(text=("#1 String",), pair=("#2 String",), label=("Quality",), id=("index",)),
        folders=("MRPC",),
        rows=_rows(3668, 408, 1725),
        suite="glue",
        sent_as={"test": "MRPC.tsv"},
    ),
    Task(
        name="stsb",
        head=NUMBER,
        metrics=("pearson", "spearman"),
        layout=layouts.texts,
        splits=_three(),
        columns=Columns(text=("sentence1",), pair=("sentence2",), label=("score",), id=("index",)),
        folders=("STS-B",),
        rows=_rows(5749, 1500, 1379),
        suite="glue",
        sent_as={"test": "STS-B.tsv"},
        scale=(0.0, 5.0),
    ),
    Task(
        name="qqp",
        head=BINARY,
        metrics=("f1", "accuracy"),
        layout=layouts.texts,
        splits=_three(),
        # Some official rows are broken by a line feed inside a question; the usual count is without them.
        columns=Columns(
            text=("question1",),
            pair=("question2",),
            label=("is_duplicate",),
            id=("id", "index"),
            wrong_fields="leave_out",
        ),
        folders=("QQP",),
        rows=_rows(363846, 40430, 390965),
        suite="glue",
        sent_as={"test": "QQP.tsv"},
    ),
    Task(
        name="mnli",
        head=THREE_WAY,
        metrics=("accuracy",),
        layout=layouts.texts,
        splits={
            **_three(dev="dev_matched.tsv", test="test_matched.tsv"),
            "validation_mismatched": (("dev_mismatched.tsv",),),
            "test_mismatched": (("test_mismatched.tsv",),),
        },
        columns=Columns(text=("sentence1",), pair=("sentence2",), label=("gold_label",), id=("index",)),
        folders=("MNLI",),
        rows={**_rows(392702, 9815, 9796), "validation_mismatched": 9832, "test_mismatched": 9847},
        suite="glue",
        sent_as={"test": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv"},
    ),
    Task(
        name="qnli",
        head=ENTAILMENT,
        metrics=("accuracy",),
        layout=layouts.texts,
        splits=_three(),
        columns=Columns(text=("question",), pair=("sentence",), id=("index",)),
        folders=("QNLI",),
        rows=_rows(104743, 5463, 5463),
        suite="glue",
        sent_as={"test": "QNLI.tsv"},
    ),
    Task(
        name="rte",
        head=ENTAILMENT,
        metrics=("accuracy",),
        layout=layouts.texts,
        splits=_three(),
        columns=_TWO,
        folders=("RTE",),
        rows=_rows(2490, 277, 3000),
        suite="glue",
        sent_as={"test": "RTE.tsv"},
    ),
    Task(
        name="wnli",
        head=BINARY,
        metrics=("accuracy",),
        layout=layouts.texts,
        splits=_three(),
        columns=_TWO,
        folders=("WNLI",),
        rows=_rows(635, 71, 146),
        suite="glue",
        sent_as={"test": "WNLI.tsv"},
    ),
    Task(
        name="ax",
        head=THREE_WAY,
        metrics=("mcc",),
        layout=layouts.texts,
        splits={"test": (("diagnostic.tsv",),), "validation": (("diagnostic-full.tsv",),)},
        columns=Columns(
            text=("sentence1", "Premise"), pair=("sentence2", "Hypothesis"), label=("Label",), id=("index",)
        ),
        folders=("diagnostic", "AX"),
        rows={"test": 1104, "validation": 1104},
        suite="glue",
        sent_as={"test": "AX.tsv"},
    ),
)
"""AX has no training file; a model of MNLI answers it."""
