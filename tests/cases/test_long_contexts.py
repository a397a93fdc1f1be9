"""Questions about texts longer than a row: steps wider than a window, questions that fill the row.

Users report skipped words and answers that cannot be found: huggingface/transformers #2548, #18160; deepset-ai/FARM
#536.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest

from bertlite_jax.config.finetune import Examples
from bertlite_jax.data.examples import span_features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, load_tokenizer

WORDS = ["she", "said", "the", "door", "and", "went", "down", "again", "to", "time"]
CONTEXT = " ".join([*WORDS * 15, "the queen", *WORDS * 15])
ANSWER = "again to time the queen she said the door"
ANSWERS = ((ANSWER, CONTEXT.index(ANSWER)),)


@pytest.fixture(scope="module")
def reader(prepared) -> Tokenizer:
    return load_tokenizer(prepared.tokenizer)


def encode(reader: Tokenizer, question: str, training: bool = False, **settings: Any) -> span_features.Questions:
    example = Example("q", question, CONTEXT, label=1, answers=ANSWERS)
    data = dataclasses.replace(Examples(length=48, window_step=128), **settings)
    return span_features.encode([example], reader, data, training=training, where="dev")


@pytest.mark.parametrize("question", ["who was it", "who " * 600], ids=["short", "600 words"])
@pytest.mark.parametrize("question_length", [64, 500])
@pytest.mark.parametrize("window_step", [1, 20, 128])
def test_every_token_of_the_context_is_in_some_window(question, question_length, window_step, reader):
    found = encode(reader, question, question_length=question_length, window_step=window_step)
    (passage,), (windows,) = found.passages, found.windows
    shown = np.zeros(len(passage.ids), int)
    judged = np.zeros(len(passage.ids), int)
    for window in windows:
        shown[window.first : window.stop] += 1
        judged[window.first : window.stop] += window.best
        assert window.offset + window.stop - window.first + 1 <= 48
    assert shown.min() >= 1
    assert (judged == 1).all()


def test_a_question_that_would_fill_its_row_is_cut_to_half_of_it_and_counted(reader):
    """It used to end the job, hours into the data: 45 tokens between [CLS] and the last [SEP] are for both texts."""
    for training in (False, True):
        cut = encode(reader, "who " * 600, training, question_length=500)
        assert cut.encoded.counts["truncated"] == 1
        assert (cut.encoded.types == 0).sum() == len(cut.encoded.offsets[1:]) * (1 + 22 + 1)
    (passage,) = encode(reader, "who was it", question_length=500).passages
    np.testing.assert_array_equal(passage.question, reader.encode("who was it"))


def test_an_answer_that_no_window_shows_whole_is_counted(reader):
    """Windows without overlap divide answers; such a question is learnt as one without an answer."""
    divided = {step: encode(reader, "who was it", window_step=step).encoded for step in (128, 1)}
    assert divided[1].counts["divided_answers"] == 0
    assert (divided[1].labels[:, 0] > 0).any()
    found = [encode(reader, "who was it", window_step=128, length=length).encoded for length in range(16, 48)]
    for encoded in found:
        assert encoded.counts["divided_answers"] == (not (encoded.labels[:, 0] > 0).any())
    assert {encoded.counts["divided_answers"] for encoded in found} == {0, 1}
