"""How many of a model's answers are another model's too, for each kind of task."""

import numpy as np
import pytest
import tiny

from bertlite_jax.config.model import Head
from bertlite_jax.data import tasks
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.jobs.compressing import agreement
from bertlite_jax.jobs.compressing.agreement import Judged

SEVERAL = Head(labels=("a", "b"), problem="multi_label")
TAGS = Head(kind="tag", labels=("O", "B-x"))


@pytest.mark.parametrize(
    ("head", "ours", "theirs", "share"),
    [
        (tiny.HEAD, [0, 1, 1, 0], [0, 0, 1, 0], 0.75),
        (SEVERAL, [(1, 0), (1, 1)], [(1, 1), (1, 1)], 0.75),
        (TAGS, [(0, 1, 1), (0,)], [(0, 1, 1), (1,)], 0.75),
        (Head(kind="span", labels=()), ["York", ""], ["York", "in York"], 0.5),
        (Head(labels=("score",), problem="regression"), [1.0], [1.0], None),
    ],
    ids=["labels", "several labels", "tags", "spans", "numbers"],
)
def test_the_share_of_equal_answers(head: Head, ours: list, theirs: list, share: float | None):
    assert agreement.agreement(Judged({}, ours), Judged({}, theirs), head) == share


def test_answers_are_scored_as_the_task_is():
    """Labels 1, 0, 1; answers 1, 1, 1."""
    examples = [Example(str(number), "text", label=label) for number, label in enumerate((1, 0, 1))]
    logits = [np.asarray([0.0, 1.0], np.float32)] * 3
    judged = agreement.judge(tasks.TASKS["sst2"], tiny.HEAD, examples, logits)
    assert judged.answers == [1, 1, 1]
    assert judged.figures["accuracy"] == pytest.approx(2 / 3)
