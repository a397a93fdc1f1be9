"""Examples become windows that are cut by the rule of their task, and nothing is dropped without being counted."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from bertlite_jax.config.model import Head
from bertlite_jax.data.examples import features
from bertlite_jax.data.tasks.example import Example
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary
from bertlite_jax.errors import UserError

TWO = Head(labels=("bad", "good"))
TAGS = Head(kind="tag", labels=("O", "B-x", "I-x"))
CHOOSE = Head(kind="choose", labels=())


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> Tokenizer:
    """A WordPiece vocabulary in which every letter is a word, or goes on one."""
    folder = tmp_path_factory.mktemp("letters")
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *alphabet, *(f"##{letter}" for letter in alphabet)]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    return adopt_vocabulary(folder / "vocab.txt", folder / "made")


def windows(letters, examples, head, length=16):
    """The pieces and types of every window, and the whole."""
    made = features.encode(examples, letters, head, length, "train")
    bounds = list(itertools.pairwise(made.offsets))
    return [(" ".join(letters.pieces(made.tokens[a:b])), made.types[a:b].tolist()) for a, b in bounds], made


def test_a_text_and_a_pair_stand_between_the_specials_with_their_types(letters):
    found, made = windows(letters, [Example("1", "a b", label=1), Example("2", "a", "b c", label=0)], TWO)
    assert found == [("[CLS] a b [SEP]", [0, 0, 0, 0]), ("[CLS] a [SEP] b c [SEP]", [0, 0, 0, 1, 1, 1])]
    assert made.labels.tolist() == [1, 0]
    assert made.sizes.tolist() == [4, 6]
    assert made.counts == {"examples": 2, "tokens": 10, "truncated": 0, "empty_texts": 0, "unlabelled": 0, "pairs": 1}


def reference_cut(first: Sequence[int], second: Sequence[int], room: int) -> tuple[list[int], list[int]]:
    """google-research/bert:run_classifier.py, `_truncate_seq_pair`."""
    left, right = list(first), list(second)
    while len(left) + len(right) > room:
        if len(left) > len(right):
            left.pop()
        else:
            right.pop()
    return left, right


@pytest.mark.parametrize("room", [0, 1, 2, 5, 8, 13, 30])
def test_of_a_pair_the_longer_one_is_cut_as_bert_does(room):
    for a in range(12):
        for b in range(12):
            found = features.cut_pair(np.arange(a), np.arange(b), room)
            assert tuple(part.tolist() for part in found) == reference_cut(range(a), range(b), room)


def test_long_texts_are_cut_and_counted_and_empty_ones_stay_examples(letters):
    examples = [Example("1", "a " * 100_000, label=0), Example("2", "", label=1), Example("3", "a b", label=None)]
    found, made = windows(letters, examples, TWO, length=8)
    assert found[0][0] == "[CLS] a a a a a a [SEP]"
    assert found[1][0] == "[CLS] [SEP]"
    assert (made.counts["truncated"], made.counts["empty_texts"], made.counts["unlabelled"]) == (1, 1, 1)
    assert made.labels.tolist() == [0, 1, features.UNLABELLED]


def test_every_choice_is_a_window_and_keeps_its_end_where_the_premise_loses_its_own(letters):
    examples = [Example("1", "a b", choices=("c", "d e"), label=1), Example("2", "a b c d e", choices=("x y z", "z"))]
    found, made = windows(letters, examples, CHOOSE, length=8)
    shown = [text for text, _ in found]
    assert shown[:2] == ["[CLS] a b [SEP] c [SEP]", "[CLS] a b [SEP] d e [SEP]"]
    # Five pieces have room: the choice its three, the premise two; then one and four.
    assert shown[2:] == ["[CLS] a b [SEP] x y z [SEP]", "[CLS] a b c d [SEP] z [SEP]"]
    assert made.firsts.tolist() == [0, 2, 4]
    assert made.sizes.tolist() == [6 + 7, 8 + 8]
    assert made.counts["truncated"] == 1


def test_a_choice_too_long_for_half_the_room_loses_its_front(letters):
    found, _ = windows(letters, [Example("1", "a b c", choices=("p q r s t u v", "w"))], CHOOSE, length=9)
    assert found[0][0] == "[CLS] a b c [SEP] t u v [SEP]"


def test_the_first_piece_of_each_word_has_its_label_and_whole_words_are_cut(letters):
    example = Example("1", "", words=("ab", "\u200b", "cde", "fg"), label=(1, 0, 2, 0))
    found, made = windows(letters, [example], TAGS, length=8)
    assert found[0][0] == "[CLS] a ##b [UNK] c ##d ##e [SEP]"
    assert made.words.tolist() == [-1, 0, -1, 1, 2, -1, -1, -1]
    assert made.labels.tolist() == [-1, 1, -1, 0, 2, -1, -1, -1]
    assert (made.counts["words"], made.counts["words_cut_off"], made.counts["truncated"]) == (4, 1, 1)


def test_numbers_and_several_labels_are_floats_and_nan_where_unknown(letters):
    several = Head(labels=("a", "b", "c"), problem="multi_label")
    _, made = windows(letters, [Example("1", "a", label=(1, 0, 1)), Example("2", "b")], several)
    np.testing.assert_array_equal(made.labels, [[1, 0, 1], [np.nan] * 3])
    number = Head(labels=("score",), problem="regression")
    _, made = windows(letters, [Example("1", "a", label=2.5), Example("2", "b", label=3)], number)
    assert made.labels.tolist() == [[2.5], [3.0]]


@pytest.mark.parametrize(
    ("example", "head", "message"),
    [
        (Example("7", "a", label=2), TWO, "7: label 2 is not one of 0 to 1"),
        (Example("7", "a", label=0.5), TWO, "7: label 0.5 is not one of 0 to 1"),
        (Example("7", "a", choices=("b", "c"), label=2), CHOOSE, "7: label 2 is not one of 0 to 1"),
        (Example("7", "a", choices=("b",)), CHOOSE, "7: 1 choices; at least 2"),
        (Example("7", "", words=("a", "b"), label=(0,)), TAGS, "7: 2 words need as many labels"),
        (Example("7", "", words=("a",), label=(3,)), TAGS, "7: a label that is not one of O, B-x, I-x"),
        (Example("7", ""), TAGS, "7: no words to tag"),
        (Example("7", "a", label=float("nan")), Head(labels=("n",), problem="regression"), "not 1 finite numbers"),
        (Example("7", "a", label=(1, 0, 1)), Head(problem="multi_label"), "is not 2 finite numbers"),
    ],
)
def test_what_does_not_fit_the_head_is_named_with_its_id(letters, example, head, message):
    with pytest.raises(UserError, match=message):
        features.encode([example], letters, head, 16, "train")


def test_a_split_without_examples_is_refused(letters):
    with pytest.raises(UserError, match="data: sst2 train holds no example"):
        features.encode([], letters, TWO, 16, "sst2 train")
