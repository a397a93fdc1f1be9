"""Windows: consecutive text, never too long, cut where words start, described by their bytes."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlite_jax.data.corpus import windows
from bertlite_jax.data.corpus.boundaries import pair_bounds
from bertlite_jax.data.corpus.windows import Cutting


@st.composite
def documents(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tokens [n], word starts [n], boundaries): sentences of words of one to twelve pieces."""
    sentences = draw(st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=20), min_size=1, max_size=20))
    starts = np.concatenate([np.arange(size) == 0 for words in sentences for size in words])
    boundaries = np.cumsum([0, *(sum(words) for words in sentences)])
    return np.arange(len(starts)).astype("<u2"), starts, boundaries


def cuttings() -> st.SearchStrategy[Cutting]:
    return st.builds(
        Cutting,
        length=st.sampled_from([8, 16, 40]),
        short_fraction=st.sampled_from([0.0, 0.1, 0.9]),
        whole_sentences=st.booleans(),
        seed=st.integers(0, 2**63),
    )


def parse(record: bytes) -> dict[str, np.ndarray]:
    """A record as TFDS's own protobuf classes read it."""
    from tensorflow_datasets.proto import tf_example_pb2

    messages: Any = tf_example_pb2  # Generated code; its names appear at run time only.
    feature = messages.Example.FromString(record).features.feature
    tokens = np.frombuffer(feature["tokens"].bytes_list.value[0], "<u2")
    bits = np.frombuffer(feature["word_starts"].bytes_list.value[0], np.uint8)
    return {
        "tokens": tokens,
        "word_starts": np.unpackbits(bits, count=len(tokens), bitorder="little").astype(bool),
        "sentence_ends": np.frombuffer(feature["sentence_ends"].bytes_list.value[0], "<u2"),
        "document": np.array(feature["document"].int64_list.value[0]),
    }


@settings(max_examples=150, deadline=None)
@given(documents(), cuttings(), st.integers(0, 2**40))
def test_the_windows_are_the_document(document, cutting, number):
    """One after the other they give the tokens, the word starts and the sentence boundaries back."""
    tokens, starts, boundaries = document
    records, lengths = windows.document_windows(cutting, number, tokens, starts, boundaries, Counter())
    found = [parse(record) for record in records]
    assert np.array_equal(np.concatenate([window["tokens"] for window in found]), tokens)
    assert np.array_equal(np.concatenate([window["word_starts"] for window in found]), starts)
    offsets = np.cumsum([0, *(len(window["tokens"]) for window in found)])
    ends = [window["sentence_ends"].astype(int) + offset for window, offset in zip(found, offsets, strict=False)]
    # A boundary between two windows stands in both of them.
    assert set(np.concatenate(ends)) == set(boundaries)
    for window, place in zip(ends, offsets, strict=False):
        assert (np.diff(window) > 0).all()
        assert (place in window) == (place in boundaries)
    assert {int(window["document"]) for window in found} == {number}
    pairs = [pair_bounds(len(w["tokens"]), w["word_starts"], w["sentence_ends"]) for w in found]
    expected = [(len(w["tokens"]), stop - start) for w, (start, stop) in zip(found, pairs, strict=True)]
    assert lengths == expected


@settings(max_examples=150, deadline=None)
@given(documents(), cuttings(), st.integers(0, 1000))
def test_windows_fit_and_are_cut_where_words_start(document, cutting, number):
    """Only a word that is longer than a window is cut inside."""
    _, starts, boundaries = document
    cuts = windows.cut_document(cutting, number, starts, boundaries)
    assert cuts[0] == 0
    assert cuts[-1] == len(starts)
    sizes = np.diff(cuts)
    assert sizes.min() >= 1
    assert sizes.max() <= cutting.length - 3
    for start, stop in itertools.pairwise(cuts[:-1]):
        if not starts[stop]:
            assert stop - start == cutting.length - 3
            assert not starts[start + 1 : stop + 1].any()
        if cutting.whole_sentences and stop not in boundaries:
            # No sentence that begins or goes on here would have fitted.
            assert not ((boundaries > start) & (boundaries <= start + cutting.length - 3)).any()


def test_a_sentence_that_does_not_fit_is_cut_and_its_rest_opens_the_next_window():
    """Three sentences of 6 words, windows of 8: 8, 8 and the 2 that are left."""
    starts = np.ones(18, bool)
    boundaries = np.array([0, 6, 12, 18])
    cutting = Cutting(length=11, short_fraction=0)
    assert windows.cut_document(cutting, 0, starts, boundaries) == [0, 8, 16, 18]
    counts = Counter()
    records, lengths = windows.document_windows(cutting, 5, np.arange(18, dtype="<u2"), starts, boundaries, counts)
    assert [parse(record)["sentence_ends"].tolist() for record in records] == [[0, 6], [4], [2]]
    # Edges: S|M, M|M, M|S. The two mixed ones are trimmed to the middle of the sentence at their S edge: from 3, to 1.
    assert lengths == [(8, 5), (8, 8), (2, 1)]
    assert counts == Counter(
        windows=3, short_windows=0, single_sentence_windows=1, edges_SM=1, edges_MM=1, edges_MS=1, cut_words=0,
        pair_windows=2,
    )  # fmt: skip


def test_whole_sentences_stay_whole():
    starts = np.ones(18, bool)
    boundaries = np.array([0, 6, 12, 18])
    cutting = Cutting(length=11, short_fraction=0, whole_sentences=True)
    assert windows.cut_document(cutting, 0, starts, boundaries) == [0, 6, 12, 18]
    # Unless one of them is longer than a window.
    assert windows.cut_document(cutting, 0, starts, np.array([0, 12, 18])) == [0, 8, 12, 18]


def test_a_tenth_of_the_windows_aims_at_a_random_shorter_length():
    cutting = Cutting(length=128, short_fraction=0.1, seed=3)
    aims = np.array([windows.aim(cutting, number // 40, number % 40) for number in range(40_000)])
    assert aims.min() == 2
    assert aims.max() == 125
    # Binomial: 4 standard deviations of the share are 0.006. One of the 124 lengths is the full one.
    assert (aims < 125).mean() == pytest.approx(0.1 * 123 / 124, abs=0.006)
    # randint(2, 125), both ends included: mean 63.5, standard deviation 35.8, about 4,000 draws.
    assert aims[aims < 125].mean() == pytest.approx(63, abs=2.3)
    assert all(windows.aim(Cutting(128, 0.0), 0, window) == 125 for window in range(100))
    other = Cutting(length=128, short_fraction=0.1, seed=4)
    assert [windows.aim(other, 0, w) for w in range(200)] != [windows.aim(cutting, 0, w) for w in range(200)]


@pytest.mark.parametrize("document", [0, 5, 127, 128, 300, 2**40])
def test_a_record_is_what_tfds_writes(document):
    """Byte for byte what its ExampleSerializer and protobuf's deterministic mode make of the same features."""
    from tensorflow_datasets.core import example_serializer

    from bertlite_jax.data.corpus import shards

    values = {"tokens": b"abc" * 70, "word_starts": b"\x01", "sentence_ends": b""}
    specs: Any = shards.FEATURES.get_serialized_info()
    serializer = example_serializer.ExampleSerializer(specs)
    example = serializer.get_tf_example(shards.FEATURES.encode_example(values | {"document": document}))
    ours = windows.serialise(document, values["sentence_ends"], values["tokens"], values["word_starts"])
    assert ours == example.SerializeToString(deterministic=True)


def test_a_large_vocabulary_is_stored_in_four_bytes():
    assert windows.token_type(65_536) == "<u2"
    assert windows.token_type(65_537) == "<u4"
    tokens = np.array([70_000, 1], windows.token_type(100_000))
    boundaries = np.array([0, 2])
    records, _ = windows.document_windows(Cutting(), 0, tokens, np.ones(2, bool), boundaries, Counter())
    assert tokens.tobytes() in records[0]
    assert len(tokens.tobytes()) == 8
