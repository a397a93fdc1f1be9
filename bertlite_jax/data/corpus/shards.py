"""The files of a corpus folder: records, lengths, counts of ids, and the metadata that makes a TFDS dataset of them.

TFDS's own writers keep a gigabyte in memory, need TensorFlow, or leave a killed build that opens as a finished one. So
the records go into ArrayRecord files under TFDS's names, and its metadata is written behind them.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections import Counter
from typing import BinaryIO

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
from tensorflow_datasets.core import dataset_info, file_adapters, naming
from tensorflow_datasets.core.splits import SplitDict, SplitInfo

from bertlite_jax.data.corpus.chunks import Windowed

SHARD_BYTES = 256 << 20
"""Serialised bytes, before compression, from which on the next block of documents opens a new record file."""
BLOCK_DOCUMENTS = 256
"""Documents whose windows share a record file, so that where files end follows from the sizes of blocks."""
WRITER_OPTIONS = "group_size:1"
"""One record a group: windows are read in random order."""

_BYTES = tfds.features.Tensor(shape=(), dtype=np.object_)
FEATURES = tfds.features.FeaturesDict(
    {
        "document": tfds.features.Scalar(np.int64),
        "sentence_ends": _BYTES,
        "tokens": _BYTES,
        "word_starts": _BYTES,
    }
)
"""Number of the document; little-endian uint16 offsets; ids, little-endian; one bit a token, lowest bit first."""


@dataclasses.dataclass
class SplitFiles:
    """A split while it is being written."""

    folder: str
    name: str
    lengths: BinaryIO
    """Raw uint16 pairs; they get their header when their number is known."""
    unigram: np.ndarray
    """[V] int64."""
    writer: ArrayRecordWriter | None = None
    shard_windows: list[int] = dataclasses.field(default_factory=list)
    shard_bytes: int = 0
    block: int = -1
    """Of the documents that were added last."""
    num_bytes: int = 0
    counts: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def template(self) -> naming.ShardedFileTemplate:
        """Names of its record files."""
        return record_files(self.folder, self.name)


def record_files(folder: str, split: str) -> naming.ShardedFileTemplate:
    """Names of the record files of a split."""
    return naming.ShardedFileTemplate(
        dataset_name="corpus",
        data_dir=epath.Path(folder),
        split=split,
        filetype_suffix="array_record",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
    )


def open_split(folder: str, name: str, vocab_size: int) -> SplitFiles:
    """An empty split in `folder`."""
    lengths = open(os.path.join(folder, f"{name}.lengths.raw"), "w+b")  # noqa: SIM115  # `close_split` closes it.
    return SplitFiles(folder, name, lengths, np.zeros(vocab_size, np.int64))


def append(files: SplitFiles, part: Windowed, block: int) -> None:
    """Appends windows of documents of one block."""
    if part.records and (files.writer is None or (block != files.block and files.shard_bytes >= SHARD_BYTES)):
        _next_shard(files)
    files.block = block if part.records else files.block
    for record in part.records:
        files.writer.write(record)  # type: ignore[union-attr]
        files.shard_windows[-1] += 1
        files.shard_bytes += len(record)
        files.num_bytes += len(record)
    files.lengths.write(np.array(part.lengths, "<u2").tobytes())
    count_tokens(files.unigram, part.tokens)
    files.counts.update(part.counts)


def count_tokens(unigram: np.ndarray, documents: list[np.ndarray]) -> None:
    """Adds to `unigram` [V] how often each id occurs in the documents."""
    for tokens in documents:
        # unique, not bincount: a short document should not cost a pass over the vocabulary.
        ids, times = np.unique(tokens, return_counts=True)
        unigram[ids] += times


def shards_of(sizes: list[tuple[int, int]]) -> dict[int, int]:
    """The record file of each block: where `append` would have put it.

    Args:
      sizes: (block, its serialised bytes) in rising order, without blocks that have no window.
    """
    shards, shard, shard_bytes = {}, 0, 0
    for block, size in sizes:
        if shard_bytes >= SHARD_BYTES:
            shard, shard_bytes = shard + 1, 0
        shards[block] = shard
        shard_bytes += size
    return shards


def _next_shard(files: SplitFiles) -> None:
    if files.writer is not None:
        files.writer.close()
    path = files.template.sharded_filepath(shard_index=len(files.shard_windows), num_shards=None)
    files.writer = ArrayRecordWriter(os.fspath(path), WRITER_OPTIONS)
    files.shard_windows.append(0)
    files.shard_bytes = 0


def close_split(files: SplitFiles) -> None:
    """Closes what is open; does nothing the second time."""
    try:
        if files.writer is not None:
            files.writer.close()
    finally:  # It fails where the disk is full.
        files.writer = None
        files.lengths.close()


def finish_split(files: SplitFiles) -> None:
    """Writes NAME.lengths.npy and NAME.unigram.npy and closes the record files."""
    path = os.path.join(files.folder, files.name)
    header = {"descr": "<u2", "fortran_order": False, "shape": (sum(files.shard_windows), 2)}
    files.lengths.seek(0)
    with open(f"{path}.lengths.npy", "wb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        shutil.copyfileobj(files.lengths, out)
    close_split(files)
    os.unlink(f"{path}.lengths.raw")
    np.save(f"{path}.unigram.npy", files.unigram)


def write_metadata(folder: str, splits: list[SplitFiles]) -> None:
    """Writes dataset_info.json and features.json. TFDS does not see splits without a window."""
    identity = dataset_info.DatasetIdentity(
        name="corpus", version=tfds.core.Version("1.0.0"), data_dir=folder, module_name="bertlite_jax.data.corpus"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=FEATURES, description="Windows of text as token ids.")
    info.set_file_format(file_adapters.FileFormat.ARRAY_RECORD)
    written = [
        SplitInfo(
            name=files.name,
            shard_lengths=files.shard_windows,
            num_bytes=files.num_bytes,
            filename_template=files.template,
        )
        for files in splits
        if files.shard_windows
    ]
    info.set_splits(SplitDict(written))
    info.write_to_directory(folder)
