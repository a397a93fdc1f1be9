"""Batches are functions of (seed, step, global row), and what is in them adds up to the corpus."""

import dataclasses
import itertools
import json
import os
import pathlib
import threading
import warnings

import numpy as np
import pytest
import synthetic_corpus

from bertlite_jax.config.pretrain import Data
from bertlite_jax.data.rows import batches, source
from bertlite_jax.errors import UserError

LENGTH, ROWS = 64, 16
PAD, CLS, SEP = 0, 2, 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[str, list[dict]]:
    folder = tmp_path_factory.mktemp("corpora") / "first"
    return str(folder), synthetic_corpus.build(folder, 150, 0, shard_size=700)


@pytest.fixture(scope="module")
def second(tmp_path_factory) -> tuple[str, list[dict]]:
    folder = tmp_path_factory.mktemp("corpora") / "second"
    return str(folder), synthetic_corpus.build(folder, 60, 7)


def opened(corpus, seed: int = 0, split="train", **fields) -> source.Source:
    folders = fields.pop("folders", (corpus[0],))
    return source.open_source(Data(corpus=folders, **({"length": LENGTH} | fields)), split, seed)


def same(first: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return first.keys() == other.keys() and all(np.array_equal(first[name], other[name]) for name in first)


def segments_of(batch: dict[str, np.ndarray]) -> list[tuple[list[int], list[int]]]:
    """(A, B) of every window in the batch, without specials; read from the batch alone."""
    found = []
    for row in range(len(batch["tokens"])):
        for segment in range(1, batch["segments"][row].max() + 1):
            here = batch["segments"][row] == segment
            tokens, types = batch["tokens"][row][here], batch["token_types"][row][here]
            assert tokens[0] == CLS
            assert tokens[-1] == SEP
            assert types[0] == 0
            a = tokens[types == 0][1:]
            assert a[-1] == SEP
            found.append((a[:-1].tolist(), tokens[types == 1][:-1].tolist()))
    return found


def epoch(opened_source: source.Source, number: int = 0) -> list[tuple[list[int], list[int]]]:
    rows = source.rows_per_epoch(opened_source)
    return segments_of(batches.rows_at(opened_source, np.arange(number * rows, (number + 1) * rows)))


# --- The layout of a row ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["sop", "nsp", "three_way", "none"])
def test_a_batch_has_the_shapes_and_the_layout_of_the_contract(corpus, task):
    batch = batches.batch_at(opened(corpus, pair_task=task), 3, ROWS)
    assert {name: value.shape for name, value in batch.items()} == {
        "rows": (ROWS,),
        **dict.fromkeys(("tokens", "segments", "positions", "token_types", "word_starts"), (ROWS, LENGTH)),
        **dict.fromkeys(("cls", "pair_labels", "pair_weights"), (ROWS, 8)),
    }
    assert all(value.dtype == np.int32 for value in batch.values())
    assert np.array_equal(batch["rows"], np.arange(ROWS))
    padding = batch["segments"] == 0
    for name in ("tokens", "positions", "token_types", "word_starts"):
        assert not batch[name][padding].any()
    for row in range(ROWS):
        segments = batch["segments"][row]
        used = int((segments > 0).sum())
        assert not segments[used:].any()
        assert (np.diff(segments[:used]) >= 0).all()
        opens = np.flatnonzero(np.diff(segments[:used], prepend=0) > 0)
        assert (np.diff(np.append(opens, used)) >= 3).all()
        assert batch["cls"][row, : len(opens)].tolist() == opens.tolist()
        assert not batch["cls"][row, len(opens) :].any()
        assert not batch["pair_weights"][row, len(opens) :].any()
        for start, stop in itertools.pairwise([*opens.tolist(), used]):
            assert batch["positions"][row, start:stop].tolist() == list(range(stop - start))
            assert batch["tokens"][row, start] == CLS
            assert batch["tokens"][row, stop - 1] == SEP
            paired = batch["token_types"][row, start:stop].any()
            assert (batch["tokens"][row, start:stop] == SEP).sum() == (2 if paired else 1)


def test_word_starts_are_those_of_the_corpus(corpus):
    """In the synthetic corpus a word starts at each token from 300 on."""
    batch = batches.batch_at(opened(corpus), 0, ROWS)
    ordinary = batch["tokens"] > 4
    assert np.array_equal(batch["word_starts"][ordinary], (batch["tokens"][ordinary] >= 300).astype(int))
    assert not batch["word_starts"][~ordinary].any()


def test_without_packing_each_row_holds_one_window(corpus):
    batch = batches.batch_at(opened(corpus, pack=False), 0, ROWS)
    assert batch["cls"].shape == (ROWS, 1)
    assert batch["segments"].max(axis=1).tolist() == [1] * ROWS


# --- Purity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["sop", "three_way"])
def test_a_batch_is_a_function_of_seed_and_step(corpus, task):
    one, other = opened(corpus, pair_task=task), opened(corpus, pair_task=task)
    forwards = [batches.batch_at(one, step, ROWS) for step in (0, 1, 40, 90)]
    backwards = [batches.batch_at(other, step, ROWS) for step in (90, 40, 1, 0)]
    assert all(same(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    assert not same(forwards[0], forwards[1])
    assert not same(forwards[0], batches.batch_at(opened(corpus, seed=1, pair_task=task), 0, ROWS))


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("task", ["sop", "nsp"])
def test_processes_share_the_rows_that_one_would_make(corpus, task, processes):
    opened_source = opened(corpus, pair_task=task)
    alone = batches.batch_at(opened_source, 5, ROWS)
    parts = [batches.batch_at(opened(corpus, pair_task=task), 5, ROWS, i, processes) for i in range(processes)]
    assert all(len(part["rows"]) == ROWS // processes for part in parts)
    assert same(alone, {name: np.concatenate([part[name] for part in parts]) for name in alone})


def test_the_rows_of_the_sequence_do_not_depend_on_the_batch_size(corpus):
    opened_source = opened(corpus)
    small = [batches.batch_at(opened_source, step, 8)["tokens"] for step in range(4)]
    assert np.array_equal(np.concatenate(small), batches.batch_at(opened_source, 0, 32)["tokens"])


@pytest.mark.parametrize("threads", [1, 3])
def test_the_feed_starts_anywhere_and_keeps_order_with_any_number_of_threads(corpus, threads):
    opened_source = opened(corpus)
    steps = source.rows_per_epoch(opened_source) // ROWS  # so that the feed goes on into the second epoch
    fed = list(batches.feed(lambda step: batches.batch_at(opened_source, step, ROWS), steps - 3, steps + 4, threads))
    assert len(fed) == 7
    assert all(same(a, batches.batch_at(opened(corpus), steps - 3 + i, ROWS)) for i, a in enumerate(fed))


def test_threads_do_not_disturb_each_other(corpus):
    shared_source = opened(corpus, pair_task="nsp")
    expected = [batches.batch_at(opened(corpus, pair_task="nsp"), step, ROWS) for step in range(24)]
    found = {}

    def work(first: int) -> None:
        for step in range(first, 24, 4):
            found[step] = batches.batch_at(shared_source, step, ROWS)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(expected[step], found[step]) for step in range(24))


# --- Epochs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [True, False])
def test_an_epoch_holds_every_window_once(corpus, pack):
    opened_source = opened(corpus, pair_task="none", pack=pack)
    for number in (0, 2):
        found = sorted(a for a, _ in epoch(opened_source, number))
        assert found == sorted(window["tokens"].tolist() for window in corpus[1])


def test_with_pairs_an_epoch_holds_every_token_once_and_swaps_keep_them(corpus):
    """Put in order again, A and B are a stretch of their window; the stretches make up all windows."""
    opened_source = opened(corpus)
    rows = np.arange(source.rows_per_epoch(opened_source))
    batch = batches.rows_at(opened_source, rows)
    _, windows, _ = source.windows_of(opened_source, rows)
    labels = [
        (int(label), int(window))
        for label, window in zip(batch["pair_labels"][windows >= 0], windows[windows >= 0], strict=True)
    ]
    stretches: dict[int, list[list[int]]] = {}
    for (a, b), (label, window) in zip(segments_of(batch), labels, strict=True):
        stretches.setdefault(window, []).append(b + a if label == 1 else a + b)
    assert sorted(stretches) == list(range(len(corpus[1])))
    for window, found in stretches.items():
        tokens = corpus[1][window]["tokens"].tolist()
        assert len(found) <= 2
        assert tokens in ([token for part in order for token in part] for order in itertools.permutations(found))


def test_epochs_differ_in_order_and_in_cuts_but_not_in_their_number_of_rows(corpus):
    opened_source = opened(corpus)
    first, second_epoch = epoch(opened_source, 0), epoch(opened_source, 1)
    assert first != second_epoch
    assert len(first) == len(second_epoch)
    assert len(set(map(str, first)) & set(map(str, second_epoch))) < len(first) / 2


def test_rows_are_filled(corpus):
    opened_source = opened(corpus)
    batch = batches.rows_at(opened_source, np.arange(source.rows_per_epoch(opened_source)))
    assert (batch["segments"] > 0).mean() >= 0.98


def test_labels_are_balanced_and_the_share_is_reported(corpus):
    for task, classes in (("sop", 2), ("nsp", 2), ("three_way", 3)):
        found = batches.pair_statistics(opened(corpus, pair_task=task, batch_rows=128), 8)
        assert found["pairs"] > 700
        assert found["weight_zero_share"] < 0.05
        # Five standard deviations of a share of at least 700 pairs are 0.09.
        assert all(abs(share - 1 / classes) < 0.09 for share in found["label_shares"].values())


# --- Several corpora -------------------------------------------------------------------------------------------------


def test_without_weights_an_epoch_holds_every_window_of_every_corpus_once(corpus, second):
    opened_source = opened(corpus, folders=(corpus[0], second[0]), pair_task="none")
    windows = [window["tokens"].tolist() for window in corpus[1] + second[1]]
    assert sorted(a for a, _ in epoch(opened_source)) == sorted(windows)


def test_weights_are_the_shares_of_windows_and_no_window_is_left_out(corpus, second):
    """Weights 1:3 for a large and a small corpus: the small one is seen again and again, the large one in turns."""
    opened_source = opened(corpus, folders=(corpus[0], second[0]), weights=(1.0, 3.0), pair_task="none")
    total = len(corpus[1]) + len(second[1])
    large = {str(window["tokens"].tolist()) for window in corpus[1]}
    seen, counts = set(), []
    for number in range(6):
        found = [str(a) for a, _ in epoch(opened_source, number)]
        counts.append((sum(text in large for text in found), len(found)))
        seen |= set(found)
    share = sum(count for count, _ in counts) / sum(count for _, count in counts)
    assert abs(share - 0.25) < 0.01
    assert abs(counts[0][1] / total - 1) < 0.02
    # Of the large corpus 6 epochs take 6 * total / 4 windows, more than it has, so each was seen.
    assert 6 * total / 4 > len(corpus[1]) + 200
    assert large <= seen


# --- Evaluation ------------------------------------------------------------------------------------------------------


def test_an_evaluation_reads_each_window_once_and_pads_the_last_batch(corpus):
    held_out = opened(corpus, split="validation", pair_task="none")
    found = list(batches.evaluation_rows(held_out, 0, 20))
    total = source.rows_per_epoch(held_out)
    assert {len(batch["rows"]) for batch in found} == {20}
    assert total % 20
    assert np.concatenate([batch["rows"] for batch in found])[:total].tolist() == list(range(total))
    empty = {name: value[total % 20 :] for name, value in found[-1].items()}
    assert not empty["segments"].any()
    assert not empty["pair_weights"].any()
    assert not empty["tokens"].any()
    expected = synthetic_corpus.windows_of_documents(LENGTH, 6, 1000)
    assert sorted(a for batch in found for a, _ in segments_of(batch)) == sorted(w["tokens"].tolist() for w in expected)


def test_an_evaluation_does_not_depend_on_batch_size_or_processes(corpus):
    held_out = opened(corpus, split="validation")
    large = list(batches.evaluation_rows(held_out, 20, 32))
    small = list(batches.evaluation_rows(held_out, 20, 8))
    halves = [list(batches.evaluation_rows(held_out, 20, 8, i, 2)) for i in range(2)]
    assert len(large) == 1
    assert len(small) == 3
    for name in large[0]:
        assert np.array_equal(np.concatenate([batch[name] for batch in small])[:20], large[0][name][:20])
        for step, batch in enumerate(small):
            assert np.array_equal(np.concatenate([half[step][name] for half in halves]), batch[name])


# --- What is refused -------------------------------------------------------------------------------------------------


def altered(corpus, tmp_path: pathlib.Path, change) -> str:
    """A copy of the corpus's folder, its large files linked, after `change(folder)`."""
    folder = tmp_path / "altered"
    folder.mkdir()
    for path in pathlib.Path(corpus[0]).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    change(folder)
    return str(folder)


def edit_meta(**values):
    def change(folder: pathlib.Path) -> None:
        meta = json.loads((folder / "corpus.json").read_text())
        (folder / "corpus.json").write_text(json.dumps(meta | values))

    return change


def edit_lengths(window: int, by: int):
    def change(folder: pathlib.Path) -> None:
        lengths = np.load(folder / "train.lengths.npy")
        lengths = lengths.astype(int)
        lengths[window] += by
        np.save(folder / "train.lengths.npy", lengths.astype(np.uint16))

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (edit_meta(format=2), "format 2, but this version reads 1"),
        (edit_meta(length=512), "has windows for rows of 512 tokens, but data.length = 64"),
        (edit_lengths(0, 200), "impossible lengths"),
        (lambda folder: (folder / "corpus.json").unlink(), "is no finished corpus"),
        (lambda folder: (folder / "train.lengths.npy").unlink(), "train.lengths.npy is missing"),
        (lambda folder: min(folder.glob("*train.array_record-*")).unlink(), "array_record-00000.* is missing"),
        (lambda folder: max(folder.glob("*train.array_record-*")).unlink(), "array_record-.* is missing"),
        (lambda folder: os.truncate(folder / "train.lengths.npy", 200), "200 bytes instead of"),
        (edit_meta(splits={"train": {"windows": 7}}), "is damaged: the split train has .* should have 7"),
        (edit_meta(splits={"train": {"windows": 0}}), "has no windows in the split train"),
    ],
)
def test_a_corpus_that_does_not_fit_is_refused_in_one_line(corpus, tmp_path, change, says):
    folder = altered(corpus, tmp_path, change)
    with pytest.raises(UserError, match=says) as raised:
        opened((folder,))
    assert "\n" not in str(raised.value)
    assert folder in str(raised.value)


def test_a_window_of_another_length_than_on_file_is_named(corpus, tmp_path):
    folder = altered(corpus, tmp_path, edit_lengths(11, -3))
    opened_source = opened((folder,), pair_task="none")
    with pytest.raises(UserError, match=rf"{folder} is damaged: window 11 of the split train"):
        epoch(opened_source)


def test_a_record_with_damaged_bytes_is_refused(corpus, tmp_path):
    """Flips 200 bytes in the middle of a record file; ArrayRecord's own check sums notice."""

    def change(folder: pathlib.Path) -> None:
        path = next(iter(folder.glob("*train.array_record-00000*")))
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 200] = bytes(255 - byte for byte in content[middle : middle + 200])
        path.write_bytes(content)

    opened_source = opened((altered(corpus, tmp_path, change),), pair_task="none")
    with pytest.raises(UserError, match=r"train.array_record-00000.*: cannot be read \(Corrupted"):
        epoch(opened_source)


def test_corpora_of_two_tokenizers_are_refused(corpus, second, tmp_path):
    other = altered(second, tmp_path, edit_meta(tokenizer_hash="b" * 64))
    with pytest.raises(UserError, match="differ in tokenizer_hash"):
        opened(corpus, folders=(corpus[0], other))


def test_an_error_reaches_the_consumer_of_the_feed(corpus, tmp_path):
    folder = altered(corpus, tmp_path, lambda f: [edit_lengths(window, -1)(f) for window in range(5)])
    opened_source = opened((folder,), pair_task="none")
    steps = source.rows_per_epoch(opened_source) // ROWS + 1
    with pytest.raises(UserError, match="is damaged"):
        list(batches.feed(lambda step: batches.batch_at(opened_source, step, ROWS), 0, steps, 2))


def test_tfds_reads_the_same_windows(corpus):
    """The hand-written parse against TFDS's own decoding."""
    import tensorflow_datasets as tfds

    from bertlite_jax.data.corpus.records import open_records, read_windows

    numbers = np.asarray([5, 0, 705, 5, len(corpus[1]) - 1])
    windows = read_windows(open_records(corpus[0], "train", 1000), numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        examples = tfds.builder_from_directory(corpus[0]).as_data_source(split="train")
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


# --- Real text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [128, 512])
@pytest.mark.parametrize("vocabulary", ["bert_cased_vocab.txt", "albert_spiece.model"])
def test_on_real_text_rows_are_full_and_edges_tell_nothing(shared, tmp_path, vocabulary, length):
    """Two megabytes of Wikipedia. The rule is the best table of the four edges' punctuation, capitals and digits."""
    from bertlite_jax.config.text import CorpusOptions
    from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary
    from bertlite_jax.jobs.text.corpus import build_corpus

    with open(shared / "pretrain" / "enwiki_train.txt", encoding="utf-8") as lines:
        text = "".join(itertools.islice(lines, 8_000))
    (tmp_path / "text.txt").write_text(text[: text.rindex("\n\n")], encoding="utf-8")
    adopt_vocabulary(shared / "vocab" / vocabulary, tmp_path / "tokenizer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build_corpus(
            [str(tmp_path / "text.txt")],
            str(tmp_path / "tokenizer"),
            str(tmp_path / "corpus"),
            CorpusOptions(length=length),
            workers=1,
        )
    data = Data(corpus=(str(tmp_path / "corpus"),), tokenizer=str(tmp_path / "tokenizer"), length=length)
    opened_source = source.open_source(data, "train", 0)
    found = batches.pair_statistics(opened_source, 60 if length == 128 else 30)
    assert found["pairs"] > 7_500
    assert found["weight_zero_share"] < 0.12
    assert abs(found["label_shares"]["1"] - 0.5) < 0.03
    assert found["edge_rule_accuracy"] <= 0.55
    rows = batches.rows_at(opened_source, np.arange(source.rows_per_epoch(opened_source)))
    assert (rows["segments"] > 0).mean() >= 0.98


def test_sources_cannot_be_changed(corpus):
    with pytest.raises(dataclasses.FrozenInstanceError):
        opened(corpus).seed = 1  # type: ignore[misc]
