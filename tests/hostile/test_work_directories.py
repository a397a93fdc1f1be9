"""Work directories that are none, incomplete, damaged or another program's: said in one line, and left as they are."""

import os
import pathlib
import shutil
from collections.abc import Callable

import damage
import pytest

READERS = {
    "evaluate": "evaluate RUN",
    "fill-mask": "fill-mask RUN 'a [MASK]'",
    "report": "report RUN",
    "predict": "predict RUN --input text.txt",
    "embed": "embed RUN --input text.txt --out out.npy",
    "to-hf": "convert to-hf RUN out",
    "trim": "convert trim RUN out --text text.txt",
    "onnx": "convert onnx RUN out",
    "int8": "convert int8 RUN out --calibrate text.txt",
    "ort": "convert ort RUN out.ort --text text.txt",
    "bundle": "convert bundle RUN out",
    "--init of pretrain": "pretrain PRETRAIN --data.corpus corpus --data.tokenizer tokenizer --workdir out --init RUN",
    "--teacher of distill": (
        "distill DISTILL --data.corpus corpus --data.tokenizer tokenizer --workdir out --teacher RUN"
    ),
    "--distill.store of distill": (
        "distill DISTILL --data.corpus corpus --data.tokenizer tokenizer --data.length 64 --data.batch-rows 8 "
        "--optim.micro-batches 1 --optim.warmup-steps 1 --run.steps 2 --workdir out --teacher pretrained "
        "--distill.store RUN"
    ),
    "--init of finetune": "finetune FINETUNE --data task.csv --workdir out --init RUN",
    "prune": "prune RUN --workdir out",
    "compress": "compress RUN --workdir out",
    "--init of agora": "agora FINETUNE --data task.csv --workdir out --init RUN --teacher finetuned",
    "--teacher of agora": (
        "agora FINETUNE --data task.csv --data.length 16 --workdir out --init pretrained --teacher RUN"
    ),
    "--learn.teacher of finetune": (
        "finetune FINETUNE --data task.csv --data.length 16 --workdir out --init pretrained --learn.teacher RUN"
    ),
    "--learn.augment-model of finetune": (
        "finetune FINETUNE --data task.csv --data.length 16 --workdir out --init pretrained --learn.teacher finetuned "
        "--learn.copies 1 --learn.augment masked_lm --learn.augment-model RUN"
    ),
}
"""Jobs that read a run, or what one of their options names."""
PLACES: dict[str, Callable[[pathlib.Path], object]] = {
    "missing": lambda path: None,
    "empty": lambda path: path.mkdir(),
    "a file": lambda path: path.write_text("text"),
    "a dead link": lambda path: path.symlink_to("/unmounted/run"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": lambda path: os.mkfifo(path),
    "a stranger's": lambda path: [path.mkdir(), (path / "config.json").write_text('{"a": 1}')],
    "a config alone": lambda path: [path.mkdir(), (path / "config.json").write_text('{"model": {}, "run": {}}')],
}


@pytest.mark.parametrize("job", READERS)
@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_is_no_run_is_named(name, job, bench):
    PLACES[name](bench.here / "run")
    bench.refuses(READERS[job].replace("RUN", "run"), "run")


@pytest.mark.parametrize("job", READERS)
@pytest.mark.parametrize("run", ["gs://bucket/run", "r" * 300, "a/" * 2_500], ids=["object storage", "long", "deep"])
def test_a_name_that_cannot_be_is_told(run, job, bench):
    bench.refuses(READERS[job].replace("RUN", run), run[:10])


PARTS = {
    "config.json": lambda run: (run / "config.json").unlink(),
    "checkpoints": lambda run: shutil.rmtree(run / "checkpoints"),
    "checkpoints, emptied": lambda run: [shutil.rmtree(run / "checkpoints"), (run / "checkpoints").mkdir()],
    "checkpoints, a file": lambda run: [shutil.rmtree(run / "checkpoints"), (run / "checkpoints").write_text("")],
    "checkpoints, a dead link": lambda run: damage.make_dead_link(run / "checkpoints"),
    "tokenizer": lambda run: shutil.rmtree(run / "tokenizer"),
    "tokenizer, a file": lambda run: [shutil.rmtree(run / "tokenizer"), (run / "tokenizer").write_text("")],
    "vocab.txt": lambda run: (run / "tokenizer/vocab.txt").unlink(),
    "another vocab.txt": lambda run: (run / "tokenizer/vocab.txt").write_text("[PAD]\n[UNK]\na\n"),
}


@pytest.mark.parametrize("job", ["evaluate", "fill-mask", "to-hf"])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_missing_or_another_is_named(part, job, bench):
    PARTS[part](bench.copy("pretrained"))
    bench.refuses(READERS[job].replace("RUN", "pretrained"), "pretrained")


@pytest.mark.parametrize("job", ["evaluate", "fill-mask", "report", "predict", "to-hf", "onnx"])
def test_a_run_that_may_not_be_read_is_named(job, bench, not_root):
    run = "finetuned" if job == "predict" else "pretrained"
    bench.copy(run).chmod(0)
    try:
        bench.refuses(READERS[job].replace("RUN", run), run, "Permission denied")
    finally:
        (bench.here / run).chmod(0o700)


@pytest.mark.parametrize("part", ["20", "20/params", "20/params/d"])
def test_a_checkpoint_whose_folder_may_not_be_read_is_not_taken_for_damaged(part, bench, not_root):
    """An older one would be used instead, and a run would set this one aside."""
    place = bench.copy("pretrained") / "checkpoints" / part
    place.chmod(0)
    try:
        bench.refuses(READERS["fill-mask"].replace("RUN", "pretrained"), part, "Permission denied")
    finally:
        place.chmod(0o700)


def test_a_report_into_a_run_that_may_not_be_written_to_is_refused(bench, not_root):
    bench.copy("pretrained").chmod(0o500)
    try:
        bench.refuses("report pretrained", "pretrained", "Permission denied")
    finally:
        (bench.here / "pretrained").chmod(0o700)


CORPORA = {
    "missing": lambda corpus: shutil.rmtree(corpus),
    "a file": lambda corpus: [shutil.rmtree(corpus), corpus.write_text("")],
    "without records": lambda corpus: [file.unlink() for file in corpus.glob("*array_record*")],
    "without lengths": lambda corpus: (corpus / "train.lengths.npy").unlink(),
    "cut records": lambda corpus: _cut(corpus / "corpus-validation.array_record-00000"),
    "lengths of another size": lambda corpus: _cut(corpus / "validation.lengths.npy"),
}


def _cut(file: pathlib.Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_that_is_damaged_is_named(name, bench):
    bench.copy("pretrained")
    CORPORA[name](bench.copy("corpus"))
    bench.refuses("evaluate pretrained", "corpus")


HEADERS = {
    "no magic": lambda right: b"x" + right[1:],
    "another version": lambda right: right[:6] + b"\x09" + right[7:],
    "a header that is no dict": lambda right: right[:10] + b"[" * (right[8] - 1) + b"\n" + right[10 + right[8] :],
    "another dtype": lambda right: right.replace(b"<u2", b"<f2").replace(b"<i8", b"<f8"),
    "objects": lambda right: right.replace(b"'<u2'", b"'|O' ").replace(b"'<i8'", b"'|O' "),
    "zeros": lambda right: bytes(len(right)),
}


@pytest.mark.parametrize("file", ["validation.lengths.npy", "train.unigram.npy"])
@pytest.mark.parametrize("name", HEADERS)
def test_an_array_of_a_corpus_with_a_damaged_header_is_named(name, file, bench):
    bench.copy("pretrained")
    damage.apply(bench.copy("corpus") / file, HEADERS[name])
    bench.refuses("evaluate pretrained", file, "damaged")


TOKENIZERS: dict[str, damage.Damage] = {
    "lower is a word": damage.edit_json("settings", "lower", to="yes"),
    "lower is null": damage.edit_json("settings", "lower", to=None),
    "settings are missing": damage.edit_json("settings", to=...),
    "settings are a list": damage.edit_json("settings", to=[]),
    "the kind is unknown": damage.edit_json("kind", to="unigram"),
    "the kind is a list": damage.edit_json("kind", to=["wordpiece"]),
    "specials are a list": damage.edit_json("specials", to=["[PAD]"]),
    "a special is missing": damage.edit_json("specials", "mask", to=...),
    "a special is a number": damage.edit_json("specials", "mask", to=4),
    "a special is no piece": damage.edit_json("specials", "mask", to="[NONE]"),
    "another format": damage.edit_json("format", to=99),
    "another sum": damage.edit_json("model_sha256", to="0" * 64),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_settings_of_a_tokenizer_that_were_edited_are_named(name, bench):
    damage.apply(bench.copy("tokenizer") / "bertlite_tokenizer.json", TOKENIZERS[name])
    bench.refuses("corpus text.txt --tokenizer tokenizer --out out --workers 1", "tokenizer")
