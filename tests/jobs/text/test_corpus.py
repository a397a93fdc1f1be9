"""A corpus folder: complete, reproducible, an ordinary TFDS dataset; or not there at all."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from corpus_text import build_text, digests, lines_of, records, some_text, split_of_documents

from bertlite_jax.config.pretrain import Data
from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.data.corpus import chunks, shards, splits
from bertlite_jax.data.corpus.folder import read_meta
from bertlite_jax.data.corpus.statistics import COUNTED
from bertlite_jax.data.rows import batches, source
from bertlite_jax.data.vocabulary.tokenizer import adopt_vocabulary
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.text import corpus
from bertlite_jax.jobs.text.corpus import build_corpus

# --- What is in it ------------------------------------------------------------------------------------------


def test_tfds_opens_it_and_the_windows_are_the_text(built, text_file, vocabulary):
    """Every document is in one split, whole, in order, and says where its words and sentences begin."""
    folder, meta = built
    written = pathlib.Path(text_file).read_text(encoding="utf-8").strip().split("\n\n")
    seen = {}
    for split in splits.SPLITS:
        found = records(folder, split)
        assert len(found) == meta["splits"][split]["windows"]
        lengths = np.load(f"{folder}/{split}.lengths.npy")
        unigram = np.zeros(vocabulary.vocab_size, np.int64)
        for record, (n, _) in zip(found, lengths, strict=True):
            tokens = np.frombuffer(record["tokens"], "<u2")
            assert len(tokens) == n <= 61
            np.add.at(unigram, tokens, 1)
            assert int(record["document"]) not in seen or seen[int(record["document"])][0] == split
            seen.setdefault(int(record["document"]), (split, []))[1].append(record)
        assert np.array_equal(np.load(f"{folder}/{split}.unigram.npy"), unigram)
    assert sorted(seen) == list(range(400))
    for number, (_, found) in seen.items():
        encoded = vocabulary.encode_lines(lines_of(written[number]))
        tokens = np.concatenate([np.frombuffer(record["tokens"], "<u2") for record in found])
        assert np.array_equal(tokens, np.concatenate([ids for ids, _ in encoded]))
        bits = [np.frombuffer(record["word_starts"], np.uint8) for record in found]
        sizes = [len(record["tokens"]) // 2 for record in found]
        starts = [np.unpackbits(b, count=n, bitorder="little") for b, n in zip(bits, sizes, strict=True)]
        assert np.array_equal(np.concatenate(starts), np.concatenate([starts for _, starts in encoded]))
        ends = [
            np.frombuffer(r["sentence_ends"], "<u2") + o
            for r, o in zip(found, np.cumsum([0, *sizes[:-1]]), strict=True)
        ]
        assert set(np.concatenate(ends)) == {0, *np.cumsum([len(ids) for ids, _ in encoded])}


def test_the_statistics_add_up(built, text_file, vocabulary):
    _, meta = built
    statistics = meta["statistics"]
    assert statistics["documents"] == 400
    assert statistics["bytes"] == os.path.getsize(text_file)
    for name in COUNTED:
        assert statistics[name] == meta["splits"]["train"][name] + meta["splits"]["validation"][name]
    assert sum(statistics[f"edges_{kind}"] for kind in ("SS", "SM", "MS", "MM")) == statistics["windows"]
    assert statistics["mean_length"] == pytest.approx(statistics["tokens"] / statistics["windows"])
    assert statistics["fill_one_a_row"] == pytest.approx((statistics["mean_length"] + 3) / 64)
    assert 0 < statistics["pair_share"] <= 1
    assert statistics["unknown_rate"] == 0
    assert statistics["sentences"] == pathlib.Path(text_file).read_text().count(".")
    assert meta["tokenizer_hash"] == vocabulary.hash
    assert meta["special_ids"] == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    assert read_meta(built[0]) == json.loads(json.dumps(meta))


def test_batches_are_made_of_it(built):
    """The reader of the training job takes the folder as it is, and counts as many pairs as the build did."""
    folder, meta = built
    data = Data(corpus=(folder,), length=64, batch_rows=16)
    opened = source.open_source(data, "validation", seed=0)
    found = list(batches.evaluation_rows(opened, 0, 16))
    assert sum(int(batch["pair_weights"].sum()) for batch in found) == meta["splits"]["validation"]["pair_windows"]
    real = sum(int((batch["segments"] > 0).sum()) for batch in found)
    assert real >= meta["splits"]["validation"]["windows"] * 2


def test_unknown_pieces_and_cleaned_characters_are_counted(tmp_path, vocabulary):
    path = tmp_path / "a.txt"
    path.write_bytes("the Ж and\x00 the.\n\nyes \xff\n\n".encode("latin-1", "ignore") + "Ж the\n".encode())
    out = str(tmp_path / "out")
    statistics = build_corpus([str(path)], vocabulary.folder, out, CorpusOptions(on_bad_text="replace"), workers=1)[
        "statistics"
    ]
    assert statistics["cleaned"] == {"invalid_utf8": 1, "nul": 1, "control": 0, "byte_order_mark": 0, "surrogate": 0}
    assert statistics["unknown_tokens"] == 1
    assert statistics["unknown_rate"] == pytest.approx(1 / statistics["tokens"])


def test_long_corpora_have_several_record_files(tmp_path, text_file, vocabulary, built, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 20_000)
    monkeypatch.setattr(shards, "BLOCK_DOCUMENTS", 30)
    out = str(tmp_path / "out")
    build_corpus([text_file], vocabulary.folder, out, CorpusOptions(length=64), workers=1)
    assert len(list(pathlib.Path(out).glob("corpus-train.array_record-*"))) > 3
    pick = [bytes(record["tokens"]) for record in records(out, "train")]
    assert pick == [bytes(record["tokens"]) for record in records(built[0], "train")]


def test_the_record_file_of_a_block_follows_from_the_sizes_of_blocks(tmp_path, monkeypatch):
    """What `append` finds on the way, `shards_of` counts: Beam has no way, only counts."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 100)
    sizes = [(0, 40), (1, 70), (3, 10), (4, 90), (5, 250), (9, 1), (10, 99), (11, 5)]
    # 40 + 70 reach 100, then 10 + 90, then 250 alone, then 1 + 99, and 5 are left.
    assert shards.shards_of(sizes) == {0: 0, 1: 0, 3: 1, 4: 1, 5: 2, 9: 3, 10: 3, 11: 4}
    files = shards.open_split(str(tmp_path), "train", 10)
    for block, size in sizes:
        for part in (size // 2, size - size // 2):  # Two chunks of a block.
            records = [bytes(part)] if part else []
            shards.append(files, chunks.Windowed(records, [(1, 1)] * len(records)), block)
    shards.finish_split(files)
    assert files.shard_windows == [4, 4, 2, 3, 2]


@pytest.mark.thorough
def test_the_order_of_a_pair_cannot_be_read_off_its_edges(shared, tmp_path):
    """Real text, cased, real batches: the best table of punctuation and capitals at the edges stays below 0.55."""
    vocabulary = adopt_vocabulary(shared / "vocab/bert_cased_vocab.txt", tmp_path / "tokenizer")
    path = str(shared / "pretrain/enwiki_valid.txt")
    for length in (128, 512):
        out = str(tmp_path / f"corpus{length}")
        build_corpus([path], vocabulary.folder, out, CorpusOptions(length=length, validation_fraction=0), workers=1)
        opened = source.open_source(
            Data(corpus=(out,), length=length, batch_rows=64, tokenizer=vocabulary.folder), "train", seed=0
        )
        found = batches.pair_statistics(opened, max(1, source.rows_per_epoch(opened) // 64))
        assert found["pairs"] > 1000
        assert found["edge_rule_accuracy"] <= 0.55


# --- The same bytes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path, text_file, vocabulary, built, workers, monkeypatch):
    monkeypatch.setattr(corpus, "CHUNK_LIMIT", 5_000)  # dozens of chunks
    out = str(tmp_path / "somewhere else")
    build_corpus([text_file], vocabulary.folder, out, CorpusOptions(length=64), workers=workers)
    assert digests(out) == digests(built[0])


def test_another_seed_gives_another_split(tmp_path, text_file, vocabulary, built):
    out = str(tmp_path / "out")
    build_corpus([text_file], vocabulary.folder, out, CorpusOptions(length=64, seed=1), workers=1)
    assert digests(out)["validation.lengths.npy"] != digests(built[0])["validation.lengths.npy"]


def test_workers_load_neither_jax_nor_tfds():
    """They would cost time and memory in every process."""
    code = (
        "import sys, bertlite_jax.data.corpus.chunks; "
        "print([m for m in ('jax', 'tensorflow_datasets') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- Splits and duplicates ------------------------------------------------------------------------------------------


def test_exact_duplicates_go_before_the_split(tmp_path, vocabulary):
    """Also those that differ in white space and in what is cleaned away."""
    text = some_text(30)
    noisy = [document.replace(" ", "  ").replace("The", "\x00The") for document in text[:10]]
    out, meta = build_text(tmp_path, vocabulary, text + text[5:15] + noisy)
    assert meta["statistics"]["duplicate_documents"] == 20
    assert meta["statistics"]["documents"] == 30
    assert len(split_of_documents(out, text, vocabulary)) == 30


def test_the_split_of_a_document_depends_on_its_text(tmp_path, vocabulary):
    """Beyond the first few, the others do not matter: no document changes sides when text is added."""
    text = some_text(120)
    first, _ = build_text(tmp_path, vocabulary, text, "first", validation_fraction=0.3)
    second, _ = build_text(tmp_path, vocabulary, some_text(50, seed=7) + text[::-1], "second", validation_fraction=0.3)
    known = text + some_text(50, seed=7)
    before, after = split_of_documents(first, known, vocabulary), split_of_documents(second, known, vocabulary)
    head = text[:4]  # 1 / 0.3: among those one of each split is made sure of
    assert all(after[document] == split for document, split in before.items() if document not in head)
    share = sum(split == "validation" for split in before.values()) / 120
    assert 0.3 - 4 * 0.042 < share < 0.3 + 4 * 0.042  # binomial, four standard deviations


@pytest.mark.parametrize("documents", [2, 3, 10])
@pytest.mark.parametrize("fraction", [0.001, 0.02, 0.5, 0.99])
def test_both_splits_have_a_document(documents, fraction):
    for seed in range(20):
        pool = iter([(bytes([number]), [f"text {number}"]) for number in range(documents)])
        found = list(splits.assign_splits(pool, fraction, seed))
        assert [document.number for document in found] == list(range(documents))
        assert {document.split for document in found} == {"train", "validation"}


def test_very_long_documents_are_not_held_back(monkeypatch):
    """Two of them are enough to decide; memory would not do for fifty."""
    monkeypatch.setattr(splits, "HEAD_LIMIT", 1000)
    taken = []

    def pool():
        for number in range(50):
            taken.append(number)
            yield bytes([number]), ["x" * 1000]

    next(splits.assign_splits(pool(), 0.02, 0))
    assert taken == [0, 1]


def test_one_sentence_is_for_training(tmp_path, vocabulary, capsys):
    out, meta = build_text(tmp_path, vocabulary, ["The only one."], validation_fraction=0.5)
    assert "the validation split is empty; a blank line separates documents" in capsys.readouterr().err
    assert meta["splits"]["train"]["documents"] == 1
    assert meta["splits"]["validation"]["windows"] == 0
    assert np.load(f"{out}/validation.lengths.npy").shape == (0, 2)
    assert len(records(out, "train")) == meta["splits"]["train"]["windows"]
    with pytest.raises(UserError, match="no windows in the split validation"):
        source.open_source(Data(corpus=(out,)), "validation", 0)


@pytest.mark.parametrize("copies", [1, 2])
def test_a_document_that_is_alone_is_divided_at_a_paragraph(tmp_path, vocabulary, capsys, copies):
    """A copy of it is no second document."""
    lines = [f"The {word}." for word in ("cat", "dog", "emu", "fox")]
    _, meta = build_text(tmp_path, vocabulary, ["\n".join(lines)] * copies, validation_fraction=0.25)
    assert "only one document, so its end is the validation split (1 windows)" in capsys.readouterr().err
    assert [meta["splits"][split]["paragraphs"] for split in splits.SPLITS] == [3, 1]
    assert meta["statistics"]["documents"] == 2
