"""Every window gets its budget, whole words, and nothing else changes."""

import jax
import numpy as np
import pytest
from masking_rows import CLS, MASK, SEP, SPECIAL, UNK, mask, pack, places, plain_window, random_batch

from bertlite_jax.config.pretrain import Mask
from bertlite_jax.train.pretraining import masking

# --- The budget -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["ngram", "word", "token"])
def test_each_window_gets_its_share_of_its_real_tokens(scheme):
    """round(0.15 n), at least 1, halves to even as in Python: 30 -> 4 (4.5), 50 -> 8 (7.5), 10 -> 2 (1.5), 5 -> 1."""
    sizes = [5, 10, 30, 50]
    batch = pack([[plain_window(size) for size in sizes]] * 16)
    masked = mask(batch, Mask(scheme=scheme))
    for row in range(16):
        segments = batch["segments"][row, places(masked, row)]
        assert [int(np.sum(segments == w + 1)) for w in range(4)] == [1, 2, 4, 8]


def test_a_half_full_row_gets_half_the_predictions():
    masked = mask(pack([[plain_window(120)], [plain_window(60)]]), Mask())
    assert masked.weights.sum(axis=1).tolist() == [18.0, 9.0]


def test_an_empty_row_has_no_predictions():
    masked = mask(pack([[], [plain_window(20)]]), Mask())
    assert masked.weights.sum(axis=1).tolist() == [0.0, 3.0]
    assert not masked.inputs[0].any()


def test_a_window_without_words_has_no_predictions():
    masked = mask(pack([[[([UNK], [1])]]]), Mask())
    assert masked.weights.sum() == 0
    assert masked.inputs[0, :3].tolist() == [CLS, UNK, SEP]


def test_words_of_two_pieces_leave_an_odd_budget_one_short():
    """Budget 5, words of 2: two words, and no half of a third."""
    ids, starts = np.arange(100, 130), np.tile([1, 0], 15)
    batch = pack([[[(ids, starts)]]] * 64)  # 32 real tokens, round(4.8) = 5
    assert set(mask(batch, Mask()).weights.sum(axis=1)) == {4.0}


def test_the_remainder_goes_to_the_words_that_still_fit():
    """Budget 5, words of 3 and one of 2: whichever comes first, a 3 and the 2 fill it, or else two tokens are left."""
    starts = np.array([1, 0, 0] * 9 + [1, 0])
    batch = pack([[[(np.arange(100, 129), starts)]]] * 64)  # 31 real tokens, round(4.65) = 5
    assert set(mask(batch, Mask()).weights.sum(axis=1)) == {5.0}


def test_a_word_longer_than_the_budget_is_cut():
    """The release leaves such a window without a prediction; here the word's first tokens fill the budget."""
    ids, starts = np.arange(100, 130), np.array([1] + [0] * 29)
    masked = mask(pack([[[(ids, starts)]]]), Mask())
    assert places(masked, 0).tolist() == [1, 2, 3, 4, 5]  # round(0.15 * 32) = 5


def test_too_few_slots_are_refused():
    with pytest.raises(ValueError, match="27 slots are too few"):
        masking.mask_batch(jax.random.key(0), pack([[plain_window(20)]]), Mask(), 27, 30_000, SPECIAL, MASK)


def test_predictions_are_counted_before_the_forward_pass():
    masked = mask(pack([[plain_window(120)], [plain_window(60)]]), Mask())
    assert float(masked.weights.sum()) == 27.0


# --- What is never masked -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["ngram", "word", "token"])
def test_specials_and_padding_are_never_masked_or_changed(scheme):
    batch = random_batch()
    masked = mask(batch, Mask(scheme=scheme, rate=0.6))
    untouched = np.isin(batch["tokens"], SPECIAL)
    assert np.array_equal(masked.inputs[untouched], batch["tokens"][untouched])
    assert not np.isin(masked.labels[masked.weights > 0], SPECIAL).any()


def test_whole_words_are_masked_whole():
    """Every word that has a predicted piece has all of its pieces predicted."""
    batch = random_batch()
    masked = mask(batch, Mask())
    for row in range(len(batch["rows"])):
        chosen = set(places(masked, row))
        special = np.isin(batch["tokens"][row], SPECIAL)
        for place in range(1, batch["tokens"].shape[1]):
            joined = not special[place] and not special[place - 1] and not batch["word_starts"][row, place]
            if joined:
                assert (place in chosen) == (place - 1 in chosen)


def test_inputs_change_only_at_predictions():
    batch = random_batch()
    masked = mask(batch, Mask())
    expected = np.zeros(batch["tokens"].shape, bool)
    for row in range(len(expected)):
        expected[row, places(masked, row)] = True
        assert np.array_equal(masked.labels[row][masked.weights[row] > 0], batch["tokens"][row, places(masked, row)])
        assert np.all(np.diff(places(masked, row)) > 0)
    assert not np.any((masked.inputs != batch["tokens"]) & ~expected)
