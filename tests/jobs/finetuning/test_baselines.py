"""A score stands beside that of one answer for everything, and a run that learnt nothing is told so in a line."""

import types
from typing import Any

import numpy as np
import pytest

from bertlite_jax.config.model import Head
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.jobs.finetuning import own_data

NUMBER = Head(labels=("score",), problem="regression")
TAGS = Head(kind="tag", labels=("O", "B-X"))


def baseline(head: Head, metric: str, train: Any, labels: list[Any]) -> dict[str, Any]:
    """Of a training file with these encoded labels, and a validation file with these labels."""
    task: Any = types.SimpleNamespace(metrics=(metric,), head=head)
    examples = [
        Example(str(n), "", words=("word",) * (len(label) if isinstance(label, tuple) else 0), label=label)
        for n, label in enumerate(labels)
    ]
    split: Any = types.SimpleNamespace(encoded=types.SimpleNamespace(labels=np.array(train)))
    return own_data.baseline(task, split, types.SimpleNamespace(examples=examples), head)  # type: ignore[arg-type]


def test_one_number_for_all_texts_has_no_correlation():
    found = baseline(NUMBER, "pearson", [[1.0], [2.0]], [float(n) for n in range(100)])
    assert found == {"majority_label": "1.5", "majority_score": 0.0, "chance_score": 0.2}  # 2 / sqrt(100)


def test_the_commonest_tag_finds_no_span_but_has_an_accuracy():
    found = baseline(TAGS, "span_f1", [0, 0, 1, -1], [(0, 1), (0, 0)])
    assert found == {"majority_label": "O", "majority_score": 0.0, "majority_tag_accuracy": 0.75}
    assert baseline(TAGS, "accuracy", [0, 0, 1], [(0, 1), (0, 0)]) == {"majority_label": "O", "majority_score": 0.75}


def test_without_labels_there_is_no_baseline():
    assert baseline(NUMBER, "pearson", [[1.0]], [1.0, None]) == {}
    assert baseline(Head(kind="choose", labels=()), "accuracy", [1], [1]) == {}


def summary(metric: str, score: float, **more) -> dict[str, Any]:
    return {"metric": metric, metric: score, "steps": 40, "majority_label": "O", "majority_score": 0.0} | more


@pytest.mark.parametrize(
    ("figures", "vain"),
    [
        (summary("span_f1", 0.0, accuracy=0.9, majority_tag_accuracy=0.9), True),
        (summary("span_f1", 0.1), False),
        (summary("pearson", 0.15, chance_score=0.2), True),
        (summary("pearson", float("nan"), chance_score=0.2), True),
        (summary("pearson", 0.25, chance_score=0.2), False),
        (summary("accuracy", 0.6, majority_score=0.6), True),
        (summary("accuracy", 0.61, majority_score=0.6), False),
    ],
)
def test_a_model_that_is_no_better_is_told_with_its_steps_and_what_to_try(figures, vain):
    first, *more = own_data.verdict(figures, 0.9)
    assert first.startswith(f"best {figures['metric']} ")
    assert len(more) == vain
    if vain:
        assert "no better than that: in 40 steps" in more[0]
        assert "--run.epochs" in more[0]
        assert "--optim.learning-rate" in more[0]


def test_a_single_answer_is_told_once():
    _, only = own_data.verdict(summary("accuracy", 0.6, majority_score=0.6, only_answer="no"), 0.9)
    assert "all answers of the best model are no" in only


def test_accuracy_of_tags_stands_beside_that_of_o():
    (line,) = own_data.verdict(summary("span_f1", 0.5, accuracy=0.95, majority_tag_accuracy=0.9), 0.9)
    assert line == "best span_f1 0.5000 (always O: 0.0000), accuracy 0.9500 (always O: 0.9000)"
