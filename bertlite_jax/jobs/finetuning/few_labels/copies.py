"""Changed versions of examples: by tf-idf, by edits, or with words that a masked language model proposes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from bertlite_jax.config.few_labels import Learn
from bertlite_jax.data.examples import augment
from bertlite_jax.data.tasks.example import Example


class Changes(NamedTuple):
    """How texts are changed: the same for the same number, which seeds the draws."""

    text: Callable[[str, int], str]
    """(text, number) -> changed text."""
    words: Callable[[tuple[str, ...], int], Sequence[str]]
    """(words of a sentence to tag, number) -> changed words."""


def offline(learn: Learn, seed: int, examples: Iterable[Example]) -> Changes:
    """`learn.augment`, where it needs no model.

    Args:
      learn: of the run.
      seed: of the draws.
      examples: that are changed; tf-idf counts in them.
    """
    if learn.augment == "tfidf":
        words = (augment.words_of(unit)[0] if isinstance(unit, str) else unit for unit in units_of(examples))
        change = augment.make_tfidf(list(words), learn.augment_rate, seed)
    else:
        change = augment.make_edits(learn.augment_rate, seed)
    return Changes(lambda text, number: augment.in_text(change, text, number), change)


def units_of(examples: Iterable[Example]) -> Iterator[str | tuple[str, ...]]:
    """What is changed of examples: each text that is not empty, or the words of a sentence to tag."""
    for example in examples:
        if example.words:
            yield example.words
        else:
            yield from filter(None, (example.text, example.pair, *example.choices))


def changed(example: Example, changes: Changes, number: int) -> Example:
    """An example whose texts are all changed, without a label.

    Args:
      example: any.
      changes: of the run.
      number: of the draws for its first text; those of the others follow it.
    """
    if example.words:
        return dataclasses.replace(example, text="", words=tuple(changes.words(example.words, number)), label=None)
    return dataclasses.replace(
        example,
        text=changes.text(example.text, number),
        pair=example.pair and changes.text(example.pair, number + 1),
        choices=tuple(changes.text(choice, number + 2 + place) for place, choice in enumerate(example.choices)),
        label=None,
        answers=(),
    )


class TextsWithCopies(Sequence[Example]):
    """Texts without labels, and behind them all first copies of the training examples, all second ones, and so on.

    Copies are made where they are read, so that twenty of each need no memory.

    Args:
      texts: without labels.
      examples: that are copied.
      changes: of the copies.
      copies: of each example.
    """

    def __init__(self, texts: Sequence[Example], examples: Sequence[Example], changes: Changes, copies: int):
        self.texts, self.examples, self.changes, self.copies = texts, examples, changes, copies

    def __len__(self) -> int:
        return len(self.texts) + self.copies * len(self.examples)

    def __getitem__(self, place: int) -> Example:  # pyright: ignore[reportIncompatibleMethodOverride]
        if place < len(self.texts):
            return self.texts[place]
        copy, example = divmod(place - len(self.texts), len(self.examples))
        if copy >= self.copies:
            raise IndexError(place)
        # Apart from the numbers of UDA's augmentations, and from those of the example's other texts.
        return changed(self.examples[example], self.changes, (copy + 1 << 40) + (example << 8))
