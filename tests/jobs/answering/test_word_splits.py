"""What the words of training data show about how they were made."""

import pytest

from bertlite_jax.data.tasks.example import Example
from bertlite_jax.jobs.answering.word_splits import splits_of


def shown_by(*sentences: str) -> tuple[str, ...]:
    return splits_of([Example("1", "", words=tuple(sentence.split())) for sentence in sentences])


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        ([], ("punctuation", "chinese")),
        (["and the queen said so"], ("punctuation", "chinese")),
        (["EU rejects German call .", "Peter Blackburn , of the U.S. ( Reuters )"], ("punctuation", "chinese")),
        (["Germany 's Mr. Fischler did n't , he said ."], ("punctuation", "chinese", "clitics")),
        (["It's Germany's , he said ."], ("punctuation", "chinese")),
        (["in New York, on Monday.", "(so they say)"], ("chinese",)),
        (["我 在 北 京 ， 看 iPhone"], ("punctuation", "chinese")),
        (["我 在 北京 ， 今天 看"], ("punctuation",)),
        (["我 在 2 0 2 3 年 看 T V"], ("characters",)),
    ],
)
def test_words_show_what_is_apart(sentences, expected):
    assert shown_by(*sentences) == expected
