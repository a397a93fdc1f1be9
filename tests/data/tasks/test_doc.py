"""docs/tasks.md says what the table of tasks says, and its example works."""

import pathlib
import re

from task_files import counted, examples, put

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks import TASKS, Task

GUIDE = pathlib.Path(__file__).parents[3] / "docs" / "tasks.md"
HEADER = "| name | files: train; validation; test | text, second text; label | labels | metrics | head |"
NESTED = {"multirc", "record", "copa", "wic", "wsc", "race_middle", "race_high", "race", "squad1", "squad2", "cmrc2018"}
"""Their files hold more than columns; the guide describes them below its table."""


def row(task: Task) -> str:
    """A task's line of the table."""
    cells = (task.name, _files(task), _columns(task), _labels(task), ", ".join(task.metrics), _head(task))
    return f"| {' | '.join(cells)} |"


def _files(task: Task) -> str:
    splits = [f"`{split}`: {_ways(ways)}" if "_" in split else _ways(ways) for split, ways in task.splits.items()]
    if list(task.splits)[:1] != ["train"]:
        splits = [f"{split}: {_ways(ways)}" for split, ways in task.splits.items()]
    return (f"`{task.folders[0]}/` " if task.folders else "") + "; ".join(splits)


def _ways(ways: tuple[tuple[str, ...], ...]) -> str:
    return " or ".join(" + ".join(f"`{name}`" for name in names) for names in ways)


def _columns(task: Task) -> str:
    if task.name in NESTED:
        return "see below"
    if task.head.kind == "tag" and not task.splits["train"][0][0].endswith("jsonl"):
        return "first column; last column"
    either = [" or ".join(names) for names in (task.columns.text, task.columns.pair) if names]
    return f"{', '.join(either)}; {task.columns.label[0]}"


def _labels(task: Task) -> str:
    if task.head.problem == "regression":
        return "a number"
    if len(task.head.labels) > 9:
        return f"{', '.join(task.head.labels[:3])} and {len(task.head.labels) - 3} more"
    return ", ".join(task.head.labels) or {"choose": "number of the choice"}.get(task.head.kind, "the answer's place")


def _head(task: Task) -> str:
    head = task.head
    return f"{head.kind}, {head.problem}" if head.problem != "single_label" else head.kind


def test_the_table_of_the_guide_is_the_table_of_tasks():
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    start = lines.index(HEADER) + 2
    written = lines[start : start + len(TASKS)]
    assert written == [row(task) for task in TASKS.values()]
    assert not lines[start + len(TASKS)].startswith("|")


def test_every_count_of_the_guide_comes_from_the_code():
    code = "".join(
        path.read_text(encoding="utf-8") for path in (GUIDE.parents[1] / "bertlite_jax" / "data").rglob("*.py")
    )
    rules = GUIDE.read_text(encoding="utf-8").partition("## What is wrong in a file")[2]
    counts = re.findall(r"`([a-z]+_[a-z_]+)`", rules)
    assert len(counts) > 10
    assert [name for name in counts if name not in code] == []


def test_the_example_of_the_guide_is_a_task(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    made: dict = {}
    exec(code, made)
    task = made["AG_NEWS"]
    assert task.head == Head(labels=("1", "2", "3", "4"))
    put(tmp_path, "ag_news/train.csv", "class,title,description", '3,Oil falls,"Prices, again"', "1,Talks,")
    first, second = examples(task, tmp_path)
    assert (first.text, first.pair, first.label, second.pair, second.label) == ("Oil falls", "Prices, again", 2, "", 0)
    assert counted(task, tmp_path) == {"examples": 2, "empty_text": 1}
