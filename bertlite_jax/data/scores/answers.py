"""Scores of tokens become answers: pieces of the original text, best first, and evidence for "no answer".

Two kinds of span head. With independent ends (BERT), a span's score is its start logit plus its end logit; all allowed
spans are compared, which is never worse than a choice of the 20 best starts and ends. With the end conditioned on
the start (ALBERT's run_squad_v2, after XLNet), the head proposes a few starts and for each of them a few ends, and the
score is the sum of the two log-probabilities.

A span is allowed if it lies in the context, has at most `longest` tokens, and this window shows its start best.

Source: google-research/bert, run_squad.py (`write_predictions`); google-research/albert, squad_utils.py
(`accumulate_predictions_v2`, `write_predictions_v2`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from bertlite_jax.data.examples.passages import Passage, Window


class Span(NamedTuple):
    """Tokens `first` to `last` of a context, both included, and their score (more is better)."""

    score: float
    first: int
    last: int


class Answer(NamedTuple):
    """A piece of the context: its characters `start` to `end` - 1. The text is empty for "no answer" (start, end 0)."""

    text: str
    start: int
    end: int
    score: float
    probability: float
    """Softmax of the scores over the answers it is listed with."""


class Prediction(NamedTuple):
    """A model's answers to one question."""

    id: str
    answers: tuple[Answer, ...]
    """Best first, each text once, none empty; no answers if the context has no text."""
    null: float
    """Evidence for "no answer". Its scale is the head's: a difference of logits for independent ends, the answerability
    logit for conditioned ones."""


class Beam(NamedTuple):
    """A conditioned head's proposals for a window: S starts and E ends for each, as indices in the row."""

    starts: np.ndarray
    """[S] int."""
    start_scores: np.ndarray
    """[S] log-probabilities."""
    ends: np.ndarray
    """[S, E] int."""
    end_scores: np.ndarray
    """[S, E] log-probabilities, given the start."""


# --- Spans of a window -----------------------------------------------------------------------------------------------


def sum_spans(window: Window, start: np.ndarray, end: np.ndarray, longest: int, count: int) -> list[Span]:
    """The `count` best spans by start plus end logit.

    Args:
      window: of n context tokens.
      start: [L] logits of the row, L at least window.offset + n; -inf is never chosen.
      end: [L] likewise.
      longest: most tokens in an answer.
      count: how many spans; fewer if there are no more.

    Raises:
      ValueError: a logit is not a number.
    """
    n = window.stop - window.first
    here = slice(window.offset, window.offset + n)
    starts, ends = np.asarray(start[here], np.float64), np.asarray(end[here], np.float64)
    if len(starts) < n or len(ends) < n:
        raise ValueError(f"{len(start)} start and {len(end)} end logits for a row of {window.offset + n} tokens")
    if np.isnan(starts).any() or np.isnan(ends).any():
        raise ValueError("start or end logits are not numbers")
    if not n:
        return []
    longest = min(longest, n)
    # sums[i, k]: from token i to token i + k.
    ends_from = np.lib.stride_tricks.sliding_window_view(np.append(ends, np.full(longest - 1, -np.inf)), longest)
    sums = (np.where(window.best, starts, -np.inf)[:, None] + ends_from).ravel()
    chosen = np.argsort(-sums, kind="stable")[:count] if sums.size <= count else _top(sums, count)
    return [
        Span(float(sums[i]), window.first + int(i) // longest, window.first + int(i) // longest + int(i) % longest)
        for i in chosen
        if sums[i] > -np.inf
    ]


def _top(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest, largest first, equal ones in their order."""
    least = np.partition(values, len(values) - count)[len(values) - count]
    chosen = np.flatnonzero(values >= least)
    return chosen[np.argsort(-values[chosen], kind="stable")][:count]


def beam_spans(window: Window, beam: Beam, longest: int) -> list[Span]:
    """The allowed spans among those that a conditioned head proposes, in its order.

    Raises:
      ValueError: a score is not a number.
    """
    if np.isnan(beam.start_scores).any() or np.isnan(beam.end_scores).any():
        raise ValueError("start or end scores are not numbers")
    spans = []
    for i, start in enumerate(np.asarray(beam.starts).tolist()):
        first = start - window.offset
        if not 0 <= first < window.stop - window.first or not window.best[first]:
            continue
        for j, end in enumerate(np.asarray(beam.ends[i]).tolist()):
            last = end - window.offset
            score = float(beam.start_scores[i]) + float(beam.end_scores[i, j])
            if first <= last < min(first + longest, window.stop - window.first) and score > -np.inf:
                spans.append(Span(score, window.first + first, window.first + last))
    return spans


# --- Answers to a question -------------------------------------------------------------------------------------------


def from_sums(
    passage: Passage,
    windows: Sequence[Window],
    starts: Sequence[np.ndarray],
    ends: Sequence[np.ndarray],
    longest: int = 30,
    count: int = 20,
) -> Prediction:
    """Answers from start and end logits.

    `null` is the lowest sum of the two [CLS] logits of all windows minus the score of the best answer (infinite if
    there is no answer): BERT's score difference, above null_score_diff_threshold of which there is no answer.

    Args:
      passage: the question.
      windows: all W windows of it.
      starts: W times [L], logits of the window's row.
      ends: W times [L].
      longest: most tokens in an answer.
      count: most answers to give.
    """
    spans = [
        span
        for window, start, end in zip(windows, starts, ends, strict=True)
        # More than asked for, since some may have the same text.
        for span in sum_spans(window, start, end, longest, 4 * count)
    ]
    answers = best_answers(passage, spans, count)
    none = min(float(start[0]) + float(end[0]) for start, end in zip(starts, ends, strict=True))
    return Prediction(passage.id, answers, none - answers[0].score if answers else math.inf)


def from_beams(
    passage: Passage,
    windows: Sequence[Window],
    beams: Sequence[Beam],
    nulls: Sequence[float],
    longest: int = 30,
    count: int = 20,
) -> Prediction:
    """Answers from a conditioned head; `null` is the lowest answerability logit of all windows.

    Args:
      passage: the question.
      windows: all W windows of it.
      beams: W times the head's proposals.
      nulls: [W] logits, more for "no answer".
      longest: most tokens in an answer.
      count: most answers to give.
    """
    spans = [span for window, beam in zip(windows, beams, strict=True) for span in beam_spans(window, beam, longest)]
    return Prediction(passage.id, best_answers(passage, spans, count), min(float(null) for null in nulls))


def best_answers(passage: Passage, spans: Iterable[Span], count: int) -> tuple[Answer, ...]:
    """The `count` best spans as text, best first; only the best of those with the same text, and none without text."""
    best: dict[str, Span] = {}
    for span in sorted(spans, key=lambda span: -span.score):
        text = passage.text(span.first, span.last).strip()
        if text and text not in best:
            best[text] = span
        if len(best) == count:
            break
    weights = _softmax([span.score for span in best.values()])
    return tuple(_answer(passage, span, weight) for span, weight in zip(best.values(), weights, strict=True))


def _answer(passage: Passage, span: Span, probability: float) -> Answer:
    shown = passage.text(span.first, span.last)
    start = int(passage.starts[span.first]) + len(shown) - len(shown.lstrip())
    text = shown.strip()
    return Answer(text, start, start + len(text), span.score, probability)


def _softmax(scores: list[float]) -> list[float]:
    """Scores, highest first, to probabilities."""
    weights = [math.exp(score - scores[0]) for score in scores]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def chosen(prediction: Prediction, threshold: float | None = None) -> str:
    """The answer's text; empty for "no answer".

    Args:
      prediction: of `from_sums` or `from_beams`.
      threshold: there is no answer if `prediction.null` is above it; None (SQuAD 1.1): there always is one.
    """
    if not prediction.answers or (threshold is not None and prediction.null > threshold):
        return ""
    return prediction.answers[0].text


def with_null(prediction: Prediction) -> tuple[Answer, ...]:
    """The answers of independent ends with "no answer" among them, and probabilities over all: BERT's n-best of 2.0.

    For conditioned ends the scales differ: there, the probability of "no answer" is sigmoid(null) by itself.
    """
    if not prediction.answers:
        return (Answer("", 0, 0, 0.0, 1.0),)
    none = Answer("", 0, 0, prediction.null + prediction.answers[0].score, 0.0)
    listed = sorted([*prediction.answers, none], key=lambda answer: -answer.score)
    weights = _softmax([answer.score for answer in listed])
    return tuple(answer._replace(probability=weight) for answer, weight in zip(listed, weights, strict=True))
