"""Texts that mean nearly the same, made offline: uninformative words are replaced, or words are swapped and left out.

Spaces divide words; in a text that is mostly Chinese or Japanese, characters count as words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from bertlite_jax.data.rows.packing import generator

Change = Callable[[Sequence[str], int], list[str]]
"""(words, number of the text) -> changed words; the same for the same seed and number."""


def words_of(text: str) -> tuple[list[str], str]:
    """The words of a text, and what joins them again: a space, or nothing where they are characters."""
    ideographs = sum("\u2e80" <= character <= "\u9fff" for character in text)
    if 2 * ideographs > len(text):
        return [character for character in text if not character.isspace()], ""
    return text.split(), " "


def in_text(change: Change, text: str, number: int) -> str:
    """A text whose words are changed; all white space becomes single spaces."""
    words, joint = words_of(text)
    return joint.join(change(words, number))


def make_tfidf(texts: Sequence[Sequence[str]], rate: float, seed: int) -> Change:
    """Replaces words that say little about their text by words that say little about any text.

    Word w of a text is replaced with a probability in proportion to max(tf-idf of its words) - tf-idf(w), so that
    `rate` of the words are replaced in expectation (a probability is at most 1). The new word is drawn in proportion to
    max(S) - S(w), S(w) = (count of w in all texts) idf(w), so mostly from words that are as common as articles.

    Args:
      texts: as words, in which frequencies are counted.
      rate: share of the words that are replaced.
      seed: of the draws.

    Source: Xie et al. 2020 (arXiv 1904.12848), section 3 and appendix A.2; google-research/uda:
    text/augmentation/word_level_augment.py.
    """
    counts: Counter[str] = Counter()
    documents: Counter[str] = Counter()
    for words in texts:
        counts.update(words)
        documents.update(set(words))
    vocabulary = sorted(counts)
    idf = {word: float(np.log(len(texts) / documents[word])) for word in vocabulary}
    total = sum(counts.values())
    scores = np.array([counts[word] / total * idf[word] for word in vocabulary])
    # The score of a word in every text is 0; that of a name that occurs once is nearly 0.
    draws = scores.max(initial=0.0) - scores + 1e-12 if len(vocabulary) else scores
    cumulated = np.cumsum(draws)

    def change(words: Sequence[str], number: int) -> list[str]:
        chances = replacement_chances(words, idf, rate)
        random = generator(seed, number, 3)
        replaced = random.random(len(words)) < chances
        places = np.searchsorted(cumulated, random.random(len(words)) * (cumulated[-1] if len(cumulated) else 0))
        return [
            vocabulary[min(int(place), len(vocabulary) - 1)] if new else word
            for word, new, place in zip(words, replaced, places, strict=True)
        ]

    return change


def replacement_chances(words: Sequence[str], idf: dict[str, float], rate: float) -> np.ndarray:
    """[words] in [0, 1]: each word's chance of being replaced."""
    counts = Counter(words)
    tf_idf = np.array([counts[word] / len(words) * idf.get(word, 0.0) for word in words])
    weights = tf_idf.max(initial=0.0) - tf_idf
    if not weights.any():  # All words say the same.
        return np.full(len(words), rate)
    return np.minimum(1.0, weights / weights.sum() * rate * len(words))


def make_edits(rate: float, seed: int) -> Change:
    """Swaps two words rate / 4 times as often as there are words, then leaves rate / 2 of the words out.

    A swap moves two words, so that `rate` of the words are moved or gone in expectation. One word always stays.

    Source: Wei and Zou 2019 (arXiv 1901.11196), section 2 (random swap, random deletion).
    """

    def change(words: Sequence[str], number: int) -> list[str]:
        words = list(words)
        if len(words) < 2:
            return words
        random = generator(seed, number, 3)
        for _ in range(random.binomial(len(words), rate / 4)):
            i, j = random.choice(len(words), 2, replace=False)
            words[i], words[j] = words[j], words[i]
        stays = random.random(len(words)) >= rate / 2
        stays[random.integers(len(words))] |= not stays.any()
        return [word for word, here in zip(words, stays, strict=True) if here]

    return change
