"""A corpus whose files were damaged: no job goes on with what is left, whichever bytes are wrong.

Users report readers that skip or stop silently: tensorflow/datasets #5270.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest
from corpus_rows import LENGTH, Corpus, segments_of

from bertlite_jax.config.pretrain import Data
from bertlite_jax.data.corpus.folder import read_meta, unigram_counts
from bertlite_jax.data.rows import batches, source
from bertlite_jax.errors import UserError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    import synthetic_corpus

    folder = tmp_path_factory.mktemp("corpora") / "one"
    return str(folder), synthetic_corpus.build(folder, 12, 0)


def all_rows(folder: pathlib.Path) -> list[tuple[list[int], list[int]]]:
    rows = source.open_source(Data(corpus=(str(folder),), length=LENGTH, pair_task="none"), "train", 0)
    return segments_of(batches.rows_at(rows, np.arange(source.rows_per_epoch(rows))))


def test_eight_flipped_bytes_anywhere_in_a_record_file_are_found(corpus, tmp_path):
    whole = pathlib.Path(corpus[0])
    right = all_rows(whole)
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    (file,) = folder.glob("*train.array_record-*")
    content = file.read_bytes()
    refused, written = [], np.flatnonzero(np.frombuffer(content, np.uint8))  # Between them is padding.
    for place in written[np.linspace(0, len(written) - 8, 60).astype(int)].tolist():
        flipped = bytes(255 - byte for byte in content[place : place + 8])
        file.write_bytes(content[:place] + flipped + content[place + 8 :])
        try:
            assert all_rows(folder) == right  # Bytes that nothing is read from.
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all(str(folder) in line and "\n" not in line for line in refused)


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_a_file_that_lost_its_end_is_refused_by_its_size(cut, corpus, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(corpus[0], folder)
    (file,) = folder.glob("*train.array_record-*")
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(UserError, match=r"array_record-.*: \d+ bytes instead of \d+; build the corpus again"):
        all_rows(folder)


# --- The files beside the records ------------------------------------------------------------------------------------


def altered(corpus: Corpus, tmp_path: pathlib.Path, **changes) -> pathlib.Path:
    folder = tmp_path / "copy"
    shutil.copytree(corpus[0], folder)
    meta = json.loads((folder / "corpus.json").read_text())
    meta = {name: value for name, value in (meta | changes).items() if value is not None}
    (folder / "corpus.json").write_text(json.dumps(meta))
    return folder


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"length": "64"}, "length"),
        ({"length": True}, "length"),
        ({"vocab_size": -1}, "vocab_size"),
        ({"vocab_size": 1e9}, "vocab_size"),
        ({"tokenizer_hash": 5}, "tokenizer_hash"),
        ({"special_ids": None}, "special_ids"),
        ({"special_ids": {"pad": 0}}, "special_ids.unk"),
        ({"special_ids": {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 10**9}}, "special_ids.mask"),
        ({"splits": None}, "splits"),
        ({"splits": ["train"]}, "splits"),
        ({"splits": {"train": 5}}, "splits.train"),
        ({"splits": {"train": {"windows": "7"}}}, "splits.train"),
        ({"sizes": None}, "sizes"),
        ({"sizes": {"train.lengths.npy": "5"}}, "sizes.train.lengths.npy"),
        ({"sizes": {"../corpus.json": 5}}, "sizes.../corpus.json"),
    ],
)
def test_a_wrong_entry_of_corpus_json_is_named(change, named, corpus, tmp_path):
    folder = altered(corpus, tmp_path, **change)
    with pytest.raises(UserError) as refused:
        read_meta(str(folder))
    assert str(refused.value) == (
        f"corpus: {folder}/corpus.json: damaged: {named} is missing or has a wrong value; build the corpus again"
    )


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff\xfe{\x00}\x00", b'{"a": "\xff"}', b"[" * 200_000, b'{"format": ' + b"9" * 5000 + b"}", b""],
    ids=["cut off", "UTF-16", "not UTF-8", "deep", "digits", "empty"],
)
def test_a_corpus_json_that_is_no_json_is_one_line(content, corpus, tmp_path):
    folder = altered(corpus, tmp_path)
    (folder / "corpus.json").write_bytes(content)
    with pytest.raises(UserError, match=r"corpus.json: .*the file is damaged; build the corpus again") as refused:
        read_meta(str(folder))
    assert "\n" not in str(refused.value)
    (folder / "corpus.json").unlink()
    (folder / "corpus.json").mkdir()
    with pytest.raises(UserError, match=r"corpus.json cannot be read: Is a directory"):
        read_meta(str(folder))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 no archive",
        b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<u2', " + b" " * 101,
        b"\x93NUMPY\x01\x00\x76\x00" + b"((((" + b" " * 114,
    ],
    ids=["empty", "archive", "header cut off", "header of brackets"],
)
def test_a_damaged_array_beside_the_records_is_one_line(content, corpus, tmp_path):
    whole = json.loads(pathlib.Path(corpus[0], "corpus.json").read_text())["sizes"]
    names = ("train.lengths.npy", "train.unigram.npy")
    folder = altered(corpus, tmp_path, sizes=whole | {name: len(content) for name in names})
    for name in names:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=r"train.lengths.npy: damaged \(.*\); build the corpus again"):
        all_rows(folder)
    with pytest.raises(UserError, match=r"train.unigram.npy: damaged \(.*\); build the corpus again"):
        unigram_counts([str(folder)], "train")


@pytest.mark.parametrize("array", [np.zeros((5, 3), np.uint16), np.zeros(5, np.uint16), np.zeros((5, 2), np.float32)])
def test_lengths_of_another_shape_are_one_line(array, corpus, tmp_path):
    np.save(tmp_path / "lengths.npy", array)
    content = (tmp_path / "lengths.npy").read_bytes()
    whole = json.loads(pathlib.Path(corpus[0], "corpus.json").read_text())["sizes"]
    folder = altered(corpus, tmp_path, sizes=whole | {"train.lengths.npy": len(content)})
    (folder / "train.lengths.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"train.lengths.npy: damaged \(it has another shape or type\)"):
        all_rows(folder)
