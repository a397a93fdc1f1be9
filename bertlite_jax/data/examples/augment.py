"""Texts that mean nearly the same, made offline: words exchanged by what they say little, or moved and left out.

Words are what spaces divide; a text that is mostly Chinese or Japanese is taken by its characters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from bertlite_jax.data.rows.packing import generator

Augment = Callable[[str, int], str]
"""(text, number of the text) -> changed text; the same for the same seed and number."""


def words_of(text: str) -> tuple[list[str], str]:
    """The words of a text, and what joins them again: a space, or nothing where they are characters."""
    ideographs = sum("\u2e80" <= character <= "\u9fff" for character in text)
    if 2 * ideographs > len(text):
        return [character for character in text if not character.isspace()], ""
    return text.split(), " "


def make_tfidf(texts: Sequence[str], rate: float, seed: int) -> Augment:
    """Replaces words that say little in their text by words that say little anywhere.

    Word w of a text is replaced with a probability in proportion to max(tf-idf of its words) - tf-idf(w), so that
    `rate` of the words are in expectation, at most each with certainty; what comes in its place is drawn in proportion
    to max(S) - S(w), S(w) = (count of w in all texts) idf(w), so mostly from words that are as common as articles.

    Args:
      texts: where frequencies are counted.
      rate: share of the words.
      seed: of the draws.

    Source: Xie et al. 2020 (arXiv 1904.12848), section 3 and appendix A.2; google-research/uda:
    text/augmentation/word_level_augment.py.
    """
    counts: Counter[str] = Counter()
    documents: Counter[str] = Counter()
    for text in texts:
        words = words_of(text)[0]
        counts.update(words)
        documents.update(set(words))
    vocabulary = sorted(counts)
    idf = {word: float(np.log(len(texts) / documents[word])) for word in vocabulary}
    total = sum(counts.values())
    scores = np.array([counts[word] / total * idf[word] for word in vocabulary])
    # A word in every text says nothing: its score is 0, as a name's that comes once is nearly.
    draws = scores.max(initial=0.0) - scores + 1e-12 if len(vocabulary) else scores
    cumulated = np.cumsum(draws)

    def augment(text: str, number: int) -> str:
        words, joint = words_of(text)
        chances = replacement_chances(words, idf, rate)
        random = generator(seed, number, 3)
        replaced = random.random(len(words)) < chances
        places = np.searchsorted(cumulated, random.random(len(words)) * (cumulated[-1] if len(cumulated) else 0))
        return joint.join(
            vocabulary[min(int(place), len(vocabulary) - 1)] if new else word
            for word, new, place in zip(words, replaced, places, strict=True)
        )

    return augment


def replacement_chances(words: Sequence[str], idf: dict[str, float], rate: float) -> np.ndarray:
    """[words] in [0, 1]: of each word of a text, its chance to be replaced."""
    counts = Counter(words)
    says = np.array([counts[word] / len(words) * idf.get(word, 0.0) for word in words])
    little = says.max(initial=0.0) - says
    if not little.any():  # All say the same.
        return np.full(len(words), rate)
    return np.minimum(1.0, little / little.sum() * rate * len(words))


def make_edits(rate: float, seed: int) -> Augment:
    """Exchanges the places of two words rate / 4 times as often as there are words, then leaves rate / 2 of them out.

    A swap moves two words, so that `rate` of the words are moved or gone in expectation. One word always stays.

    Source: Wei and Zou 2019 (arXiv 1901.11196), section 2 (random swap, random deletion).
    """

    def augment(text: str, number: int) -> str:
        words, joint = words_of(text)
        if len(words) < 2:
            return text
        random = generator(seed, number, 3)
        for _ in range(random.binomial(len(words), rate / 4)):
            i, j = random.choice(len(words), 2, replace=False)
            words[i], words[j] = words[j], words[i]
        kept = random.random(len(words)) >= rate / 2
        kept[random.integers(len(words))] |= not kept.any()
        return joint.join(word for word, stays in zip(words, kept, strict=True) if stays)

    return augment
