"""One example of a task, of whatever kind: its texts and its label."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Example:
    """One text, pair, question or sentence of words.

    Attributes:
      id: official index, or the number of its line; unique in a split.
      text: the first text; the question of a span, the premise of a choice.
      pair: the second text; the context of a span.
      choices: of multiple choice, one continuation or answer each.
      words: of a sentence to tag.
      label: None if it is not known; an index into the head's labels or choices; a number (regression); 0 or 1 for each
        label (multi_label); an index for each word (tag).
      group: examples of one group are scored together: the question of MultiRC and ReCoRD, the level of RACE.
      answers: of a span, (text, first character in `pair`); none if the question has no answer.
    """

    id: str
    text: str
    pair: str | None = None
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    label: int | float | tuple[int, ...] | None = None
    group: str = ""
    answers: tuple[tuple[str, int], ...] = ()
