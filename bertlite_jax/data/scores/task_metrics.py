"""Scores of a task's predictions, by the official definitions.

Every score is a fraction, higher is better, and it is 0 where a denominator is zero. A label that the head lacks (an
index beyond its labels, see `OwnTask.unknown`) is an error whatever was answered. A prediction is, by head:
`classify` an index into the labels, or a score for each of them (the largest counts); `multi_label` 0 or 1 for each
label; `regression` a number; `choose` the number of a choice, or a score for each; `tag` an index for each word; `span`
the answer's text, empty for none.

Sources: GLUE (Wang et al. 2018), SuperGLUE (Wang et al. 2019), MultiRC (Khashabi et al. 2018: F1a, EM), ReCoRD's
official evaluation, chakki-works/seqeval for spans of tags, `squad_metrics` for answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from bertlite_jax.data.scores import squad_metrics
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.tasks.own import OwnTask
from bertlite_jax.data.tasks.task import Task
from bertlite_jax.errors import UserError

Examples = Sequence[Example]
Predictions = Sequence[Any]
Metric = Callable[[Task, Examples, Predictions], float]


def score(task: Task, examples: Examples, predictions: Predictions) -> dict[str, float]:
    """The task's metrics in its order: the first decides which model is best.

    Args:
      task: says which metrics.
      examples: of one split, all labelled.
      predictions: one for each, as above.

    Raises:
      UserError: there is no example, or one without a label, or scikit-learn or scipy is missing.
      ValueError: there is not one prediction for each example.
    """
    if len(examples) != len(predictions):
        raise ValueError(f"{len(predictions)} predictions for {len(examples)} examples")
    if not examples:
        raise UserError(f"task: {task.name}: no example to score")
    if unlabelled := next((example for example in examples if example.label is None), None):
        raise UserError(f"task: {task.name}: example {unlabelled.id} has no label; only labelled splits can be scored")
    return {name: float(METRICS[name](task, examples, predictions)) for name in task.metrics}


def decided(prediction: Any) -> int:
    """The index that a prediction is, or that of the largest of its scores (of equal ones the first)."""
    return int(prediction) if np.ndim(prediction) == 0 else int(np.argmax(prediction))


# --- Labels --------------------------------------------------------------------------------------------------------


def _indices(examples: Examples, predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    return np.array([e.label for e in examples], int), np.array([decided(p) for p in predictions], int)


def _accuracy(task: Task, examples: Examples, predictions: Predictions) -> float:
    """Of examples, or of words if they are tagged."""
    if task.head.kind == "tag":
        pairs = [(g, p) for e, tags in zip(examples, predictions, strict=True) for g, p in _paired(e, tags)]
        return _ratio(sum(int(g) == int(p) for g, p in pairs), len(pairs))
    gold, answers = _indices(examples, predictions)
    return float(np.mean(gold == answers))


def _mcc(task: Task, examples: Examples, predictions: Predictions) -> float:
    """Matthews' correlation, of any number of labels; 0 where all labels or all answers are the same."""
    gold, answers = _indices(examples, predictions)
    if len(set(gold)) < 2 or len(set(answers)) < 2:
        return 0.0
    return _sklearn().matthews_corrcoef(gold, answers)


def _f1(task: Task, examples: Examples, predictions: Predictions) -> float:
    """F1 of label 1."""
    gold, answers = _indices(examples, predictions)
    return _f1_of(gold == 1, answers == 1)


def _f1_of(gold: np.ndarray, answers: np.ndarray) -> float:
    right = int(np.sum(gold & answers))
    return _ratio(2 * right, int(np.sum(gold)) + int(np.sum(answers)))


def _f1_macro(task: Task, examples: Examples, predictions: Predictions) -> float:
    """Mean F1 of the labels that occur (in gold or in the answers); of all labels where there may be several."""
    return _averaged_f1(task, examples, predictions, "macro")


def _f1_micro(task: Task, examples: Examples, predictions: Predictions) -> float:
    return _averaged_f1(task, examples, predictions, "micro")


def _averaged_f1(task: Task, examples: Examples, predictions: Predictions, average: str) -> float:
    if task.head.problem == "multi_label":
        # Labels that the head lacks stand behind its own, and are never answered.
        width = max(len(task.head.labels), *(len(_label_bits(example)) for example in examples))
        gold = np.array([_padded(_label_bits(example), width) for example in examples], int)
        answers = np.array([_padded(tuple(p), width) for p in predictions], int)
    else:
        gold, answers = _indices(examples, predictions)
    return _sklearn().f1_score(gold, answers, average=average, zero_division=0)


def _exact(task: Task, examples: Examples, predictions: Predictions) -> float:
    """Share of the examples all of whose labels are right."""
    pairs = zip(examples, predictions, strict=True)
    return float(np.mean([_padded(tuple(map(int, p)), len(_label_bits(e))) == e.label for e, p in pairs]))


def _label_bits(example: Example) -> tuple[int, ...]:
    assert isinstance(example.label, tuple)
    return example.label


def _padded(bits: tuple[int, ...], width: int) -> tuple[int, ...]:
    return (*bits, *(0,) * (width - len(bits)))


# --- Numbers -------------------------------------------------------------------------------------------------------


def _numbers(examples: Examples, predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    return np.array([e.label for e in examples], float), np.array([float(np.squeeze(p)) for p in predictions], float)


def _pearson(task: Task, examples: Examples, predictions: Predictions) -> float:
    return _correlation("pearsonr", examples, predictions)


def _spearman(task: Task, examples: Examples, predictions: Predictions) -> float:
    return _correlation("spearmanr", examples, predictions)


def _correlation(name: str, examples: Examples, predictions: Predictions) -> float:
    """0 if all labels or all answers are the same; NaN if an answer is not finite."""
    gold, answers = _numbers(examples, predictions)
    if not np.all(np.isfinite(answers)):
        return math.nan
    if len(set(gold)) < 2 or len(set(answers)) < 2:
        return 0.0
    return getattr(_scipy(), name)(gold, answers).statistic


# --- Groups of examples --------------------------------------------------------------------------------------------


def _groups(examples: Examples, predictions: Predictions) -> Iterable[list[tuple[Example, Any]]]:
    groups: dict[str, list[tuple[Example, Any]]] = {}
    for pair in zip(examples, predictions, strict=True):
        groups.setdefault(pair[0].group, []).append(pair)
    return groups.values()


def _group_em(task: Task, examples: Examples, predictions: Predictions) -> float:
    """Share of the questions of which all answers are marked correctly."""
    return _mean(all(decided(p) == e.label for e, p in group) for group in _groups(examples, predictions))


def _parity(task: Task, examples: Examples, predictions: Predictions) -> float:
    """Share of the pairs that get the same answer for either gender."""
    groups = [group for group in _groups(examples, predictions) if len(group) > 1]
    return _mean(len({decided(p) for _, p in group}) == 1 for group in groups)


def best_entity(group: Iterable[tuple[Example, Any]]) -> str:
    """The likeliest entity for a ReCoRD query; of equal ones the first.

    Args:
      group: the examples of one query with their predictions: the probability of label 1, or scores for labels 0 and 1.

    Raises:
      ValueError: a prediction is a bare index, which cannot tell which of two examples is likelier.
    """
    return max(group, key=lambda pair: _strength(pair[1]))[0].choices[0]


def _strength(prediction: Any) -> float:
    if isinstance(prediction, int | np.integer):
        raise ValueError("an entity's prediction is a probability or two scores, not an index")
    return float(prediction) if np.ndim(prediction) == 0 else float(prediction[1]) - float(prediction[0])


def _entity_em(task: Task, examples: Examples, predictions: Predictions) -> float:
    return _entities(examples, predictions, lambda entity, gold: squad_metrics.exact(gold, entity))


def _entity_f1(task: Task, examples: Examples, predictions: Predictions) -> float:
    return _entities(examples, predictions, _shared_words)


def _entities(examples: Examples, predictions: Predictions, match: Callable[[str, str], float]) -> float:
    """Mean over the queries of the best match with one of the right answers."""
    groups = _groups(examples, predictions)
    return _mean(max(match(best_entity(group), gold) for gold, _ in group[0][0].answers) for group in groups)


def _shared_words(entity: str, gold: str) -> float:
    left, right = (squad_metrics.normalize_answer(text).split() for text in (entity, gold))
    return _ratio(2 * (Counter(left) & Counter(right)).total(), len(left) + len(right))


# --- Tags ----------------------------------------------------------------------------------------------------------


def tag_spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """(type, first word, last word) of every span, as seqeval reads tags by default.

    A word continues a span if its tag is I (or E), the tag before is B or I, and their types agree; any other word that
    is not O opens one. So an I after O, or of another type than the tag before, opens a span. L and U of BILOU are read
    as E and S of BIOES, and M of BMES as I.
    """
    spans: list[tuple[str, int, int]] = []
    before_place = before_type = ""
    for index, tag in enumerate(tags):
        place, _, kind = tag.partition("-")
        place = {"L": "E", "U": "S", "M": "I"}.get(place, place)
        if place in ("I", "E") and before_place in ("B", "I") and kind == before_type:
            spans[-1] = (kind, spans[-1][1], index)
        elif place != "O":
            spans.append((kind, index, index))
        before_place, before_type = place, kind
    return spans


def _paired(example: Example, tags: Sequence[int]) -> list[tuple[int, int]]:
    gold = example.label
    if not isinstance(gold, tuple) or len(gold) != len(tags):
        raise ValueError(f"example {example.id}: {len(tags)} tags for {len(example.words)} words")
    return list(zip(gold, tags, strict=True))


def _span_counts(task: Task, examples: Examples, predictions: Predictions) -> tuple[int, int, int]:
    """How many spans are right, predicted, and in the data."""
    right = predicted = known = 0
    names = (*task.head.labels, *(task.unknown if isinstance(task, OwnTask) else ()))
    for example, tags in zip(examples, predictions, strict=True):
        pairs = _paired(example, tags)
        gold = set(tag_spans([names[g] for g, _ in pairs]))
        answers = set(tag_spans([names[int(p)] for _, p in pairs]))
        right, predicted, known = right + len(gold & answers), predicted + len(answers), known + len(gold)
    return right, predicted, known


def _span_f1(task: Task, examples: Examples, predictions: Predictions) -> float:
    right, predicted, known = _span_counts(task, examples, predictions)
    return _ratio(2 * right, predicted + known)


def _span_precision(task: Task, examples: Examples, predictions: Predictions) -> float:
    right, predicted, _ = _span_counts(task, examples, predictions)
    return _ratio(right, predicted)


def _span_recall(task: Task, examples: Examples, predictions: Predictions) -> float:
    right, _, known = _span_counts(task, examples, predictions)
    return _ratio(right, known)


# --- Answers to questions ------------------------------------------------------------------------------------------


def _answer_score(name: str, chinese: bool = False) -> Metric:
    """A score of the official scorers; a prediction is the text of the answer, empty for none."""

    def score_answers(task: Task, examples: Examples, predictions: Predictions) -> float:
        given = {example.id: answer for example, answer in zip(examples, predictions, strict=True)}
        scorer = squad_metrics.score_chinese if chinese else squad_metrics.score
        return scorer(examples, given)[name] / 100

    return score_answers


# --- Small parts ---------------------------------------------------------------------------------------------------


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _mean(values: Iterable[float]) -> float:
    numbers = [float(value) for value in values]
    return sum(numbers) / len(numbers) if numbers else 0.0


def _sklearn() -> Any:
    try:
        import sklearn.metrics
    except ImportError as error:
        raise UserError("task: metrics need scikit-learn; pip install scikit-learn") from error
    return sklearn.metrics


def _scipy() -> Any:
    try:
        import scipy.stats
    except ImportError as error:
        raise UserError("task: metrics need scipy; pip install scipy") from error
    return scipy.stats


METRICS: dict[str, Metric] = {
    "accuracy": _accuracy,
    "mcc": _mcc,
    "f1": _f1,
    "f1_macro": _f1_macro,
    "f1_micro": _f1_micro,
    "exact": _exact,
    "pearson": _pearson,
    "spearman": _spearman,
    "group_f1a": _f1,
    "group_em": _group_em,
    "parity": _parity,
    "entity_f1": _entity_f1,
    "entity_em": _entity_em,
    "span_f1": _span_f1,
    "span_precision": _span_precision,
    "span_recall": _span_recall,
    "answer_f1": _answer_score("f1"),
    "answer_exact": _answer_score("exact"),
    "chinese_average": _answer_score("average", chinese=True),
    "chinese_f1": _answer_score("f1", chinese=True),
    "chinese_exact": _answer_score("exact", chinese=True),
}
