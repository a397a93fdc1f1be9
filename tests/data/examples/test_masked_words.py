"""Which words may be replaced, the holes in their places, and how often which word comes instead."""

import numpy as np
import pytest

from bertlite_jax.convert.bundled.words import split_words
from bertlite_jax.data.examples import masked_words
from bertlite_jax.data.examples.masked_words import Places
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

TEXT = "The Queen's 3 cats, she said so: go (down) on e-mail!"
SENTENCES = [
    "the queen went down again and the rabbit said so",
    "she said that it was time to go on",
    "the cats and the door of the café",
] * 3


@pytest.fixture(scope="module", params=["sentencepiece", "wordpiece", "bpe"])
def tokenizer(request, prepared, tmp_path_factory) -> Tokenizer:
    if request.param == "sentencepiece":
        return load_tokenizer(prepared.tokenizer)
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    size = {"wordpiece": 80, "bpe": 300}[request.param]
    return train_tokenizer(SENTENCES, folder, size, kind=request.param)


def places_of(text: str, tokenizer: Tokenizer) -> Places:
    return masked_words.in_text(text, split_words(text, ("punctuation", "chinese")), tokenizer)


def test_words_of_letters_may_be_replaced_and_nothing_else(tokenizer):
    places = places_of(TEXT, tokenizer)
    assert [TEXT[start:end] for start, end in places.spans] == ["The", "cats", "she", "said", "so", "go", "down", "on"]
    np.testing.assert_array_equal(places.pieces, tokenizer.encode(TEXT))
    for text in ("", "1999 - 2.5", "https://example.org/a"):
        assert not len(places_of(text, tokenizer).bounds)


def test_letters_are_those_of_any_script():
    assert all(map(masked_words.is_word, ("word", "Größe", "हिन्दी", "слово", "大", "e\u0301")))
    assert not any(map(masked_words.is_word, ("", "a1", "don't", "e-mail", "\u0301", "..", "[MASK]", "a b")))


def test_the_pieces_of_a_word_are_its_own(tokenizer):
    """In order they spell the text without the word, whatever number of pieces it has."""
    text = "again the rabbit said sweating and went"
    places = places_of(text, tokenizer)
    assert len(places.bounds) == 7
    lengths = places.bounds[:, 1] - places.bounds[:, 0]
    assert lengths.min() >= 1
    assert lengths[4] > 1
    for (first, stop), (start, end) in zip(places.bounds, places.spans, strict=True):
        assert tokenizer.decode(places.pieces[first:stop]).strip().lstrip("#") == text[start:end]


def test_words_that_are_given_keep_their_places(tokenizer):
    words = ("the", "3", "queens", "'s", "sweating")
    places = masked_words.in_words(words, tokenizer)
    assert places.spans.tolist() == [[0, 1], [2, 3], [4, 5]]
    pieces = [ids for ids, _ in tokenizer.encode_lines(list(words))]
    np.testing.assert_array_equal(places.pieces, np.concatenate(pieces))
    for (number, _), (first, stop) in zip(places.spans, places.bounds, strict=True):
        np.testing.assert_array_equal(places.pieces[first:stop], pieces[number])


def test_a_hole_is_one_mask_and_all_else_stays(tokenizer):
    places = places_of(TEXT, tokenizer)
    for word, (first, stop) in enumerate(places.bounds):
        ids, at = masked_words.hole(places, word, 512, tokenizer)
        assert (ids[0], ids[-1], ids[at]) == (tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
        assert (ids == tokenizer.mask_id).sum() == 1
        np.testing.assert_array_equal(ids[1:at], places.pieces[:first])
        np.testing.assert_array_equal(ids[at + 1 : -1], places.pieces[stop:])


@pytest.mark.parametrize(("word", "left", "right"), [(0, 0, 9), (1, 1, 8), (10, 4, 5), (18, 8, 1), (19, 9, 0)])
def test_a_long_text_is_cut_around_its_hole(tokenizer, word: int, left: int, right: int):
    """Twenty words of one piece, and room for nine beside [CLS], [MASK] and [SEP]."""
    places = Places(np.arange(100, 120, dtype=np.int32), *(np.stack([np.arange(20), np.arange(1, 21)], 1),) * 2)
    ids, at = masked_words.hole(places, word, 12, tokenizer)
    assert (len(ids), at) == (12, 1 + left)
    assert ids[1:at].tolist() == list(range(100 + word - left, 100 + word))
    assert ids[at + 1 : -1].tolist() == list(range(101 + word, 101 + word + right))


def test_candidates_are_whole_words_in_one_piece(tokenizer):
    """By the spelling of pieces: behind the mark of word starts, letters only."""
    pieces, mark = masked_words.pieces_alone(tokenizer), {"sentencepiece": "▁", "bpe": "Ġ"}.get(tokenizer.kind, "")
    wanted = {
        name.removeprefix(mark): number
        for number, name in enumerate(tokenizer.pieces(range(tokenizer.vocab_size)))
        if name.startswith(mark) and name.removeprefix(mark).isascii() and name.removeprefix(mark).isalpha()
    }
    found = {pieces.spelled[number]: int(number) for number in np.flatnonzero(pieces.allowed)}
    assert found == wanted
    assert "the" in found
    assert not pieces.allowed[list(tokenizer.special_ids)].any()


def test_the_hidden_word_is_known_by_its_piece_or_its_spelling(tokenizer):
    pieces = masked_words.pieces_alone(tokenizer)
    text = "THE sweating said the"
    places = places_of(text, tokenizer)
    own = [masked_words.own_number(places, w, text[slice(*places.spans[w])], pieces) for w in range(4)]
    assert own[0] == own[3] == pieces.numbers["the"]
    assert own[1] == -1


def test_words_are_replaced_at_the_rate_evenly_among_candidates_and_again_the_same():
    """Four words, three candidates each, 4,000 copies: standard deviations 0.4 and 0.8 per cent."""
    spans = np.array([[0, 1], [2, 3], [4, 5], [6, 7]], np.int32)
    places, candidates = Places(np.arange(4, dtype=np.int32), spans, spans), np.arange(12).reshape(4, 3)
    found = [masked_words.draw(places, candidates, 0.4, 7, number) for number in range(4000)]
    drawn = np.array([one for copy in found for one in copy])
    assert len(drawn) / 16_000 == pytest.approx(0.4, abs=0.016)
    shares = np.bincount(drawn[:, 2], minlength=12) / len(drawn)
    np.testing.assert_allclose(shares, 1 / 12, atol=0.01)
    assert (drawn[:, 2] // 3 == drawn[:, 0] // 2).all()
    assert found == [masked_words.draw(places, candidates, 0.4, 7, number) for number in range(4000)]
    assert found != [masked_words.draw(places, candidates, 0.4, 8, number) for number in range(4000)]
    assert [len(masked_words.draw(places, candidates, rate, 0, 0)) for rate in (0.0, 1.0)] == [0, 4]
    nothing = Places(np.zeros(0, np.int32), spans[:0], spans[:0])
    assert masked_words.draw(nothing, np.zeros((0, 3), np.int32), 1.0, 0, 0) == []


def test_a_capital_is_taken_over():
    assert masked_words.spelled_like("rabbit", "Queen") == "Rabbit"
    assert masked_words.spelled_like("rabbit", "queen") == "rabbit"
    assert masked_words.spelled_like("Rabbit", "queen") == "Rabbit"
