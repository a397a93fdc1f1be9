"""The compiled masking equals a slow implementation of the same rule."""

import functools
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import thorough
from masking_by_hand import chosen_by_hand, masked_by_hand
from masking_rows import CLS, MASK, SEP, SPECIAL, mask, pack, text_batch

from bertlite_jax.config.pretrain import Mask
from bertlite_jax.train.pretraining import masking

LENGTH, WINDOWS = 24, 3

# --- Whole batches ---------------------------------------------------------------------------------------------------


def assert_equals_the_slow_rule(batch, config, seed, vocab_size, special, mask_id):
    masked = mask(batch, config, seed, vocab_size=vocab_size, special=special, mask_id=mask_id)
    length = batch["tokens"].shape[1]
    key = jax.random.key(seed)
    every = jax.jit(
        jax.vmap(lambda row: masking.draw(jax.random.fold_in(key, row), length, config, vocab_size, special))
    )(batch["rows"])
    for b in range(len(batch["tokens"])):
        draws = masking.Draws(*(np.asarray(values)[b] for values in every))
        columns = [batch[name][b].tolist() for name in ("tokens", "segments", "token_types", "word_starts")]
        chosen = chosen_by_hand(draws, *columns, config=config, special=special)
        inputs, positions, labels, replaced = masked_by_hand(draws, columns[0], chosen, config, mask_id)
        used = len(positions)
        assert masked.weights[b].tolist() == [1.0] * used + [0.0] * (masked.weights.shape[1] - used)
        assert masked.positions[b, :used].tolist() == positions
        assert masked.labels[b, :used].tolist() == labels
        assert masked.replaced[b, :used].tolist() == replaced
        assert masked.inputs[b].tolist() == inputs
        for unused in (masked.positions, masked.labels, masked.replaced):
            assert not np.any(unused[b, used:])


SCHEMES = [Mask(), Mask(scheme="word"), Mask(scheme="token"), Mask(rate=0.3, max_ngram=5)]


@pytest.fixture(scope="module")
def english(shared):
    """A real novel in ALBERT's pieces: ids and word starts."""
    sentencepiece = pytest.importorskip("sentencepiece")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(shared / "vocab" / "albert_spiece.model"))
    text = (shared / "pretrain" / "books_valid.txt").read_text(encoding="utf-8")[:12_000].lower()
    ids = processor.encode(" ".join(text.split()))
    return ids, [processor.id_to_piece(i).startswith("\N{LOWER ONE EIGHTH BLOCK}") for i in ids]


@pytest.fixture(scope="module")
def chinese(shared):
    """Real encyclopedia text in BERT's characters, with the words that jieba finds: ids and word starts."""
    jieba = pytest.importorskip("jieba")
    lines = (shared / "vocab" / "bert_chinese_vocab.txt").read_text(encoding="utf-8").splitlines()
    vocabulary = {piece: number for number, piece in enumerate(lines)}
    text = (shared / "pretrain" / "zhwiki_valid.txt").read_text(encoding="utf-8")[:3_000]
    ids, starts = [], []
    for word in jieba.cut(text):
        for place, character in enumerate(word.strip()):
            ids.append(vocabulary.get(character, vocabulary["[UNK]"]))
            starts.append(place == 0)
    return ids, starts


@pytest.mark.parametrize(
    "config", thorough.but(SCHEMES[:2], SCHEMES), ids=lambda c: f"{c.scheme}{c.max_ngram}-{c.rate}"
)
def test_english_text_is_masked_by_the_rule(english, config):
    assert_equals_the_slow_rule(text_batch(*english), config, 7, 30_000, SPECIAL, MASK)


@pytest.mark.parametrize("config", SCHEMES[:2], ids=lambda c: c.scheme)
def test_chinese_text_is_masked_by_the_rule(chinese, config):
    """BERT's ids: the special tokens are 0 and 100 to 103, and unknown characters occur in the text."""
    batch = text_batch(*chinese)
    for old, new in ((CLS, 101), (SEP, 102)):
        batch["tokens"] = np.where((batch["tokens"] == old) & (batch["segments"] > 0), new, batch["tokens"])
    assert_equals_the_slow_rule(batch, config, 7, 21_128, (0, 100, 101, 102, 103), 103)


# --- Any row, any draws ----------------------------------------------------------------------------------------------


def draws_of(priority, span_words) -> masking.Draws:
    """Draws of a row whose [MASK] and random pieces do not matter."""
    arrays: Any = (np.array(priority, np.uint32), np.array(span_words, np.int32))
    rest: Any = (np.zeros(LENGTH, np.float32), np.full(LENGTH, 5, np.int32))
    return masking.Draws(*arrays, *rest)


@st.composite
def any_row(draw):
    """Windows of any shape: special tokens anywhere or nowhere, no word start, parts that change at any place."""
    ends = sorted(draw(st.lists(st.integers(0, LENGTH), min_size=WINDOWS, max_size=WINDOWS)))
    segments = [next((w + 1 for w, end in enumerate(ends) if place < end), 0) for place in range(LENGTH)]
    small = functools.partial(st.lists, min_size=LENGTH, max_size=LENGTH)
    types, starts = draw(small(st.integers(0, 1))), draw(small(st.integers(0, 1)))
    tokens = draw(small(st.one_of(st.integers(0, 4), st.integers(5, 30), st.integers(5, 30))))
    lengths, priority = draw(small(st.integers(1, 4))), draw(small(st.integers(0, 6)))
    draws = draws_of(priority, lengths)
    return draws, tokens, segments, types, starts


@functools.cache
def choose(config):
    return jax.jit(
        lambda draws, *columns: masking.choose(draws, *columns, config=config, windows=WINDOWS, special_ids=SPECIAL),
    )


@pytest.mark.parametrize(
    "config",
    thorough.but([Mask(rate=0.15)], [Mask(rate=0.4, max_ngram=4), Mask(rate=0.15), Mask(scheme="word", rate=0.25)]),
    ids=str,
)
@hypothesis.settings(max_examples=150, deadline=None, derandomize=True, database=None)
@hypothesis.given(row=any_row())
def test_any_row_and_any_draws_are_masked_by_the_rule(config, row):
    """Many equal priorities, unbroken rows of special tokens, words longer than the budget."""
    draws, *columns = row
    chosen = choose(config)(draws, *(np.array(column, np.int32) for column in columns))
    assert set(np.flatnonzero(chosen)) == chosen_by_hand(draws, *columns, config=config, special=SPECIAL)


# --- Spans -----------------------------------------------------------------------------------------------------------


def choice_by_hand_drawn(spans, priority, rate):
    """[CLS] a b c [SEP] d e f [SEP] with chosen span lengths and priorities for a to f."""
    batch = pack([[[([11, 12, 13], [1] * 3), ([14, 15, 16], [1] * 3)]]], LENGTH, WINDOWS)
    full = [np.zeros(LENGTH, int), np.ones(LENGTH, int)]
    for values, given in zip(full, (priority, spans), strict=True):
        values[[1, 2, 3, 5, 6, 7]] = given
    draws = draws_of(*full)
    columns = (batch[name][0] for name in ("tokens", "segments", "token_types", "word_starts"))
    return np.flatnonzero(choose(Mask(rate=rate))(draws, *columns)).tolist()


def test_spans_never_cross_the_separator():
    """Nine tokens, budget 3. The span of length 3 at c holds c alone; f and e are next in the walk."""
    assert choice_by_hand_drawn(spans=[2, 3, 1, 1, 1, 1], priority=[5, 9, 0, 4, 2, 1], rate=1 / 3) == [3, 6, 7]


def test_spans_take_neighbouring_words():
    """The span at a holds a, b, c and has the lowest priority number."""
    assert choice_by_hand_drawn(spans=[3, 1, 1, 1, 1, 1], priority=[0, 9, 9, 4, 2, 1], rate=1 / 3) == [1, 2, 3]


def test_a_span_that_does_not_fit_is_shortened():
    """Budget 2: a and b of the span a, b, c."""
    assert choice_by_hand_drawn(spans=[3, 1, 1, 1, 1, 1], priority=[0, 9, 9, 4, 2, 1], rate=2 / 9) == [1, 2]


def test_lengths_start_anew_in_each_part():
    """The draws at a and d begin their parts: d, e is a span of two whatever stood in part A."""
    assert choice_by_hand_drawn(spans=[3, 1, 1, 2, 1, 1], priority=[5, 0, 0, 1, 0, 9], rate=2 / 9) == [5, 6]
