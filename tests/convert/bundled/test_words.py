"""Plain text is split into the words that a tagger's training data would have had, and tags become spans."""

import pytest

from bertlite_jax.convert.bundled.tag import spans_of
from bertlite_jax.convert.bundled.words import split_words

USUAL = ("punctuation", "chinese")


def words(text: str, *splits: str) -> list[str]:
    return [text[start:end] for start, end in split_words(text, splits or USUAL)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("New York, on Monday.", "New York , on Monday ."),
        ('He said: "No (never)!"', 'He said : " No ( never ) ! "'),
        ("It's 3.14 or 1,000 at 10:30 today.", "It's 3.14 or 1,000 at 10:30 today ."),
        ("$5.7 and 50% and -3", "$ 5.7 and 50 % and - 3"),
        ("the U.S.-led U.S. e.g. J. K. Rowling", "the U.S.-led U.S. e.g. J. K. Rowling"),
        ("don't e-mail AT&T and/or O’Neill", "don't e-mail AT&T and/or O’Neill"),
        ("well... yes--no", "well ... yes -- no"),
        ("@user #tag a@b.org, (see http://a.b/c?d=1).", "@user #tag a@b.org , ( see http://a.b/c?d=1 ) ."),
        ("we met at www.x.org.", "we met at www.x.org ."),
        ("caf\u0301e, naïve", "caf\u0301e , naïve"),
        ("नमस्ते दुनिया!", "नमस्ते दुनिया !"),
        ("❤️ 👩👩 x", "❤️ 👩 👩 x"),
        ("我在北京，3月看iPhone 15。", "我 在 北 京 ， 3 月 看 iPhone 15 。"),
        ("见http://a.cn/我们", "见 http://a.cn/ 我 们"),
        (" a\u00a0b\u2003c\td ", "a b c d"),
    ],
)
def test_signs_are_apart_but_not_inside_words_numbers_and_addresses(text, expected):
    assert words(text) == expected.split()


def test_other_training_data_other_words():
    assert words("Germany's can't 's", "punctuation", "clitics") == ["Germany", "'s", "ca", "n't", "'s"]
    assert words("York, 北京 ok", "chinese") == ["York,", "北", "京", "ok"]
    assert words("2023年iPhone x", "characters") == list("2023年iPhonex")
    assert words("北京, 上海", "punctuation") == ["北京", ",", "上海"]


@pytest.mark.parametrize("text", ["", "  \n", "\u200b\ufeff\x00", "\u200d"])
def test_text_without_a_word(text):
    """White space, and characters that tokenizers drop."""
    assert words(text) == []


@pytest.mark.parametrize("text", ["a" * 300_000, "a.b-" * 60_000, "A." * 60_000, "a@" * 60_000, "." * 200_000])
def test_endless_text_takes_no_endless_time(text):
    assert "".join(words(text)) == text


def test_no_character_but_white_space_is_lost():
    text = "Dr. Who (b. 1963), “who’s” — e.g. on B.B.C. 1: http://x.y/z, a@b.c; 北京！ 1.5kg + 2/3"
    assert "".join(words(text)) == "".join(text.split())


def test_spans_join_what_belongs_together():
    assert spans_of(["O", "B-ORG", "I-ORG", "O", "B-LOC", "B-LOC", "I-ORG"]) == [
        ("ORG", 1, 3),
        ("LOC", 4, 5),
        ("LOC", 5, 6),
        ("ORG", 6, 7),
    ]
    assert spans_of(["LOC", "LOC"]) == [("LOC", 0, 1), ("LOC", 1, 2)]
    for tags in (["B-X", "I-X", "E-X", "S-X", "O", "E-X"], ["B-X", "M-X", "L-X", "U-X", "O", "L-X"]):
        assert spans_of(tags) == [("X", 0, 3), ("X", 3, 4), ("X", 5, 6)]
