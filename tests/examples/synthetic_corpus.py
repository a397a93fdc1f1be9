"""A corpus folder made of invented windows, written with TFDS itself and not with the code under test."""

from __future__ import annotations

import json
import os
import pathlib
import warnings
from typing import Any

import numpy as np
from etils import epath

from bertlite_jax.config.model import SPECIAL_IDS
from bertlite_jax.data.corpus.boundaries import pair_bounds

PERIOD = 5


def windows_of_documents(length: int, documents: int, seed: int, mean_sentences: float = 20.0) -> list[dict]:
    """Windows as the corpus has them: a sentence that does not fit is cut at a word start, its rest goes on.

    Tokens are 6..999; a sentence ends with PERIOD. Tokens below 300 go on with the word before.
    """
    rng = np.random.default_rng(seed)
    windows = []
    for document in range(documents):
        pieces, ends = [], [0]
        for _ in range(1 + rng.poisson(mean_sentences)):
            sentence = rng.integers(6, 1000, size=rng.integers(4, 40))
            sentence[0] = 500
            pieces += [*sentence.tolist(), PERIOD]
            ends.append(len(pieces))
        tokens = np.asarray(pieces)
        starts = tokens >= 300
        at = 0
        while at < len(tokens):
            limit = length - 3 if rng.random() < 0.9 else int(rng.integers(20, length - 2))
            stop = at + limit
            if stop >= len(tokens):
                stop = len(tokens)
            else:
                while not starts[stop]:
                    stop -= 1
            inside = np.asarray([end - at for end in ends if at <= end <= stop])
            windows.append(
                {"tokens": tokens[at:stop], "word_starts": starts[at:stop], "ends": inside, "document": document}
            )
            at = stop
    return windows


def write(
    folder: pathlib.Path,
    length: int,
    splits: dict[str, list[dict]],
    pair_lengths: dict[str, list[int]],
    tokenizer_hash: str = "a" * 64,
    shard_size: int = 1000,
) -> pathlib.Path:
    """Writes the folder: ArrayRecord files under TFDS's names, TFDS's metadata, and the sidecars."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core import dataset_info, example_serializer, file_adapters, naming
    from tensorflow_datasets.core import splits as tfds_splits

    raw = tfds.features.Tensor(shape=(), dtype=np.object_)
    features = tfds.features.FeaturesDict(
        {"tokens": raw, "word_starts": raw, "sentence_ends": raw, "document": tfds.features.Scalar(np.int64)}
    )
    folder.mkdir(parents=True)
    identity = dataset_info.DatasetIdentity(
        name="corpus", version=tfds.core.Version("1.0.0"), data_dir=os.fspath(folder), module_name="synthetic"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    info.set_file_format(file_adapters.FileFormat.ARRAY_RECORD)
    specs: Any = features.get_serialized_info()
    serializer = example_serializer.ExampleSerializer(specs)
    written, counts = [], {}
    for name, windows in splits.items():
        template = naming.ShardedFileTemplate(
            dataset_name="corpus",
            data_dir=epath.Path(folder),
            split=name,
            filetype_suffix="array_record",
            template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
        )
        shards = [windows[at : at + shard_size] for at in range(0, len(windows), shard_size)]
        for index, shard in enumerate(shards):
            path = os.fspath(template.sharded_filepath(shard_index=index, num_shards=None))
            writer = ArrayRecordWriter(path, "group_size:1")
            for window in shard:
                record = {
                    "tokens": window["tokens"].astype("<u2").tobytes(),
                    "word_starts": np.packbits(window["word_starts"], bitorder="little").tobytes(),
                    "sentence_ends": window["ends"].astype("<u2").tobytes(),
                    "document": window["document"],
                }
                example = serializer.get_tf_example(features.encode_example(record))
                writer.write(example.SerializeToString(deterministic=True))
            writer.close()
        written.append(
            tfds_splits.SplitInfo(
                name=name, shard_lengths=[len(shard) for shard in shards], num_bytes=1, filename_template=template
            )
        )
        lengths = [(len(window["tokens"]), span) for window, span in zip(windows, pair_lengths[name], strict=True)]
        np.save(folder / f"{name}.lengths.npy", np.asarray(lengths, np.uint16))
        tokens = np.concatenate([window["tokens"] for window in windows])
        np.save(folder / f"{name}.unigram.npy", np.bincount(tokens, minlength=1000).astype(np.int64))
        counts[name] = {"windows": len(windows)}
    info.set_splits(tfds_splits.SplitDict(written))
    info.write_to_directory(folder)
    meta = {
        "format": 1,
        "tokenizer_hash": tokenizer_hash,
        "vocab_size": 1000,
        "length": length,
        "seed": 0,
        "special_ids": SPECIAL_IDS,
        "splits": counts,
        "sizes": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }
    (folder / "corpus.json").write_text(json.dumps(meta), encoding="utf-8")
    return folder


def build(folder: pathlib.Path, documents: int, seed: int, length: int = 64, **options) -> list[dict]:
    """Writes a corpus with a small validation split; returns the training windows."""
    splits = {
        "train": windows_of_documents(length, documents, seed),
        "validation": windows_of_documents(length, 6, seed + 1000),
    }
    spans = {
        name: [
            stop - start
            for window in windows
            for start, stop in [pair_bounds(len(window["tokens"]), window["word_starts"], window["ends"])]
        ]
        for name, windows in splits.items()
    }
    with warnings.catch_warnings():
        # TFDS and protobuf announce their own future changes when they are imported.
        warnings.simplefilter("ignore")
        write(folder, length, splits, spans, **options)
    return splits["train"]
