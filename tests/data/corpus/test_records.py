"""Records of windows, read without TFDS."""

import warnings
from typing import Any

import numpy as np
import synthetic_corpus

from bertlite_jax.data.corpus.records import open_records, read_windows


def test_tfds_reads_the_same_windows(tmp_path):
    """The hand-written parse against TFDS's own decoding."""
    import tensorflow_datasets as tfds

    folder = tmp_path / "corpus"
    corpus = synthetic_corpus.build(folder, 150, 0, shard_size=700)
    numbers = np.asarray([5, 0, 705, 5, len(corpus) - 1])
    windows = read_windows(open_records(str(folder), "train", 1000), numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        builder: Any = tfds.builder_from_directory(str(folder))  # Its decorator hides the method's signature.
        examples = builder.as_data_source(split="train")
        decoded = [examples[int(number)] for number in numbers]
    for w, example in enumerate(decoded):
        n = windows.offsets[w + 1] - windows.offsets[w]
        here = slice(windows.offsets[w], windows.offsets[w + 1])
        ends = windows.ends[windows.end_offsets[w] : windows.end_offsets[w + 1]]
        assert windows.tokens[here].tolist() == np.frombuffer(example["tokens"], "<u2").tolist()
        bits = np.unpackbits(np.frombuffer(example["word_starts"], np.uint8), bitorder="little")[:n]
        assert windows.word_starts[here].tolist() == bits.astype(bool).tolist()
        assert ends.tolist() == np.frombuffer(example["sentence_ends"], "<u2").tolist()
        assert windows.documents[w] == example["document"]
