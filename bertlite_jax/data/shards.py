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

from bertlite_jax.data.chunks import Windowed

SHARD_BYTES = 256 << 20
"""Serialised bytes, before compression, after which a new record file is begun."""

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
    num_bytes: int = 0
    counts: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def template(self) -> naming.ShardedFileTemplate:
        """How its record files are called."""
        return naming.ShardedFileTemplate(
            dataset_name="corpus",
            data_dir=epath.Path(self.folder),
            split=self.name,
            filetype_suffix="array_record",
            template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
        )


def open_split(folder: str, name: str, vocab_size: int) -> SplitFiles:
    """An empty split in `folder`."""
    lengths = open(os.path.join(folder, f"{name}.lengths.raw"), "w+b")
    return SplitFiles(folder, name, lengths, np.zeros(vocab_size, np.int64))


def append(files: SplitFiles, part: Windowed) -> None:
    """Adds windows behind those that are there."""
    for record in part.records:
        if files.writer is None or files.shard_bytes >= SHARD_BYTES:
            _next_shard(files)
        files.writer.write(record)  # type: ignore[union-attr]
        files.shard_windows[-1] += 1
        files.shard_bytes += len(record)
        files.num_bytes += len(record)
    files.lengths.write(np.array(part.lengths, "<u2").tobytes())
    for tokens in part.tokens:
        # unique, not bincount: a short document should not cost a pass over the vocabulary.
        ids, times = np.unique(tokens, return_counts=True)
        files.unigram[ids] += times
    files.counts.update(part.counts)


def _next_shard(files: SplitFiles) -> None:
    if files.writer is not None:
        files.writer.close()
    path = files.template.sharded_filepath(shard_index=len(files.shard_windows), num_shards=None)
    # One record a group: windows are read in random order.
    files.writer = ArrayRecordWriter(os.fspath(path), "group_size:1")
    files.shard_windows.append(0)
    files.shard_bytes = 0


def close_split(files: SplitFiles) -> None:
    """Closes what is open; does nothing the second time."""
    if files.writer is not None:
        files.writer.close()
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
    """dataset_info.json and features.json; splits without a window do not exist for TFDS."""
    identity = dataset_info.DatasetIdentity(
        name="corpus", version=tfds.core.Version("1.0.0"), data_dir=folder, module_name="bertlite_jax.data.corpus"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=FEATURES, description="Windows of text as token ids.")
    info.set_file_format(file_adapters.FileFormat.ARRAY_RECORD)
    kept = [
        SplitInfo(
            name=files.name,
            shard_lengths=files.shard_windows,
            num_bytes=files.num_bytes,
            filename_template=files.template,
        )
        for files in splits
        if files.shard_windows
    ]
    info.set_splits(SplitDict(kept))
    info.write_to_directory(folder)
