"""What counts as a right answer in each kind of task, and which teacher is good enough."""

from typing import Any

import numpy as np
import pytest

from bertlite_jax.config.model import Head
from bertlite_jax.data import tasks
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.agora import mistakes

SEVERAL = Head(labels=("x", "y", "z"), problem="multi_label")


def right(head: Head, answers: list[Any], labels: list[Any], off_by: float = 0.0) -> list[bool]:
    examples = [Example(str(number), "text", label=label) for number, label in enumerate(labels)]
    return mistakes.right(head, answers, examples, off_by).tolist()


def test_one_label_and_one_choice_are_right_if_they_are_the_likeliest():
    scores = [np.array([0.2, 0.8]), np.array([0.6, 0.4]), np.array([0.5, 0.5])]
    for head in (Head(labels=("no", "yes")), Head(kind="choose", labels=())):
        assert right(head, scores, [1, 1, 0]) == [True, False, True]


def test_a_label_that_the_head_lacks_is_never_right():
    assert right(Head(labels=("no", "yes")), [np.array([0.2, 0.8])], [2]) == [False]
    assert right(SEVERAL, [(1, 0, 0)], [(1, 0, 0, 1)]) == [False]


def test_of_several_labels_all_have_to_be_right():
    assert right(SEVERAL, [(1, 0, 1), (1, 0, 0), (0, 0, 0)], [(1, 0, 1), (1, 0, 1), (0, 0, 0)]) == [True, False, True]


def test_a_number_is_right_if_it_is_not_off_by_more():
    """STS-B: labels from 0 to 5, a fifth of which is 1."""
    assert right(tasks.TASKS["stsb"].head, [3.0, 4.0, 4.01, 0.0], [4.0, 3.0, 3.0, 5.0], 1.0) == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(("correct", "of"), [(2, 3), (184, 277), (0, 5)])
def test_a_teacher_of_two_thirds_or_less_is_refused(correct: int, of: int):
    with pytest.raises(UserError, match=rf"--teacher RUN answers {correct} of {of} validation examples rightly"):
        mistakes.check_teacher("RUN", correct, of)


def test_of_numbers_a_refusal_says_how_near_they_have_to_be():
    with pytest.raises(UserError, match=r"rightly \(off by at most 0\.5\), .* or allow more with --agora\.tolerance"):
        mistakes.check_teacher("RUN", 1, 2, 0.5)


def test_the_majority_is_counted_where_examples_have_one_label():
    some = [Example(str(number), "text", label=int(number > 6)) for number in range(10)]
    assert mistakes.majority(Head(labels=("no", "yes")), some) == 7
    assert mistakes.majority(tasks.TASKS["stsb"].head, some) == 0


@pytest.mark.parametrize(("correct", "of"), [(3, 4), (185, 277), (66_667, 100_000), (5, 5)])
def test_a_teacher_of_more_is_taken(correct: int, of: int):
    mistakes.check_teacher("RUN", correct, of)


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_every_task_of_labels_choices_and_numbers_is_for_agora(name: str):
    head = tasks.TASKS[name].head
    if head.kind not in ("tag", "span"):
        mistakes.check_kind(head)
        return
    with pytest.raises(UserError, match=r"agora: the task asks for (tags of words|places in texts): ") as error:
        mistakes.check_kind(head)
    assert "\n" not in str(error.value)


def test_what_a_model_does_not_read_is_no_part_of_an_example():
    """ReCoRD keeps the entity of a row beside its texts."""
    row = Example("7", "a passage", "a query", choices=("an entity",), group="q1", label=1, answers=(("x", 0),))
    assert mistakes.bare(row, tasks.TASKS["record"].head) == Example("7", "a passage", "a query", label=1)
    asked = Example("7", "a premise", choices=("a", "b"), label=1)
    assert mistakes.bare(asked, tasks.TASKS["copa"].head) == asked
