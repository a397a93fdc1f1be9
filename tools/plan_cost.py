"""What a corpus of so many windows would cost a process that trains on it: bytes, files, and the plan of its rows.

python tools/plan_cost.py CORPUS --windows 1e7

Lengths are drawn from those of a real corpus, so bytes a token, the share of rests and the fill are its own. The time
is that of the processor, so that a busy machine does not count.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import sys
import tempfile
import time

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from bertlite_jax.data.corpus import records, shards
from bertlite_jax.data.corpus.folder import read_meta
from bertlite_jax.data.rows import packing, source
from bertlite_jax.errors import UserError


def describe(folder: str) -> None:
    """Prints windows and bytes of a corpus."""
    meta = read_meta(folder)
    info = tfds.builder_from_directory(folder).info
    on_disk = sum(size for name, size in meta["sizes"].items() if ".array_record-" in name)
    tokens, windows = meta["statistics"]["tokens"], meta["statistics"]["windows"]
    print(
        f"{folder}: {tokens:,} tokens in {windows:,} windows of {tokens / windows:.1f}; a token takes "
        f"{meta['statistics']['bytes'] / tokens:.2f} bytes of text, {info.dataset_size / tokens:.2f} of records, "
        f"{on_disk / tokens:.2f} of them compressed"
    )


def open_readers(records_a_file: int = 230_000, record_bytes: int = 1150, readers: int = 8) -> None:
    """Prints what an open record file of full size takes."""
    with tempfile.TemporaryDirectory() as scratch:
        path, draw = os.path.join(scratch, "records"), np.random.default_rng(0)
        writer = ArrayRecordWriter(path, shards.WRITER_OPTIONS)
        for _ in range(records_a_file):
            writer.write(draw.integers(0, 100, record_bytes, np.uint8).tobytes())
        writer.close()
        before, began = _resident(), time.process_time()
        opened = [ArrayRecordReader(path, records.READER_OPTIONS) for _ in range(readers)]
        assert all(reader.num_records() == records_a_file for reader in opened)
        seconds, held = (time.process_time() - began) / readers, (_resident() - before) / readers
    print(
        f"an open file of {records_a_file:,} records: {1000 * seconds:.0f} ms to open, {held / 2**20:.1f} MiB; "
        f"a file holds {shards.SHARD_BYTES >> 20} MiB of records"
    )


def plan(folder: str, windows: int, length: int) -> None:
    """Prints what the plan of a pass over so many windows takes."""
    real = np.load(pathlib.Path(folder) / "train.lengths.npy")
    draw = np.random.default_rng(0)
    lengths = np.empty((windows, 2), real.dtype)
    for start in range(0, windows, 1 << 22):
        part = lengths[start : start + (1 << 22)]
        part[:] = real[draw.integers(0, len(real), len(part))]
    before, began = _peak(), time.process_time()
    rests, slots = source.rests_and_slots(lengths, pairs=True)
    rows = packing.plan_rows(slots, length, 8)
    planned = time.process_time() - began
    orders = (packing.order_windows(slots, 0), packing.order_rows(rows.rows, 0), packing.order_rows(rows.rows, 1))
    seconds = time.process_time() - began
    fill = slots.sum(dtype=np.int64) / rows.rows / length
    held = sum(array.nbytes for array in (lengths, rests, slots, *orders))
    print(
        f"{windows:,} windows, {len(slots):,} units, {rows.rows:,} rows, {fill:.4f} "
        f"filled: plan {planned:.1f} s, with the order of a pass {seconds:.1f} s = "
        f"{1e9 * seconds / windows:.0f} ns a window; held {held / windows:.1f} bytes a window, at most "
        f"{(_peak() - before + lengths.nbytes) / windows:.1f} on the way"
    )


def _resident() -> int:
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main() -> int:
    """Prints all three. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--windows", type=float, default=1e6)
    options = parser.parse_args()
    try:
        describe(options.corpus)
        open_readers()
        plan(options.corpus, int(options.windows), read_meta(options.corpus)["length"])
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
