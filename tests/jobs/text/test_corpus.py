"""A corpus folder: complete, reproducible, an ordinary TFDS dataset; or not there at all."""

import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bertlite_jax.config.pretrain import Data
from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.data.corpus import chunks, shards, splits
from bertlite_jax.data.corpus.folder import read_meta, scratch_folder
from bertlite_jax.data.corpus.statistics import COUNTED
from bertlite_jax.data.rows import batches, source
from bertlite_jax.data.text import sentences
from bertlite_jax.data.vocabulary.tokenizer import Tokenizer, adopt_vocabulary
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.text import corpus
from bertlite_jax.jobs.text.corpus import build_corpus

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory) -> Tokenizer:
    """A WordPiece vocabulary in which every word of small letters is some pieces."""
    folder = tmp_path_factory.mktemp("tokenizer")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "!", "。"]
    pieces += [prefix + letter for prefix in ("", "##") for letter in LETTERS]
    pieces += ["the", "and", "##ing", "##er", "你", "好", *(str(digit) for digit in range(10))]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return adopt_vocabulary(folder / "vocab.txt", folder / "made")


def some_text(documents: int, seed: int = 0) -> list[str]:
    """Documents of one to thirty sentences in paragraphs of a few, all different."""
    draw = random.Random(seed)
    made = []
    for _ in range(documents):
        lines = []
        for _ in range(draw.randint(1, 6)):
            line = []
            for _ in range(draw.randint(1, 5)):
                words = ["".join(draw.choices(LETTERS, k=draw.randint(4, 7))) for _ in range(draw.randint(2, 15))]
                line.append(" ".join(["The", *words]) + ".")
            lines.append(" ".join(line))
        made.append("\n".join(lines))
    return made


@pytest.fixture(scope="module")
def text_file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text("\n\n".join(some_text(400)) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def built(text_file, vocabulary, tmp_path_factory) -> tuple[str, dict]:
    out = str(tmp_path_factory.mktemp("corpora") / "corpus")
    return out, build_corpus([text_file], vocabulary.folder, out, CorpusOptions(length=64), workers=1)


def digests(folder: str) -> dict[str, str]:
    """Of every file but the one that holds the time."""
    paths = [path for path in pathlib.Path(folder).iterdir() if path.name != "build.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def records(folder: str, split: str) -> list[dict]:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    return list(builder.as_data_source(split))  # pyright: ignore[reportCallIssue]  # Its decorator has no types.


def split_of_documents(folder: str, text: list[str], vocabulary: Tokenizer) -> dict[str, str]:
    """Which split holds each of the texts, found by their tokens."""
    known = {b"".join(vocabulary.encode(one).astype("<u2").tobytes() for one in lines_of(t)): t for t in text}
    found = {}
    for split in splits.SPLITS:
        if read_meta(folder)["splits"][split]["windows"]:
            whole: dict[int, bytes] = {}
            for record in records(folder, split):
                whole[int(record["document"])] = whole.get(int(record["document"]), b"") + record["tokens"]
            found |= {known[tokens]: split for tokens in whole.values()}
    return found


def lines_of(document: str) -> list[str]:
    return sentences.split_document(document.split("\n"))


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


def build_text(tmp_path, vocabulary, text: list[str], name: str = "out", **options) -> tuple[str, dict]:
    path, out = tmp_path / f"{name}.txt", str(tmp_path / name)
    path.write_text("\n\n".join(text), encoding="utf-8")
    return out, build_corpus([str(path)], vocabulary.folder, out, CorpusOptions(**options), workers=1)


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


def test_one_document_is_for_training(tmp_path, vocabulary, capsys):
    out, meta = build_text(tmp_path, vocabulary, some_text(1), validation_fraction=0.5)
    assert "the validation split is empty; a blank line separates documents" in capsys.readouterr().err
    assert meta["splits"]["train"]["documents"] == 1
    assert meta["splits"]["validation"]["windows"] == 0
    assert np.load(f"{out}/validation.lengths.npy").shape == (0, 2)
    assert len(records(out, "train")) == meta["splits"]["train"]["windows"]
    with pytest.raises(UserError, match="no windows in the split validation"):
        source.open_source(Data(corpus=(out,)), "validation", 0)


# --- Refusals ------------------------------------------------------------------------------------------


def refusal(
    folder: pathlib.Path, inputs: list[str], tokenizer: str, out: str, workers=1, overwrite=False, **options
) -> str:
    """The one line; and nothing is left in the folder but what was there."""
    before = sorted(folder.iterdir())
    with pytest.raises(UserError) as caught:
        build_corpus(inputs, tokenizer, out, CorpusOptions(**options), workers=workers, overwrite=overwrite)
    assert sorted(folder.iterdir()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_input_is_refused_and_leaves_nothing(tmp_path, vocabulary):
    path, out = tmp_path / "notes.txt", str(tmp_path / "out")
    path.write_bytes(b"one\n\ntwo\n\n" + b"three \xff\n")
    message = refusal(tmp_path, [str(path)], vocabulary.folder, out)
    assert message.startswith(f"corpus: {path}:5: invalid UTF-8 (byte 0xff)")
    path.write_bytes(b" \n\n\x00\n")
    expected = f"corpus: {path}: no document in it; nothing was written"
    assert refusal(tmp_path, [str(path)], vocabulary.folder, out) == expected
    missing = str(tmp_path / "missing")
    assert "does not exist" in refusal(tmp_path, [missing], vocabulary.folder, out)
    assert "tokenizer" in refusal(tmp_path, [str(path)], missing, out)


@pytest.mark.parametrize(
    "option",
    [{"length": 7}, {"validation_fraction": 1}, {"short_fraction": -0.1}, {"workers": -1}, {"on_bad_text": "x"}],
)
def test_impossible_options_are_refused(tmp_path, text_file, vocabulary, option):
    assert next(iter(option)) in refusal(tmp_path, [text_file], vocabulary.folder, str(tmp_path / "out"), **option)


def test_only_a_corpus_is_overwritten_and_only_when_asked(tmp_path, text_file, vocabulary):
    out, _ = build_text(tmp_path, vocabulary, some_text(5))
    before = digests(out)
    message = refusal(tmp_path, [text_file], vocabulary.folder, out)
    assert message == f"corpus: {out}: exists; give another folder, or pass --overwrite to replace it"
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"\xff")
    refusal(tmp_path, [str(bad)], vocabulary.folder, out, overwrite=True)
    assert digests(out) == before  # a failed build leaves the old one
    build_corpus([text_file], vocabulary.folder, out, workers=1, overwrite=True)
    assert digests(out) != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt", "out", "out.txt"]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    assert "is not a corpus" in refusal(tmp_path, [text_file], vocabulary.folder, str(precious), overwrite=True)


def test_an_incomplete_folder_is_no_corpus(tmp_path, vocabulary):
    out, meta = build_text(tmp_path, vocabulary, some_text(5))
    read_meta(out)
    for name in meta["sizes"]:
        path = pathlib.Path(out, name)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(UserError, match=f"{name}: {len(whole) - 1} bytes instead of {len(whole)}"):
            read_meta(out)
        path.unlink()
        with pytest.raises(UserError, match=f"{name} is missing"):
            read_meta(out)
        path.write_bytes(whole)
    path = pathlib.Path(out, "corpus.json")
    for content, reason in (
        ("{", "damaged"),
        ('{"format": 2}', "format 2, but this version reads 1"),
        ("[]", "format"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=reason):
            read_meta(out)
    path.unlink()
    with pytest.raises(UserError, match="not a finished corpus"):
        read_meta(out)


# --- Killed builds ------------------------------------------------------------------------------------------

BUILD = """
import sys
from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.jobs.text import corpus
if __name__ == "__main__":
    corpus.CHUNK_LIMIT = 10_000
    corpus.build_corpus([sys.argv[1]], sys.argv[2], sys.argv[3], CorpusOptions(length=64), workers=2)
"""


def children(process: int) -> list[int]:
    listed = pathlib.Path(f"/proc/{process}/task/{process}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def alive(process: int) -> bool:
    status = pathlib.Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for(condition, seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_a_killed_build_leaves_no_corpus_and_can_be_run_again(tmp_path, text_file, vocabulary, built):
    """Kill -9 while records are being written: the workers end too, and the next build sweeps up."""
    (tmp_path / "build.py").write_text(BUILD)
    large, out = tmp_path / "large.txt", tmp_path / "out"
    large.write_text("\n\n".join(f"x{n} {d}" for n in range(200) for d in some_text(50)))
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "build.py"), str(large), vocabulary.folder, str(out)], stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: any(path.stat().st_size > 10_000 for path in tmp_path.glob("out.tmp-*/train.lengths.raw")))
        workers = children(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(workers) >= 2
    wait_for(lambda: not any(map(alive, workers)), 20)
    assert not out.exists()
    (left,) = tmp_path.glob("out.tmp-*")
    with pytest.raises(UserError, match="not a finished corpus"):
        read_meta(str(left))
    build_corpus([text_file], vocabulary.folder, str(out), CorpusOptions(length=64), workers=1)
    assert digests(str(out)) == digests(built[0])
    assert not left.exists()


def test_ctrl_c_while_the_workers_start_ends_in_one_line_and_leaves_nothing(tmp_path, text_file, vocabulary):
    """It goes to all processes of a terminal: the workers' imports are no place for a KeyboardInterrupt."""
    # A process that a script started in the background has SIGINT ignored; a terminal's has not.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from bertlite_jax.cli.main import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "corpus", text_file, "--tokenizer", vocabulary.folder]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out"), "--length", "64", "--workers", "2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(lambda: len(children(process.pid)) >= 2)  # the first of them shares the semaphores out
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, said) == (130, "interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_build_leaves_a_live_one_alone(tmp_path):
    place = tmp_path / "out"
    with scratch_folder(place) as first, scratch_folder(place) as second:
        assert first.exists()
        assert second.exists()
        assert first != second
    assert not first.exists()
    assert not second.exists()


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(text_file, vocabulary, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"corpus: .*file/out cannot be written: File exists; name another place$"):
        build_corpus(
            [text_file], vocabulary.folder, str(tmp_path / "file" / "out"), CorpusOptions(length=64), workers=1
        )
