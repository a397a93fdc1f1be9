"""The student without an encoder: a mean of word vectors, and the same function as one table."""

import jax
import numpy as np
import pytest

from bertlite_jax.convert.onnx.graph import to_bytes
from bertlite_jax.convert.onnx.session import open_session, run_session
from bertlite_jax.convert.onnx.word_mean import build_word_mean
from bertlite_jax.train.compression import word_mean
from bertlite_jax.train.compression.word_mean import WordMean

TOKENS = np.asarray([[2, 4, 0], [1, 3, 3]], np.int32)
MASK = np.asarray([[1, 1, 0], [1, 1, 1]], np.int32)


@pytest.fixture(scope="module")
def params() -> WordMean:
    words = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    return word_mean.drawn(words, 3, jax.random.key(0))._replace(bias=np.asarray([0.5, -1.0, 2.0], np.float32))


def test_the_logits_are_those_of_the_mean_without_padding(params: WordMean):
    words, kernel, bias = map(np.asarray, params)
    means = np.stack([(words[2] + words[4]) / 2, (words[1] + 2 * words[3]) / 3])
    np.testing.assert_allclose(word_mean.logits(params, TOKENS, MASK), means @ kernel + bias, rtol=1e-5)


def test_the_words_are_the_teachers_at_the_start():
    words = np.ones((5, 4), np.float32)
    np.testing.assert_array_equal(word_mean.drawn(words, 2, jax.random.key(1)).words, words)


def test_the_file_has_a_row_of_logits_for_each_word_and_gives_the_same(params: WordMean):
    table = word_mean.folded(params)
    assert table.shape == (5, 3)
    session = open_session(to_bytes(build_word_mean(table, np.asarray(params.bias))))
    found = run_session(session, {"input_ids": TOKENS, "attention_mask": MASK})["logits"]
    np.testing.assert_allclose(found, word_mean.logits(params, TOKENS, MASK), rtol=1e-5, atol=1e-6)
