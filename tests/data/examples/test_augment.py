"""Texts changed offline: how often, by what, and the same every time."""

from collections import Counter

import numpy as np
import pytest

from bertlite_jax.data.examples import augment

TEXTS = [f"the film of the year has a {word} plot and a cast" for word in ("bold", "dull", "fine", "grim")] * 25
WORDS = [text.split() for text in TEXTS]


def test_chances_follow_the_formula_and_sum_to_the_share():
    """tf-idf by hand: "the" twice in 4 words with idf 0, the others once with idf ln 2 and ln 4."""
    words, idf = ["the", "rare", "the", "odd"], {"the": 0.0, "rare": np.log(2), "odd": np.log(4)}
    says = [0.0, np.log(2) / 4, 0.0, np.log(4) / 4]
    little = np.log(4) / 4 - np.array(says)
    wanted = little / little.sum() * 0.3 * 4
    found = augment.replacement_chances(words, idf, 0.3)
    np.testing.assert_allclose(found, wanted)
    assert found.sum() == pytest.approx(1.2)
    assert found[3] == 0
    np.testing.assert_allclose(augment.replacement_chances(["a", "b"], {"a": 1.0, "b": 1.0}, 0.3), [0.3, 0.3])


def test_words_that_say_most_stay_and_the_same_number_gives_the_same_text():
    change = augment.make_tfidf(WORDS, 0.3, seed=0)
    found = [change(words, number) for number, words in enumerate(WORDS)]
    for before, after in zip(WORDS, found, strict=True):
        assert len(before) == len(after)
        assert after[7] == before[7]
    changed = np.mean([a != b for x, y in zip(WORDS, found, strict=True) for a, b in zip(x, y, strict=True)])
    assert 0.15 < changed < 0.35  # some are replaced by themselves
    assert found == [augment.make_tfidf(WORDS, 0.3, seed=0)(words, number) for number, words in enumerate(WORDS)]
    assert found != [augment.make_tfidf(WORDS, 0.3, seed=1)(words, number) for number, words in enumerate(WORDS)]


def test_edits_move_and_leave_out_and_add_nothing():
    change = augment.make_edits(0.4, seed=0)
    words = [f"w{i}" for i in range(20)]
    found = [change(words, number) for number in range(200)]
    assert all(not Counter(changed) - Counter(words) for changed in found)
    assert abs(np.mean([len(changed) for changed in found]) - 16) < 0.5  # 20 (1 - 0.4 / 2)
    assert np.mean([changed != sorted(changed, key=lambda word: int(word[1:])) for changed in found]) > 0.7
    assert change(["alone"], 3) == ["alone"]
    assert change([], 0) == []
    assert all(augment.make_edits(1.0, seed=0)(["a", "b"], number) for number in range(50))


def test_chinese_is_changed_by_characters():
    texts = ["房间很大,服务也很好", "房间很小,早餐不好吃"]
    assert augment.words_of(texts[0]) == (list(texts[0]), "")
    assert augment.words_of("two words") == (["two", "words"], " ")
    change = augment.make_tfidf([list(text) for text in texts], 0.5, seed=0)
    changed = augment.in_text(change, texts[0], 0)
    assert len(changed) == len(texts[0])
    assert " " not in changed


def test_texts_without_words_are_left_as_they_are():
    assert augment.in_text(augment.make_tfidf([[], []], 0.5, 0), "", 0) == ""
