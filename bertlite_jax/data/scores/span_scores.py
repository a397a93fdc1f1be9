"""Scores of question answering by length of the answer and by question word.

Exact match and F1 are SQuAD's, in percent; for text without spaces (Chinese) they compare whole strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from bertlite_jax.data.scores.squad_metrics import normalize_answer, score_one
from bertlite_jax.data.tasks.example import Example

Row = dict[str, float]
"""`questions`, `exact`, `f1`."""

LENGTHS = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, None))
QUESTION_WORDS = ("what", "who", "when", "where", "which", "how many", "how much", "how", "why")

_ASKED = re.compile(r"\b(what|who|whom|whose|when|where|which|how many|how much|how|why)\b")


def by_answer_length(examples: Sequence[Example], predictions: Mapping[str, str]) -> dict[str, Row]:
    """Scores by the number of words in the shortest gold answer, articles left out; `none`: there is no answer."""
    return _table(examples, predictions, _length, ["none", *(_length_name(*each) for each in LENGTHS)])


def by_question_word(examples: Sequence[Example], predictions: Mapping[str, str]) -> dict[str, Row]:
    """Scores by the first question word; whom and whose count as who, questions without such a word as `other`."""
    return _table(examples, predictions, _word, [*QUESTION_WORDS, "other"])


def _length(example: Example) -> str:
    golds = [text for text, _ in example.answers if normalize_answer(text)]
    if not golds:
        return "none"
    words = min(len(normalize_answer(text).split()) for text in golds)
    return next(_length_name(low, high) for low, high in LENGTHS if high is None or words <= high)


def _length_name(low: int, high: int | None) -> str:
    if high is None:
        return f"{low} or more"
    return str(low) if low == high else f"{low} to {high}"


def _word(example: Example) -> str:
    match = _ASKED.search(example.text.lower())
    word = match.group(1) if match else "other"
    return "who" if word in ("whom", "whose") else word


def _table(
    examples: Sequence[Example], predictions: Mapping[str, str], group: Callable[[Example], str], order: Sequence[str]
) -> dict[str, Row]:
    groups: dict[str, list[tuple[float, float]]] = {}
    for example in examples:
        scores = score_one(example, predictions[example.id]) if example.id in predictions else (0.0, 0.0)
        groups.setdefault(group(example), []).append(scores)
    return {
        name: {
            "questions": len(groups[name]),
            "exact": 100 * sum(exact for exact, _ in groups[name]) / len(groups[name]),
            "f1": 100 * sum(f1 for _, f1 in groups[name]) / len(groups[name]),
        }
        for name in order
        if name in groups
    }
