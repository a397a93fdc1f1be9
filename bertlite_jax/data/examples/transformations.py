"""Texts with words left out or with neighbours in each other's place, and texts in a template.

Unlike the edits of `augment`, each of these leaves out or moves a word of every text of two words and more.
Source: Wei and Zou 2019 (arXiv 1901.11196), section 2 (random deletion; random swap, here of neighbours).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from bertlite_jax.config.agora.settings import SLOT
from bertlite_jax.data.examples.augment import Change
from bertlite_jax.data.rows.packing import generator
from bertlite_jax.data.tasks.example import Example

_DELETION, _SWAP = 5, 6
"""Keys apart from those of the draws of `augment` and `masked_words`."""


def make_deletion(rate: float, seed: int) -> Change:
    """Leaves out each word with probability `rate`, at least one and not all; a single word stays."""

    def change(words: Sequence[str], number: int) -> list[str]:
        if len(words) < 2:
            return list(words)
        random = generator(seed, number, _DELETION)
        stays = random.random(len(words)) >= rate
        first, second = random.choice(len(words), 2, replace=False)
        if stays.all():
            stays[first] = False
        elif not stays.any():
            stays[second] = True
        return [word for word, here in zip(words, stays, strict=True) if here]

    return change


def make_swap(rate: float, seed: int) -> Change:
    """Lets neighbours change places, at least once, so that `rate` of the words move; a single word stays."""

    def change(words: Sequence[str], number: int) -> list[str]:
        words = list(words)
        if len(words) < 2:
            return words
        random = generator(seed, number, _SWAP)
        count = max(1, round(rate * len(words) / 2))
        for place in random.choice(len(words) - 1, min(count, len(words) - 1), replace=False):
            words[place], words[place + 1] = words[place + 1], words[place]
        return words

    return change


def in_template(example: Example, template: str) -> Example:
    """An example each of whose texts stands in the template; empty texts stay."""

    def within(text: str) -> str:
        return template.replace(SLOT, text) if text.strip() else text

    return dataclasses.replace(
        example,
        text=within(example.text),
        pair=example.pair and within(example.pair),
        choices=tuple(map(within, example.choices)),
        label=None,
    )
