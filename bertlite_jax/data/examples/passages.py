"""A question and its context as tokens, in overlapping windows where the context is too long for one row.

A window's row is `[CLS] question [SEP] part of the context [SEP]`, token type 1 from the context on. Every token of a
context is in some window; a token in several is judged only in the one where it has most context on both sides
(BERT's "max context"), so that no answer is proposed twice.

Tokens are numbered within the context. Their characters come from `Tokenizer.encode_with_offsets`, so an answer is
always a piece of the original text, with its capitals, accents and ligatures.

Source: google-research/bert, run_squad.py (`convert_examples_to_features`, `_check_is_max_context`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer
from bertlite_jax.errors import UserError

SPECIALS = 3
"""[CLS] and two [SEP] in every row."""


@dataclasses.dataclass(frozen=True)
class Passage:
    """One question with its context: q tokens of the one, m of the other."""

    id: str
    question: np.ndarray
    """[q] int32 ids: the first ones, as many as are kept."""
    dropped: int
    """How many tokens of the question were cut off."""
    context: str
    ids: np.ndarray
    """[m] int32 ids of the context."""
    starts: np.ndarray
    """[m] int32, first character of each token in `context`."""
    ends: np.ndarray
    """[m] int32, the character behind its last one."""

    def text(self, first: int, last: int) -> str:
        """The text of the context from its token `first` to its token `last`, both included."""
        return self.context[self.starts[first] : self.ends[last]]


class Window(NamedTuple):
    """The context's tokens `first` to `stop` - 1, and where they are in the window's row."""

    first: int
    stop: int
    offset: int
    """Index in the row of the token `first`: the question and two special tokens stand before it."""
    best: np.ndarray
    """[stop - first] bool: this window shows the token with more context than the others do."""


def passages(
    examples: Iterable[Example], tokenizer: Tokenizer, max_question: int = 64, row_length: int = 0
) -> Iterator[Passage]:
    """Each example's question and context as tokens.

    Args:
      examples: with `text` and `pair`; the context of consecutive examples is tokenized once if it is the same.
      tokenizer: the model's.
      max_question: tokens of a question that are kept.
      row_length: tokens in a row, at least 8; a question that would leave no room for context in one is cut to half of
        it. 0: `windows` refuses such a question.

    Raises:
      UserError: an example has no context.
    """
    context, encoded = "", tokenizer.encode_with_offsets("")
    for example in examples:
        if example.pair is None:
            raise UserError(f"questions: question {example.id} has no context")
        if example.pair != context:
            context, encoded = example.pair, tokenizer.encode_with_offsets(example.pair)
        question = tokenizer.encode(example.text)
        kept = min(len(question), max_question)
        if row_length and kept + SPECIALS >= row_length:
            kept = (row_length - SPECIALS) // 2
        yield Passage(example.id, question[:kept], len(question) - kept, context, *encoded)


def windows(passage: Passage, length: int, step: int) -> list[Window]:
    """The windows of a passage. A passage without context has one too, so that every question gets an answer.

    Args:
      passage: of `passages`.
      length: most tokens in a row, special tokens included (384 in the SQuAD recipes).
      step: tokens from the beginning of one window to that of the next (BERT's doc_stride, 128); if it is longer
        than a window's part of the context, the windows follow one another and no token is left out.

    Raises:
      UserError: `step` is not positive, or a row of `length` has no room for context behind the question.
    """
    offset = len(passage.question) + SPECIALS - 1
    room = length - offset - 1
    if step < 1:
        raise UserError(f"questions: step = {step} must be at least 1")
    if room < 1:
        raise UserError(
            f"questions: question {passage.id}: its {len(passage.question)} tokens and {SPECIALS} special tokens leave "
            f"no room for context in rows of {length}; use longer rows or a smaller max_question"
        )
    total, step = len(passage.ids), min(step, room)
    firsts = [0]
    while firsts[-1] + room < total:
        firsts.append(firsts[-1] + step)
    bounds = [(first, min(first + room, total)) for first in firsts]
    owner = _owners(bounds, total)
    return [Window(first, stop, offset, owner[first:stop] == n) for n, (first, stop) in enumerate(bounds)]


def _owners(bounds: list[tuple[int, int]], total: int) -> np.ndarray:
    """[m] for each token the number of the window with most context around it; of several, the first.

    The measure is BERT's: the shorter of the two sides, plus a hundredth of the window's length.
    """
    owner = np.zeros(total, np.int64)
    most = np.full(total, -np.inf)
    for number, (first, stop) in enumerate(bounds):
        left = np.arange(stop - first)
        here = np.minimum(left, left[::-1]) + 0.01 * (stop - first)
        better = here > most[first:stop]
        most[first:stop][better] = here[better]
        owner[first:stop][better] = number
    return owner


def row(passage: Passage, window: Window, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The tokens and token types of a window, each int32 [window.offset + window.stop - window.first + 1]."""
    cls, sep = [tokenizer.cls_id], [tokenizer.sep_id]
    tokens = np.concatenate([cls, passage.question, sep, passage.ids[window.first : window.stop], sep])
    types = (np.arange(len(tokens)) >= window.offset).astype(np.int32)
    return tokens.astype(np.int32), types


def token_span(passage: Passage, text: str, start: int) -> tuple[int, int] | None:
    """First and last token of the context that have a character of `text`, which begins at the character `start`.

    None if there is no such place (`start` < 0) or no token has one of its characters (white space, controls).
    """
    lead = len(text) - len(text.lstrip())
    begin, end = start + lead, start + len(text.rstrip())
    if start < 0 or begin >= end:
        return None
    first = int(np.searchsorted(passage.ends, begin, side="right"))
    last = int(np.searchsorted(passage.starts, end, side="left")) - 1
    return (first, last) if first <= last else None


def target(passage: Passage, window: Window, answers: tuple[tuple[str, int], ...]) -> tuple[int, int] | None:
    """The label of a window: indices in its row of the first and last token of the answer.

    The answer is the first one that has a place, as in BERT. A window that does not show all of it, or a question
    without an answer, gives (0, 0), which is [CLS]. None if there are answers but none has a place: this window has no
    label.
    """
    if not answers:
        return 0, 0
    spans = (token_span(passage, text, start) for text, start in answers)
    span = next((span for span in spans if span is not None), None)
    if span is None:
        return None
    first, last = span
    if first < window.first or last >= window.stop:
        return 0, 0
    return first - window.first + window.offset, last - window.first + window.offset
