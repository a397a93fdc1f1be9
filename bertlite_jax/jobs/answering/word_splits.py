"""How the words of a tagger's training data were made, so that plain text is split in the same way."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from bertlite_jax.config.finetune import Examples
from bertlite_jax.config.model import Split
from bertlite_jax.convert.bundled.words import CLITIC, is_chinese
from bertlite_jax.data import tasks
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.jobs.answering import task_splits

_MOST_SENTENCES = 5000
_ENDS_IN_SIGN = re.compile(r"\w[,;:!?)\]\"”»，。！？]$|^[(\[\"“«]\w|[^\W\d_]{2,}\.$")


def learn_splits(task: tasks.Task, data: Examples) -> tuple[Split, ...]:
    """`Head.splits` of a tagger, as its first training sentences show it."""
    return splits_of(itertools.islice(task_splits.examples_of(task, data, "train"), _MOST_SENTENCES))


def splits_of(sentences: Iterable[Example]) -> tuple[Split, ...]:
    """`Head.splits` for words that were split as those of `sentences`.

    What the words do not show is as by default: signs and Chinese characters are words of their own.
    """
    counts: Counter[str] = Counter()
    for sentence in sentences:
        for word in sentence.words:
            counts.update(_shows(word))
    if counts["Chinese apart"] and not counts["letters together"] and counts["letter apart"]:
        return ("characters",)
    holds: dict[Split, bool] = {
        "punctuation": counts["sign attached"] <= counts["sign apart"],
        "chinese": 10 * counts["Chinese together"] <= counts["Chinese apart"],
        "clitics": counts["clitic apart"] > counts["clitic attached"],
    }
    return tuple(split for split, shown in holds.items() if shown)


def _shows(word: str) -> Iterable[str]:
    """What a word says about how it was made."""
    if all(unicodedata.category(character)[0] in "PS" for character in word):
        yield "sign apart"
    elif _ENDS_IN_SIGN.search(word):
        yield "sign attached"
    if found := CLITIC.search(word):
        yield "clitic attached" if found.start() else "clitic apart"
    chinese = sum(map(is_chinese, word))
    if chinese:
        yield "Chinese apart" if len(word) == 1 else "Chinese together"
    elif word.isalnum():
        yield "letter apart" if len(word) == 1 else "letters together"
