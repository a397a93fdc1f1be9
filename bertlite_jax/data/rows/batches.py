"""`batch_at(step)`: rows of packed windows with their pairs cut, a pure function of the source and the step.

There is no iterator state. Row i of step s is row number s * batch_rows + i of an endless sequence; the sequence is
made of virtual epochs with the same number of rows each, so a step is found without going through those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bertlite_jax.config.pair_tasks import pair_classes
from bertlite_jax.data.corpus.boundaries import Windows, window_keys
from bertlite_jax.data.corpus.records import read_windows
from bertlite_jax.data.rows.pairs import Pairs, Rules, edge_rule_accuracy, make_pairs, pair_edges
from bertlite_jax.data.rows.source import Source, rows_per_epoch, units_of
from bertlite_jax.errors import UserError


def batch_at(
    source: Source, step: int, batch_rows: int, process_index: int = 0, process_count: int = 1
) -> dict[str, np.ndarray]:
    """The rows of a step that belong to this process: a contiguous block of the global batch.

    Args:
      source: from `open_source`.
      step: from 0.
      batch_rows: rows in the global batch; divisible by `process_count`.

    Returns:
      int32 arrays: rows [B]; tokens, segments, positions, token_types, word_starts [B, L]; cls, pair_labels,
      pair_weights [B, P]. `rows` are numbers in the global batch of the step.

    Raises:
      UserError: a record is damaged.
    """
    if batch_rows % process_count:
        raise UserError(f"data: batch_rows = {batch_rows} is not divisible by {process_count} processes")
    size = batch_rows // process_count
    rows = np.arange(process_index * size, (process_index + 1) * size)
    return {"rows": rows.astype(np.int32)} | rows_at(source, step * batch_rows + rows)


def rows_at(source: Source, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """A batch without `rows`, of these rows of the endless sequence; a negative number gives an empty row."""
    batch = _empty_batch(len(numbers), source.data.length, source.windows_per_row)
    wanted = np.flatnonzero(numbers >= 0)
    corpora, units, passes = units_of(source, numbers[wanted])
    for index in np.unique(corpora).tolist():
        row, column = np.nonzero((units >= 0) & (corpora == index)[:, None])
        pairs = _read_pairs(source, index, units[row, column], passes[row])
        _lay_out(batch, pairs, wanted[row], column, source.special_ids)
    if source.special_ids["pad"]:
        batch["tokens"][batch["segments"] == 0] = source.special_ids["pad"]
    return batch


def _empty_batch(rows: int, length: int, windows: int) -> dict[str, np.ndarray]:
    wide = ("tokens", "segments", "positions", "token_types", "word_starts")
    narrow = ("cls", "pair_labels", "pair_weights")
    return {name: np.zeros((rows, length), np.int32) for name in wide} | {
        name: np.zeros((rows, windows), np.int32) for name in narrow
    }


def _read_pairs(source: Source, index: int, units: np.ndarray, passes: np.ndarray) -> Pairs:
    corpus = source.corpora[index]
    rests = units >= len(corpus.lengths)
    numbers = units.copy()
    numbers[rests] = corpus.rests[units[rests] - len(corpus.lengths)]

    def read(wanted: np.ndarray) -> Windows:
        windows = read_windows(corpus.records, wanted)
        wrong = np.flatnonzero(np.diff(windows.offsets) != corpus.lengths[wanted, 0])
        if wrong.size:
            raise UserError(
                f"corpus: {corpus.folder} is damaged: window {wanted[wrong[0]]} of the split {source.split} does not "
                "have the length that is on file; build it again"
            )
        if windows.tokens.max(initial=0) >= source.vocab_size:
            raise UserError(
                f"corpus: {corpus.folder} is damaged: a token of the split {source.split} is not below the "
                f"vocabulary size {source.vocab_size}; build it again"
            )
        return windows

    keys = window_keys(numbers, source.seed, index, passes)
    spans = corpus.lengths[numbers, 1].astype(np.int64)
    rules = Rules(source.data.pair_task, source.data.single_segment, source.kinds, read, corpus.lengths[:, 0])
    return make_pairs(read(numbers), spans, rests, keys, rules)


def _lay_out(
    batch: dict[str, np.ndarray], pairs: Pairs, row: np.ndarray, column: np.ndarray, special_ids: dict[str, int]
) -> None:
    """Writes W windows into a batch: [CLS] A [SEP] B [SEP], or [CLS] A [SEP] where there is no B.

    Args:
      batch: whose arrays are written to.
      pairs: W pairs.
      row: [W] rising, the row of each.
      column: [W] 0..P - 1, its place among the windows of the row, rising within a row.
    """
    length = batch["tokens"].shape[1]
    size = pairs.a_length + 2 + np.where(pairs.b_length > 0, pairs.b_length + 1, 0)
    before = np.cumsum(size) - size
    opens = before - before[np.searchsorted(row, row)]  # place in its row: what the row's earlier windows take
    start = row * length + opens
    second = start + pairs.a_length + 2
    flat = {name: batch[name].reshape(-1) for name in ("tokens", "segments", "positions", "token_types", "word_starts")}

    within = _ranges(np.zeros_like(size), size)
    slots = within + np.repeat(start, size)
    flat["positions"][slots] = within
    flat["segments"][slots] = np.repeat(column + 1, size)
    places = _ranges(np.stack([start + 1, second], 1), np.stack([pairs.a_length, pairs.b_length], 1))
    origin = _ranges(np.stack([pairs.a_start, pairs.b_start], 1), np.stack([pairs.a_length, pairs.b_length], 1))
    flat["tokens"][places] = pairs.tokens[origin]
    flat["word_starts"][places] = pairs.word_starts[origin]
    has_b = pairs.b_length > 0
    flat["tokens"][start] = special_ids["cls"]
    flat["tokens"][second - 1] = special_ids["sep"]
    flat["tokens"][(second + pairs.b_length)[has_b]] = special_ids["sep"]
    flat["token_types"][_ranges(second, np.where(has_b, pairs.b_length + 1, 0))] = 1
    batch["cls"][row, column] = opens
    batch["pair_labels"][row, column] = pairs.labels
    batch["pair_weights"][row, column] = pairs.weights


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """start, start + 1, .. of each length, one range behind the other; in the order of the flattened arguments."""
    starts, lengths = starts.reshape(-1), lengths.reshape(-1)
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if ends.size else 0) + np.repeat(starts - (ends - lengths), lengths)


# --- Sequences of batches --------------------------------------------------------------------------------------------


def feed(
    at: Callable[[int], dict[str, np.ndarray]], start: int, stop: int, threads: int
) -> Iterator[dict[str, np.ndarray]]:
    """The batches `at(step)` of the steps start..stop - 1 in order, prepared ahead by threads.

    An error of a step is raised when its turn comes; do not go on after one, as the following step would come next.
    """
    import grain  # Half a second, which a start spends while its first step is compiled.

    made = grain.MapDataset.range(start, stop).map(lambda step: at(int(step)))
    return iter(made.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)))


def evaluation_rows(
    source: Source, rows: int, batch_rows: int, process_index: int = 0, process_count: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """The first rows of epoch 0, always the same ones in the same order.

    `rows` of a batch are numbers in the evaluation set here, so a masking by row does not depend on the batch size.

    Args:
      source: opened with a fixed seed, or evaluations of runs with different seeds do not compare.
      rows: how many; 0 (or more than there are): all, that is, each window once.
      batch_rows: rows in a global batch. The last one is filled up with empty rows (segments and weights 0).

    Yields:
      Batches as of `batch_at`.
    """
    total = min(rows, rows_per_epoch(source)) if rows else rows_per_epoch(source)
    size = batch_rows // process_count
    for first in range(0, total, batch_rows):
        numbers = first + process_index * size + np.arange(size)
        yield {"rows": numbers.astype(np.int32)} | rows_at(source, np.where(numbers < total, numbers, -1))


def pair_statistics(source: Source, batches: int = 20, kinds: np.ndarray | None = None) -> dict[str, Any]:
    """What the first batches say about the pairs.

    Args:
      source: its batches 0.. of `data.batch_rows` rows are looked at.
      batches: how many.
      kinds: [V] what an edge shows of each token (`pairs.token_kinds`); None: as the source knows it.

    Returns:
      {"windows", "pairs", "label_shares": {"0": ..}, "weight_zero_share": windows without a pair, "rest_share": real
      tokens in what spans leave of their windows, "edge_rule_accuracy": None where nothing is known of the tokens}.
    """
    kinds = source.kinds if kinds is None else kinds
    windows, rests, tokens, edges, labels = 0, 0, 0, [], []
    for step in range(batches):
        numbers = step * source.data.batch_rows + np.arange(source.data.batch_rows)
        batch = rows_at(source, numbers)
        corpora, units, _ = units_of(source, numbers)
        whole = np.asarray([len(corpus.lengths) for corpus in source.corpora])[corpora]
        windows += int(((units >= 0) & (units < whole[:, None])).sum())
        sizes = (batch["segments"][..., None] == 1 + np.arange(units.shape[1])).sum(axis=1)
        rests += int(sizes[units >= whole[:, None]].sum())
        tokens += int(sizes.sum())
        found = pair_edges(batch, kinds)
        edges.append(found[0])
        labels.append(found[1])
    labels = np.concatenate(labels)
    shares = np.bincount(labels, minlength=pair_classes(source.data.pair_task)) / max(1, len(labels))
    known = bool(kinds.any()) and len(labels) > 1
    return {
        "windows": windows,
        "pairs": len(labels),
        "label_shares": {str(label): float(share) for label, share in enumerate(shares)},
        "weight_zero_share": 1 - len(labels) / windows,
        "rest_share": rests / tokens,
        "edge_rule_accuracy": edge_rule_accuracy(np.concatenate(edges), labels) if known else None,
    }
