"""Exact match and F1 of answers, as the official scorers of SQuAD 1.1, SQuAD 2.0 and CMRC 2018 count them.

All questions count. One without a prediction scores 0 and is counted under `missing`; the script of SQuAD 2.0 shrinks
the total instead, so that an incomplete file would score better than a complete one.

Source: rajpurkar/SQuAD-explorer, evaluate-v1.1.py and evaluate-v2.0.py; ymcui/cmrc2018, cmrc2018_evaluate.py.
"""

from __future__ import annotations

import difflib
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bertlite_jax.data.tasks.example import Example
from bertlite_jax.errors import UserError

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


# --- English ---------------------------------------------------------------------------------------------------------


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation, articles and extra white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def f1(gold: str, answer: str) -> float:
    """F1 of the words that both have. If either has none: 1 if neither has any, else 0 (SQuAD 2.0).

    Examples:
      >>> from bertlite_jax.data.scores.squad_metrics import exact, f1
      >>> f1("The Normans", "Normans in France"), exact("The Normans", "normans!")
      (0.5, 1.0)
    """
    gold_words, words = normalize_answer(gold).split(), normalize_answer(answer).split()
    if not gold_words or not words:
        return float(gold_words == words)
    same = sum((Counter(gold_words) & Counter(words)).values())
    if not same:
        return 0.0
    precision, recall = same / len(words), same / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def exact(gold: str, answer: str) -> float:
    """1 if both are the same once normalised, else 0."""
    return float(normalize_answer(gold) == normalize_answer(answer))


def score_one(example: Example, answer: str) -> tuple[float, float]:
    """Exact match and F1 of an answer, each the best over the gold answers. An empty answer means "no answer"."""
    golds = [text for text, _ in example.answers if normalize_answer(text)] or [""]
    return max(exact(gold, answer) for gold in golds), max(f1(gold, answer) for gold in golds)


def score(examples: Sequence[Example], predictions: Mapping[str, str]) -> dict[str, float]:
    """SQuAD 2.0's scores; for a file of SQuAD 1.1 they are those of its leaderboard too.

    Args:
      examples: with gold answers; the right answer to those without any is an empty string.
      predictions: id to answer, the threshold already applied.

    Returns:
      `f1` and `exact` in percent and `total`; the same with HasAns_ and NoAns_ before them for questions with and
      without an answer, if there are any; `missing`, and `unknown` ids among the predictions, if there are any.

    Raises:
      UserError: there are no questions, or one is unlabelled.
    """
    _check(examples)
    pairs = [score_one(e, predictions[e.id]) if e.id in predictions else (0.0, 0.0) for e in examples]
    has = [bool(example.answers) for example in examples]
    scores = _means(pairs)
    for name, wanted in (("HasAns", True), ("NoAns", False)):
        part = [pair for pair, answerable in zip(pairs, has, strict=True) if answerable == wanted]
        scores |= {f"{name}_{key}": value for key, value in _means(part).items()} if part else {}
    return scores | _gaps(examples, predictions)


def _check(examples: Sequence[Example]) -> None:
    if not examples:
        raise UserError("questions: there are no questions to score")
    for example in examples:
        if not example.answers and example.label is None:
            raise UserError(f"questions: question {example.id} has no gold answers; unlabelled files cannot be scored")


def _means(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    # Added one by one: from Python 3.12 on, `sum` rounds otherwise, and the last digit is to be that of the scripts.
    exact_total = f1_total = 0.0
    for one_exact, one_f1 in pairs:
        exact_total += one_exact
        f1_total += one_f1
    return {"f1": 100.0 * f1_total / len(pairs), "exact": 100.0 * exact_total / len(pairs), "total": len(pairs)}


def _gaps(examples: Iterable[Example], predictions: Mapping[str, str]) -> dict[str, float]:
    ids = {example.id for example in examples}
    gaps = {"missing": len(ids - predictions.keys()), "unknown": len(predictions.keys() - ids)}
    return {name: count for name, count in gaps.items() if count}


def best_thresholds(
    examples: Sequence[Example], answers: Mapping[str, str], nulls: Mapping[str, float]
) -> dict[str, float]:
    """The thresholds that would have been best on these questions, and the scores that they would have given.

    They are chosen with the answers in view, so these scores are not a result; report them beside those of a fixed
    threshold. Questions with the same null score are answered together or not at all; the official search separates
    them and can report a score that no threshold gives.

    Args:
      examples: with gold answers.
      answers: id to the best answer that is not empty.
      nulls: id to the evidence for "no answer"; above the threshold the answer is empty.

    Returns:
      best_f1, best_f1_threshold, best_exact, best_exact_threshold.

    Raises:
      UserError: a question has no answer or no null score, or the latter is not a number.
    """
    _check(examples)
    for example in examples:
        if example.id not in answers or np.isnan(nulls.get(example.id, np.nan)):
            raise UserError(f"questions: question {example.id} has no answer or no null score")
    raw = np.array([score_one(example, answers[example.id]) for example in examples])
    unanswered = np.array([float(not example.answers) for example in examples])
    null = np.array([nulls[example.id] for example in examples], np.float64)
    # Answering no question is a choice as well.
    lowest = float(np.nextafter(null.min(), -np.inf))
    values, inverse = np.unique(null, return_inverse=True)
    scores: dict[str, float] = {}
    for column, name in ((1, "f1"), (0, "exact")):
        gains = np.bincount(inverse.ravel(), raw[:, column] - unanswered, len(values))
        totals = np.append(0.0, np.cumsum(gains))
        best = int(np.argmax(totals > totals.max() - 1e-9))
        threshold = float(values[best - 1]) if best else lowest
        mean = np.where(null > threshold, unanswered, raw[:, column]).mean()
        scores |= {f"best_{name}": 100.0 * float(mean), f"best_{name}_threshold": threshold}
    return scores


# --- Chinese ---------------------------------------------------------------------------------------------------------

# The script removes these and no others; ASCII brackets, commas and full stops stay.
_CHINESE_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_CHINESE = re.compile("[\u4e00-\u9fa5]")
_MARKS = re.compile(
    r"""\.{2,}|[;@#$%&?!()\[\]{}<>"–—‘„«»]|(?<=[^'\s])'(?=\s|$)|,(?!\d)|(?<=[^.])\.(?=[\])}>"']*\s*$)"""
)
_ENDINGS = re.compile(r"('s|'m|'d|'ll|'re|'ve|n't)(?=\s|$)")


def chinese_units(text: str) -> list[str]:
    """What CMRC 2018's F1 compares: Chinese characters one by one, other text by words; punctuation is left out.

    Words are those of the Penn Treebank (brackets, commas, a full stop at the end and 's are words of their own). The
    script uses NLTK's; ours leaves straight quotation marks and `cannot` as they are, and takes a full stop for one at
    the end of the text only. They differ in 6 of 1,000 stretches of Latin letters and digits in Chinese Wikipedia.
    """
    units: list[str] = []
    other = ""
    for character in text.lower().strip():
        if character in _CHINESE_PUNCTUATION:
            continue
        if _CHINESE.match(character):
            units += [*_words(other), character]
            other = ""
        else:
            other += character
    return units + _words(other)


def _words(text: str) -> list[str]:
    return _ENDINGS.sub(r" \1 ", _MARKS.sub(r" \g<0> ", text)).split() if text else []


def chinese_f1(gold: str, answer: str) -> float:
    """F1 of the longest run of `chinese_units` that both have."""
    gold_units, units = chinese_units(gold), chinese_units(answer)
    matcher = difflib.SequenceMatcher(None, gold_units, units, autojunk=False)
    same = matcher.find_longest_match(0, len(gold_units), 0, len(units)).size
    if not same:
        return 0.0
    precision, recall = same / len(units), same / len(gold_units)
    return 2 * precision * recall / (precision + recall)


def chinese_exact(gold: str, answer: str) -> float:
    """1 if both are the same without punctuation and case, else 0; white space inside counts."""
    bare = ["".join(c for c in text.lower().strip() if c not in _CHINESE_PUNCTUATION) for text in (gold, answer)]
    return float(bare[0] == bare[1])


def score_chinese(examples: Sequence[Example], predictions: Mapping[str, str]) -> dict[str, float]:
    """CMRC 2018's scores: `average` of the other two, `f1`, `exact`, `total`; `missing` and `unknown` as in `score`.

    Raises:
      UserError: there are no questions, or one has no gold answer (the script has no score for those).
    """
    _check(examples)
    pairs = []
    for example in examples:
        golds = [text for text, _ in example.answers]
        if not golds:
            raise UserError(
                f"questions: question {example.id} has no answer; CMRC 2018 has no score for such questions"
            )
        answer = predictions.get(example.id)
        if answer is None:
            pairs.append((0.0, 0.0))
            continue
        best_exact = max(chinese_exact(gold, answer) for gold in golds)
        pairs.append((best_exact, max(chinese_f1(gold, answer) for gold in golds)))
    means = _means(pairs)
    return {"average": (means["exact"] + means["f1"]) / 2} | means | _gaps(examples, predictions)
