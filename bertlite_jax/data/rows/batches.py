"""`batch_at(step)`: rows of packed windows with their pairs cut, a pure function of the source and the step.

There is no iterator state. Steps count from 1; row i of step s is row number (s - 1) * batch_rows + i of an endless
sequence. The sequence is made of virtual epochs with the same number of rows each, so a step is found without going
through those before it.

Letters: B rows, L tokens in a row, P windows a row at most, W windows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer

from bertlite_jax.config.batch import BATCH, batch_shapes
from bertlite_jax.config.pair_tasks import PAIR_LABELS, pair_classes
from bertlite_jax.data.corpus.boundaries import Windows, window_keys
from bertlite_jax.data.corpus.records import read_windows
from bertlite_jax.data.rows.pairs import Pairs, Rules, edge_rule_accuracy, make_pairs, pair_edges
from bertlite_jax.data.rows.source import Source, parts_of, rows_per_epoch
from bertlite_jax.errors import UserError

Batch = dict[str, np.ndarray]
"""The arrays of `config.batch.BATCH`."""


def batch_at(source: Source, step: int, batch_rows: int, process_index: int = 0, process_count: int = 1) -> Batch:
    """The rows of a step that belong to this process: a contiguous block of the global batch.

    Args:
      source: from `open_source`.
      step: from 1.
      batch_rows: rows in the global batch; divisible by `process_count`.
      process_index: which of the blocks is this process's, from 0.
      process_count: processes that share the batch.

    Raises:
      UserError: a record is damaged.
    """
    if step < 1:
        raise ValueError(f"steps count from 1, not {step}")
    return part_of(source, (step - 1) * batch_rows + np.arange(batch_rows), process_index, process_count)


def part_of(source: Source, numbers: Int64[np.ndarray, " B"], process_index: int = 0, process_count: int = 1) -> Batch:
    """The part of a global batch that belongs to this process.

    Args:
      source: from `open_source`.
      numbers: of the batch's rows in the endless sequence, divisible by `process_count`.
      process_index: as for `batch_at`.
      process_count: as for `batch_at`.
    """
    if len(numbers) % process_count:
        raise UserError(f"data: a batch of {len(numbers)} rows is not divisible by {process_count} processes")
    size = len(numbers) // process_count
    rows = np.arange(process_index * size, (process_index + 1) * size)
    return rows_at(source, numbers[rows]) | {"rows": rows.astype(np.int32)}


def rows_at(source: Source, numbers: Int64[np.ndarray, " B"]) -> Batch:
    """A batch whose `rows` are 0, of these rows of the endless sequence; a negative number gives an empty row."""
    batch = empty_batch(len(numbers), source.data.length, source.data.window_slots)
    wanted = np.flatnonzero(numbers >= 0)
    corpora, parts, passes = parts_of(source, numbers[wanted])
    for index in np.unique(corpora).tolist():
        row, column = np.nonzero((parts >= 0) & (corpora == index)[:, None])
        pairs = _read_pairs(source, index, parts[row, column], passes[row])
        _lay_out(batch, pairs, wanted[row], column, source.special_ids)
    if source.special_ids["pad"]:
        batch["tokens"][batch["segments"] == 0] = source.special_ids["pad"]
    return batch


def empty_batch(rows: int, length: int, windows: int) -> Batch:
    """Rows of padding: every array of `config.batch.BATCH`, all 0, for B, L and P."""
    return {name: np.zeros(shape, BATCH[name].dtype) for name, shape in batch_shapes(rows, length, windows).items()}


def _read_pairs(source: Source, index: int, parts: Int64[np.ndarray, " W"], passes: Int64[np.ndarray, " W"]) -> Pairs:
    corpus = source.corpora[index]
    rests = parts >= len(corpus.lengths)
    numbers = parts.copy()
    numbers[rests] = corpus.rests[parts[rests] - len(corpus.lengths)]

    def read(wanted: Int64[np.ndarray, " R"]) -> Windows:
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
    pair_lengths = corpus.lengths[numbers, 1].astype(np.int64)
    rules = Rules(source.data.pair_task, source.data.single_segment, source.kinds, read, corpus.lengths[:, 0])
    return make_pairs(read(numbers), pair_lengths, rests, keys, rules)


def _lay_out(
    batch: Batch,
    pairs: Pairs,
    row: Int64[np.ndarray, " W"],
    column: Int64[np.ndarray, " W"],
    special_ids: dict[str, int],
) -> None:
    """Writes W windows into a batch: [CLS] A [SEP] B [SEP], or [CLS] A [SEP] where there is no B.

    Args:
      batch: whose arrays are written to.
      pairs: W pairs.
      row: of each, rising.
      column: place of each among the windows of its row, 0..P - 1, rising within a row.
      special_ids: by name.
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


def _ranges(starts: Integer[np.ndarray, "*W"], lengths: Integer[np.ndarray, "*W"]) -> Integer[np.ndarray, " T"]:
    """start, start + 1, .. of each length, one range behind the other; in the order of the flattened arguments."""
    starts, lengths = starts.reshape(-1), lengths.reshape(-1)
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if ends.size else 0) + np.repeat(starts - (ends - lengths), lengths)


# --- Sequences of batches --------------------------------------------------------------------------------------------


def feed(at: Callable[[int], Batch], first: int, last: int, threads: int) -> Iterator[Batch]:
    """The batches `at(step)` of the steps from `first` to `last` in order; all but the first prepared ahead by threads.

    An error of a step is raised when its turn comes; do not continue after one, as the following step would come next.
    """
    if first <= last:
        yield at(first)
    import grain  # Takes half a second, so that the first step begins before it.

    dataset = grain.MapDataset.range(first + 1, last + 1).map(lambda step: at(int(step)))
    yield from dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))


def evaluation_rows(
    source: Source, rows: int, batch_rows: int, process_index: int = 0, process_count: int = 1
) -> Iterator[Batch]:
    """The first rows of epoch 0, always the same ones in the same order.

    `rows` of a batch are numbers in the evaluation set here, so a masking by row does not depend on the batch size.

    Args:
      source: opened with a fixed seed, or evaluations of runs with different seeds do not compare.
      rows: how many; 0 (or more than there are): all, that is, each window once.
      batch_rows: rows in a global batch. The last one is filled up with empty rows (segments and weights 0).
      process_index: which block of each batch is this process's, from 0.
      process_count: processes that share the batches.

    Yields:
      Batches as of `batch_at`.
    """
    total = min(rows, rows_per_epoch(source)) if rows else rows_per_epoch(source)
    size = batch_rows // process_count
    for first in range(0, total, batch_rows):
        numbers = first + process_index * size + np.arange(size)
        yield rows_at(source, np.where(numbers < total, numbers, -1)) | {"rows": numbers.astype(np.int32)}


def pair_statistics(source: Source, batches: int = 20, kinds: Int64[np.ndarray, " V"] | None = None) -> dict[str, Any]:
    """What the first batches say about the pairs.

    Args:
      source: its first batches of `data.batch_rows` rows are looked at.
      batches: how many.
      kinds: what an edge shows of each token (`pairs.token_kinds`); None: as the source knows it.

    Returns:
      {"windows", "pairs", "label_shares": {"0": ..}, "weight_zero_share": share of windows without a pair,
      "rest_share": share of the real tokens that lie in rests, "edge_rule_accuracy": None where nothing is known of the
      tokens}.
    """
    kinds = source.kinds if kinds is None else kinds
    windows, rests, tokens, edges, labels = 0, 0, 0, [], []
    for number in range(batches):
        numbers = number * source.data.batch_rows + np.arange(source.data.batch_rows)
        batch = rows_at(source, numbers)
        corpora, parts, _ = parts_of(source, numbers)
        whole = np.asarray([len(corpus.lengths) for corpus in source.corpora])[corpora]
        windows += int(((parts >= 0) & (parts < whole[:, None])).sum())
        sizes = (batch["segments"][..., None] == 1 + np.arange(parts.shape[1])).sum(axis=1)
        rests += int(sizes[parts >= whole[:, None]].sum())
        tokens += int(sizes.sum())
        edges_here, labels_here = pair_edges(batch, kinds)
        edges.append(edges_here)
        labels.append(labels_here)
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


def pair_problem(statistics: dict[str, Any], task: str) -> str:
    """What `pair_statistics` says is wrong with the pairs of this task, as one sentence; "" if nothing is."""
    if not statistics["pairs"]:
        return (
            "no window can be cut into a pair, as in documents of one sentence, so only masked pieces are learnt; "
            "--data.pair-task none leaves the pair head out"
        )
    shares, names = statistics["label_shares"], PAIR_LABELS[task]
    if task != "sop" and not shares[str(len(names) - 1)]:
        return f"none of {statistics['pairs']} pairs is random: random parts need windows of a second document"
    return ""
