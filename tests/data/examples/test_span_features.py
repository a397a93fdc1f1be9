"""Windows of questions as arrays: nothing is lost, and what cannot be learnt from is left out and counted."""

import dataclasses

import numpy as np
import pytest

from bertlite_jax.config.finetune import Examples
from bertlite_jax.config.model import Head
from bertlite_jax.data.examples import batches, passages, span_features
from bertlite_jax.data.examples.features import UNLABELLED
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer
from bertlite_jax.errors import UserError

DATA = Examples(length=24, window_step=6, question_length=6)
TEXT = "alice was beginning to get very tired of sitting by her sister on the bank"
ASKED = [
    Example("found", "who was tired", TEXT, label=1, answers=(("her sister", TEXT.index("her sister")),)),
    Example("nowhere", "who was tired", TEXT, label=1, answers=(("the queen", -1),)),
    Example("none", "who was tired", "by her sister", label=0),
    Example("unknown", "who was tired", "by her sister"),
]


@pytest.fixture(scope="module")
def reader(prepared) -> Tokenizer:
    return load_tokenizer(prepared.tokenizer)


def test_windows_lie_one_behind_the_other_with_their_targets(reader):
    made = span_features.encode(ASKED, reader, DATA, training=False, where="dev")
    encoded, at = made.encoded, 0
    assert [passage.id for passage in made.passages] == [example.id for example in ASKED]
    for example, passage, windows in zip(ASKED, made.passages, made.windows, strict=True):
        for window in windows:
            here = slice(encoded.offsets[at], encoded.offsets[at + 1])
            tokens, types = passages.row(passage, window, reader)
            np.testing.assert_array_equal(encoded.tokens[here], tokens)
            np.testing.assert_array_equal(encoded.types[here], types)
            start, end = encoded.labels[at]
            if start > 0:
                first = window.first - window.offset
                assert passage.text(first + start, first + end) == "her sister"
            else:
                assert (start, end) == {"found": (0, 0), "none": (0, 0)}.get(example.id, (UNLABELLED, UNLABELLED))
            at += 1
    assert at == len(encoded.labels) > len(ASKED)
    assert (encoded.labels[:, 0] > 0).sum() >= 1


def test_nothing_is_learnt_from_an_answer_without_a_place(reader):
    made = span_features.encode(ASKED[:3], reader, DATA, training=True, where="train")
    whole = span_features.encode([ASKED[0], ASKED[2]], reader, DATA, training=True, where="train")
    np.testing.assert_array_equal(made.encoded.tokens, whole.encoded.tokens)
    assert made.encoded.counts["nothing_to_learn"] == 1
    assert made.encoded.counts["questions"] == 3
    assert not made.passages  # A training set of a hundred thousand contexts is not kept.


def test_unlabelled_questions_are_no_training_set(reader):
    with pytest.raises(UserError, match="train: unknown: no answers"):
        span_features.encode(ASKED, reader, DATA, training=True, where="train")
    with pytest.raises(UserError, match="dev holds no question"):
        span_features.encode([], reader, DATA, training=False, where="dev")
    with pytest.raises(UserError, match="no question to learn from"):
        span_features.encode(ASKED[1:2], reader, DATA, training=True, where="train")


def test_a_long_question_is_cut_and_counted(reader):
    data = dataclasses.replace(DATA, question_length=2)
    made = span_features.encode(ASKED[:1], reader, data, training=False, where="dev")
    assert made.encoded.counts["truncated"] == 1
    assert len(made.passages[0].question) == 2


def test_batches_hold_every_window_once_with_its_target(reader):
    """Windows of several questions share rows; what is not known has no weight."""
    encoded = span_features.encode(ASKED, reader, DATA, training=False, where="dev").encoded
    head, seen = Head(kind="span", labels=()), []
    for layout in batches.evaluation_batches(encoded, 64, True, 1, head, reader.pad_id):
        for row, column in np.argwhere(layout.windows >= 0):
            window, start = layout.windows[row, column], layout.batch["cls"][row, column]
            seen.append(window)
            tokens = encoded.tokens[encoded.offsets[window] : encoded.offsets[window + 1]]
            np.testing.assert_array_equal(layout.batch["tokens"][row, start : start + len(tokens)], tokens)
            known = encoded.labels[window, 0] >= 0
            assert layout.batch["weights"][row, column] == known
            assert not known or (layout.batch["labels"][row, column] == encoded.labels[window]).all()
    assert sorted(seen) == list(range(len(encoded.labels)))
