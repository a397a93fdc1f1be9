"""A corpus that is damaged or does not fit is refused in one line."""

import json
import os
import pathlib

import numpy as np
import pytest
from corpus_rows import ROWS, Corpus, epoch, opened

from bertlite_jax.data.rows import batches, source
from bertlite_jax.errors import UserError


def altered(corpus: Corpus, tmp_path: pathlib.Path, change) -> str:
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
        (lambda folder: (folder / "corpus.json").unlink(), "is not a finished corpus"),
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
        opened((folder, []))
    assert "\n" not in str(raised.value)
    assert folder in str(raised.value)


def test_a_window_of_another_length_than_on_file_is_named(corpus, tmp_path):
    folder = altered(corpus, tmp_path, edit_lengths(11, -3))
    opened_source = opened((folder, []), pair_task="none")
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

    opened_source = opened((altered(corpus, tmp_path, change), []), pair_task="none")
    with pytest.raises(UserError, match=r"train.array_record-00000.*: cannot be read \(Corrupted"):
        epoch(opened_source)


def test_corpora_of_two_tokenizers_are_refused(corpus, second, tmp_path):
    other = altered(second, tmp_path, edit_meta(tokenizer_hash="b" * 64))
    with pytest.raises(UserError, match="differ in tokenizer_hash"):
        opened(corpus, folders=(corpus[0], other))


def test_an_error_reaches_the_consumer_of_the_feed(corpus, tmp_path):
    folder = altered(corpus, tmp_path, lambda f: [edit_lengths(window, -1)(f) for window in range(5)])
    opened_source = opened((folder, []), pair_task="none")
    steps = source.rows_per_epoch(opened_source) // ROWS + 1
    with pytest.raises(UserError, match="is damaged"):
        list(batches.feed(lambda step: batches.batch_at(opened_source, step, ROWS), 1, steps, 2))
