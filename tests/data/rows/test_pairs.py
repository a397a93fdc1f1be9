"""Pairs: where a window may be cut, what the labels say, and that the edges say nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlite_jax.config.pair_tasks import pair_classes
from bertlite_jax.data.corpus.boundaries import Windows, draw, pair_bounds, window_keys
from bertlite_jax.data.rows import pairs

NOTHING = np.zeros(1000, np.int64)


def windows_from(described: list[tuple[list[int], list[int], list[int], int]]) -> Windows:
    """(tokens, word starts, sentence ends, document) of each window."""
    tokens, starts, ends, documents = zip(*described, strict=True)
    return Windows(
        tokens=np.concatenate([np.asarray(t, np.int32) for t in tokens]),
        word_starts=np.concatenate([np.isin(np.arange(len(t)), s) for t, s in zip(tokens, starts, strict=True)]),
        offsets=np.cumsum([0, *map(len, tokens)]),
        ends=np.asarray([end for of_one in ends for end in of_one], np.int64),
        end_offsets=np.cumsum([0, *map(len, ends)]),
        documents=np.asarray(documents, np.int64),
    )


def make(windows: Windows, task: str, single: str = "drop", kinds=NOTHING, seed: int = 0, others=()):
    spans, n = [], np.diff(windows.offsets)
    for w in range(len(n)):
        here = slice(windows.offsets[w], windows.offsets[w + 1])
        ends = windows.ends[windows.end_offsets[w] : windows.end_offsets[w + 1]]
        start, stop = pair_bounds(int(n[w]), windows.word_starts[here], ends)
        spans.append(stop - start)

    def read(numbers: np.ndarray) -> Windows:
        return windows_from([others[number] for number in numbers])

    sizes = np.asarray([len(other[0]) for other in others], int)
    rules = pairs.Rules(task, single, kinds, read, sizes)
    keys = window_keys(np.arange(len(n)), seed)
    return pairs.make_pairs(windows, np.asarray(spans), np.zeros(len(n), bool), keys, rules)


def parts(made: pairs.Pairs, w: int) -> tuple[list[int], list[int]]:
    a, b = made.a_start[w], made.b_start[w]
    return made.tokens[a : a + made.a_length[w]].tolist(), made.tokens[b : b + made.b_length[w]].tolist()


# --- The span --------------------------------------------------------------------------------------------------------


def test_windows_with_two_edges_of_one_kind_keep_all_their_tokens():
    starts = np.ones(10, bool)
    assert pair_bounds(10, starts, np.asarray([0, 4, 10])) == (0, 10)
    assert pair_bounds(10, starts, np.asarray([4, 7])) == (0, 10)
    assert pair_bounds(10, starts, np.asarray([], int)) == (0, 10)


def test_the_first_window_of_a_document_loses_half_of_its_first_sentence():
    """Sentence 0..6 begins at the edge; words start at 0, 2, 4, so its middle word start is 2 or 4 (middle: 3)."""
    starts = np.isin(np.arange(12), [0, 2, 4, 6, 8, 10])
    assert pair_bounds(12, starts, np.asarray([0, 6])) == (2, 12)


def test_the_last_window_of_a_document_loses_half_of_its_last_sentence():
    starts = np.isin(np.arange(12), [0, 2, 4, 6, 9, 10])
    assert pair_bounds(12, starts, np.asarray([6, 12])) == (0, 9)


def test_a_window_that_cannot_be_trimmed_stays_whole():
    """The first sentence is one word of three tokens."""
    assert pair_bounds(6, np.isin(np.arange(6), [0, 3, 5]), np.asarray([0, 3])) == (0, 6)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_spans_lie_in_the_window_and_moved_edges_at_word_starts_in_mid_sentence(data):
    n = data.draw(st.integers(1, 40))
    starts = np.asarray(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    ends = np.asarray(sorted(data.draw(st.sets(st.integers(0, n)))), int)
    start, stop = pair_bounds(n, starts, ends)
    assert 0 <= start < stop <= n
    for edge, moved in ((start, start > 0), (stop, stop < n)):
        if moved:
            assert starts[edge]
            assert edge not in ends


# --- Draws -----------------------------------------------------------------------------------------------------------


def test_draws_are_uniform_and_independent_of_each_other():
    """100,000 draws of 8 values: a standard deviation of a count is 105."""
    keys = window_keys(np.arange(100_000), 3, 0, 1)
    first, second = draw(keys, 1, 8), draw(keys, 2, 8)
    assert abs(np.bincount(first, minlength=8) - 12_500).max() < 500
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.02


def test_draws_change_with_the_seed_the_pass_and_the_window():
    numbers = np.arange(1000)
    base = draw(window_keys(numbers, 0, 0, 0), 1, 1 << 30)
    for other in (window_keys(numbers, 1, 0, 0), window_keys(numbers, 0, 0, 1), window_keys(numbers + 1, 0, 0, 0)):
        assert (draw(other, 1, 1 << 30) != base).mean() > 0.99
    assert np.array_equal(draw(window_keys(numbers[::-1], 0, 0, 0), 1, 1 << 30), base[::-1])


# --- Pairs -----------------------------------------------------------------------------------------------------------

SENTENCES = ([10, 11, 12, 20, 21, 30, 31], [0, 1, 3, 5], [0, 3, 5, 7], 0)
"""Three sentences of tokens 1x, 2x, 3x."""


def test_whole_sentences_are_cut_between_sentences_and_half_of_them_swapped():
    made = make(windows_from([SENTENCES] * 400), "sop")
    in_order = {((10, 11, 12), (20, 21, 30, 31)), ((10, 11, 12, 20, 21), (30, 31))}
    for w in range(400):
        a, b = map(tuple, parts(made, w))
        assert ((a, b) in in_order) if made.labels[w] == 0 else ((b, a) in in_order)
    assert {parts(made, w)[0][-1] for w in range(400) if made.labels[w] == 0} == {12, 21}
    assert 150 < made.labels.sum() < 250
    assert made.weights.all()


def test_mid_sentence_windows_are_cut_in_mid_sentence():
    """Sentence boundaries at 3 and 6 of ten tokens, a word starts at each token: the cut is at neither."""
    window = (list(range(10, 20)), list(range(10)), [3, 6], 0)
    made = make(windows_from([window] * 400), "sop")
    cuts = {len(parts(made, w)[made.labels[w]]) for w in range(400)}
    assert cuts == {1, 2, 4, 5, 7, 8, 9}


def test_windows_without_a_fitting_cut_follow_the_option():
    one_sentence = (list(range(10, 16)), [0, 2, 4], [0, 6], 0)
    other = (list(range(50, 70)), list(range(20)), [0, 5, 10, 15, 20], 1)
    windows = windows_from([one_sentence] * 50)
    dropped = make(windows, "sop", "drop")
    assert not dropped.weights.any()
    assert parts(dropped, 0) == (list(range(10, 16)), [])
    split = make(windows, "sop", "split")
    assert split.weights.all()
    assert set(split.labels) == {0, 1}
    assert {len(parts(split, w)[split.labels[w]]) for w in range(50)} == {2, 4}
    reference = make(windows, "sop", "reference", others=[other])
    assert reference.weights.all()
    assert (reference.labels == 1).all()
    for w in range(50):
        a, b = parts(reference, w)
        assert a[0] == 10
        assert len(a) in (2, 4)
        assert min(b) >= 50
        assert len(a) + len(b) <= 6


def long_windows(document: int, count: int, seed: int) -> list[tuple]:
    """Windows of 40 to 60 tokens in mid-sentence; token 5 ends a sentence."""
    rng = np.random.default_rng(seed)
    described = []
    for _ in range(count):
        tokens = rng.integers(100 * document, 100 * document + 100, size=rng.integers(40, 60))
        described.append((tokens.tolist(), list(range(len(tokens))), [12, 30], document))
    return described


@pytest.mark.parametrize("task", ["nsp", "three_way"])
def test_a_random_part_comes_from_another_document_and_is_hardly_shorter(task):
    described = [window for document in range(1, 9) for window in long_windows(document, 50, document)]
    windows = windows_from(described)
    made = make(windows, task, others=described)
    random = pair_classes(task) - 1
    whole = np.diff(windows.offsets)
    assert made.weights.all()
    for w in range(len(described)):
        a, b = parts(made, w)
        own = {described[w][3]}
        assert {token // 100 for token in a} == own
        assert ({token // 100 for token in b} != own) == (made.labels[w] == random)
        assert whole[w] - 8 <= len(a) + len(b) <= whole[w]
    lengths = [
        (made.a_length + made.b_length)[made.labels == label] - whole[made.labels == label] for label in (0, random)
    ]
    assert abs(lengths[0].mean() - lengths[1].mean()) < 0.6, "the length would tell a random part"


def test_three_labels_come_in_thirds():
    described = [window for document in range(1, 4) for window in long_windows(document, 1000, document)]
    made = make(windows_from(described), "three_way", others=described)
    # 1,000 expected of each; standard deviation 26.
    assert abs(np.bincount(made.labels, minlength=3) - 1000).max() < 110


def test_without_a_pair_task_a_window_is_one_segment():
    made = make(windows_from([SENTENCES]), "none")
    assert parts(made, 0) == ([10, 11, 12, 20, 21, 30, 31], [])
    assert not made.weights.any()


# --- Edges -----------------------------------------------------------------------------------------------------------


def test_pieces_show_what_a_reader_of_edges_would_see():
    pieces = ["▁the", "the", "▁The", "##ing", ".", "▁.", ",", "▁1990", "#", "。", "ĠParis", "語"]
    names = [pairs.EDGE_KINDS[kind] for kind in pairs.token_kinds(pieces)]
    assert names == [
        *("other", "other", "capital", "other", "sentence end", "sentence end", "other punctuation", "digit"),
        *("other punctuation", "sentence end", "capital", "other"),
    ]


def test_cuts_look_like_the_windows_own_edges():
    """The window opens with a capital (kind 3) and closes with a comma (kind 2); one inner place is like that."""
    kinds = NOTHING.copy()
    kinds[50], kinds[60] = 3, 2
    tokens = [50, 10, 50, 11, 60, 50, 12, 60, 13, 60]
    made = make(windows_from([(tokens, list(range(10)), [], 0)] * 20), "sop", kinds=kinds)
    for w in range(20):
        assert sorted(parts(made, w)) == [tokens[:5], tokens[5:]]


def test_a_window_without_a_cut_like_its_edges_has_no_pair_unless_asked_for():
    """It opens with a capital that never comes again."""
    kinds = NOTHING.copy()
    kinds[50] = 3
    windows = windows_from([([50, 10, 11, 12, 13], list(range(5)), [], 0)] * 20)
    assert not make(windows, "sop", kinds=kinds).weights.any()
    assert make(windows, "sop", "split", kinds=kinds).weights.all()


def test_the_edge_rule_finds_what_edges_tell_and_nothing_where_they_do_not():
    rng = np.random.default_rng(0)
    edges, labels = rng.integers(0, 5, (8000, 4)), rng.integers(0, 2, 8000)
    assert pairs.edge_rule_accuracy(edges, labels) < 0.53
    # An exclusive or of two edges: no single edge tells anything, the two of them all.
    told = (edges[:, 1] == 3) ^ (edges[:, 2] == 3)
    assert pairs.edge_rule_accuracy(edges, told.astype(int)) == 1.0
    # Pairs cut at sentence ends in windows cut in mid-sentence: a last token that ends a sentence closes A or B.
    edges[:, 1], edges[:, 3] = np.where(labels == 0, 1, 0), np.where(labels == 0, 0, 1)
    assert pairs.edge_rule_accuracy(edges, labels) == 1.0


def test_edges_are_read_from_the_right_places_of_a_batch():
    """[CLS] 10 11 [SEP] 20 21 22 [SEP] [CLS] 30 [SEP] [CLS] 40 [SEP] 50 [SEP]: the second window has no pair."""
    batch = {
        "tokens": np.asarray([[2, 10, 11, 3, 20, 21, 22, 3, 2, 30, 3, 2, 40, 3, 50, 3]]),
        "segments": np.asarray([[1] * 8 + [2] * 3 + [3] * 5]),
        "token_types": np.asarray([[0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1]]),
        "cls": np.asarray([[0, 8, 11, 0]]),
        "pair_weights": np.asarray([[1, 0, 1, 0]]),
        "pair_labels": np.asarray([[1, 0, 0, 0]]),
    }
    edges, labels = pairs.pair_edges(batch, np.arange(100))
    assert edges.tolist() == [[10, 11, 20, 22], [40, 40, 50, 50]]
    assert labels.tolist() == [1, 0]
