"""Every output of every job with every kind of thing in its way: one line, and nothing is left behind."""

import os
import pathlib
import resource
import shutil
import signal
from collections.abc import Callable

import damage
import pytest

FOLDERS = {
    "corpus": "corpus text.txt --tokenizer tokenizer --workers 1 --out OUT",
    "tokenizer": "tokenizer text.txt --vocab-size 80 --out OUT",
    "tokenizer, adopted": "tokenizer tokenizer/vocab.txt --out OUT",
    "to-hf": "convert to-hf finetuned OUT",
    "from-hf": "convert from-hf hf OUT",
    "trim": "convert trim finetuned OUT --text text.txt",
    "onnx": "convert onnx finetuned OUT",
    "int8": "convert int8 finetuned OUT --calibrate text.txt",
    "bundle": "convert bundle finetuned OUT",
}
"""Jobs that write a folder of their own."""
FILES = {
    "embed": "embed hf --input texts --out OUT.npy",
    "embed, JSON": "embed hf --input texts --out OUT.jsonl",
    "recipes copy": "recipes copy albert_base OUT.py",
}
RUNS = {
    "pretrain": "pretrain PRETRAIN --data.corpus corpus --data.tokenizer tokenizer --workdir OUT",
    "finetune": "finetune FINETUNE --data task.csv --init hf --workdir OUT --data.length 32",
    "teach": "teach DISTILL --teacher pretrained --data.corpus corpus --data.tokenizer tokenizer --out OUT "
    "--data.length 64 --data.batch-rows 8 --optim.micro-batches 1 --optim.warmup-steps 1 --run.steps 2",
    "prune": "prune finetuned --workdir OUT",
    "compress": "compress finetuned --workdir OUT",
    "agora": "agora FINETUNE --data task.csv --data.length 16 --init pretrained --teacher finetuned --workdir OUT",
    "search": "search SEARCH --data.corpus corpus --data.tokenizer tokenizer --workdir OUT",
}
HEAVY = ("int8", "bundle", "onnx")


def stranger(path: pathlib.Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


def a_file(path: pathlib.Path) -> None:
    path.write_text("years of work")


def no_write(path: pathlib.Path) -> None:
    path.parent.chmod(0o500)


IN_THE_WAY: dict[str, tuple[str, Callable[[pathlib.Path], None]]] = {
    "a stranger's folder": ("out", stranger),
    "a file": ("out", a_file),
    "a dead link": ("out", damage.make_dead_link),
    "a link to itself": ("out", lambda path: path.symlink_to("out")),
    "a pipe": ("out", lambda path: os.mkfifo(path)),
    "a file as its parent": ("file/out", lambda path: a_file(path.parent)),
    "a dead link as its parent": ("link/out", lambda path: path.parent.symlink_to("/unmounted/disk")),
    "a name of 300 letters": ("o" * 300, lambda path: None),
    "a parent of 300 letters": ("o" * 300 + "/out", lambda path: None),
    "a path of 5,000 letters": ("d/" * 2_500 + "out", lambda path: None),
    "object storage": ("gs://bucket/out", lambda path: None),
}


@pytest.mark.parametrize("obstacle", IN_THE_WAY)
@pytest.mark.parametrize("job", [*FOLDERS, *RUNS])
def test_what_is_in_the_way_of_a_folder_stays(job, obstacle, bench):
    name, make = IN_THE_WAY[obstacle]
    make(bench.here / name)
    bench.refuses((FOLDERS | RUNS)[job].replace("OUT", name))


@pytest.mark.parametrize("obstacle", ["a stranger's folder", "a file", "a dead link"])
@pytest.mark.parametrize("job", [*FOLDERS, *RUNS])
def test_what_is_not_ours_is_never_overwritten(job, obstacle, bench):
    name, make = IN_THE_WAY[obstacle]
    make(bench.here / name)
    bench.refuses(f"{(FOLDERS | RUNS)[job].replace('OUT', name)} --overwrite")


# What is read lies in the way; with the right to overwrite, it would be lost.
READ = {
    "corpus, its text": ("corpus corpus/t.txt --tokenizer tokenizer --workers 1 --out corpus", "corpus/t.txt"),
    "corpus, its tokenizer": ("corpus text.txt --tokenizer corpus/tok --workers 1 --out corpus", "corpus/tok"),
    "tokenizer, its text": ("tokenizer tokenizer/t.txt --vocab-size 80 --out tokenizer", "tokenizer/t.txt"),
    "tokenizer, its vocabulary": ("tokenizer tokenizer/vocab.txt --out tokenizer", "tokenizer/vocab.txt"),
    "int8, its text": ("convert int8 finetuned int8 --calibrate int8/README.md", "int8/README.md"),
    "ort, its text": ("convert ort finetuned t.ort --text t.ort", "t.ort"),
    "bundle, its examples": ("convert bundle finetuned e --examples e", "e"),
    "embed": ("embed hf --input t.jsonl --out t.jsonl", "t.jsonl"),
    "finetune, its encoder": ("finetune FINETUNE --data task.csv --init finetuned --workdir finetuned", "finetuned"),
    "finetune, the run before": ("finetune FINETUNE --data task.csv --init pretrained --workdir pretrained", "pretrai"),
    "finetune, its best": ("finetune FINETUNE --data task.csv --init finetuned/best --workdir finetuned", "d/best"),
}


@pytest.mark.parametrize("job", READ)
def test_what_a_job_reads_is_not_overwritten_by_it(job, bench):
    command, place = READ[job]
    bench.copy("corpus", "finetuned", "hf", "int8", "pretrained", "tokenizer", "text.txt")
    if place == "corpus/tok":
        shutil.copytree("tokenizer", place)
    elif not (bench.here / place).exists() and "pretrai" not in place and "best" not in place:
        (bench.here / place).write_text('{"text": "a"}\n')
    more = " --data.length 32" if command.startswith("finetune") else ""
    bench.refuses(f"{command} --overwrite{more}", place, "read")


def test_a_report_replaces_no_folder(bench):
    (bench.copy("pretrained") / "report.html").mkdir()
    bench.refuses("report pretrained", "pretrained/report.html is a folder and is not replaced")


def test_the_scores_of_predict_do_not_replace_its_input(bench):
    bench.refuses("predict finetuned --input task.csv --metrics task.csv", "task.csv is the place that is read")
    bench.refuses("predict finetuned --input task.csv --metrics task.csv/m.json", "task.csv is no folder")
    bench.refuses("predict finetuned --input task.csv --metrics m.json --no-score", "--no-score leaves out")
    (bench.here / "m.json").symlink_to("/unmounted/m.json")
    bench.refuses("predict finetuned --input task.csv --metrics m.json", "a link to /unmounted/m.json")


FILES_IN_THE_WAY: dict[str, Callable[[pathlib.Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a dead link": damage.make_dead_link,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("obstacle", FILES_IN_THE_WAY)
@pytest.mark.parametrize("job", FILES)
def test_what_is_no_plain_file_is_never_replaced(job, obstacle, bench):
    command = FILES[job]
    suffix = command.rpartition("OUT")[2].split()[0]
    FILES_IN_THE_WAY[obstacle](bench.here / f"out{suffix}")
    (bench.here / "texts").write_text("one\n")
    bench.refuses(f"{command.replace('OUT', 'out')} --overwrite", f"out{suffix}")


@pytest.mark.parametrize("name", ["o" * 300, "file/o", "gs://bucket/o"], ids=["long", "below a file", "object storage"])
@pytest.mark.parametrize("job", FILES)
def test_a_file_that_cannot_be_is_told(job, name, bench):
    (bench.here / "file").write_text("")
    (bench.here / "texts").write_text("one\n")
    bench.refuses(FILES[job].replace("OUT", name), name[:6])


@pytest.mark.parametrize("job", [job for job in FOLDERS | FILES if job not in HEAVY])
def test_an_output_may_have_the_longest_name_that_there_is(job, bench):
    """255 bytes on most file systems."""
    command = (FOLDERS | FILES)[job]
    suffix = command.rpartition("OUT")[2].split(" ")[0]
    (bench.here / "texts").write_text("one\n")
    name = "o" * (255 - len(suffix))
    assert bench.run(command.replace("OUT", name))[0] == 0
    assert (bench.here / f"{name}{suffix}").exists()
    assert not [path for path in bench.here.iterdir() if path.name.startswith(f".{name[:99]}")]


@pytest.mark.parametrize("job", [job for job in FOLDERS if job not in HEAVY])
@pytest.mark.parametrize("out", [".", "..", "../case"])
def test_the_folder_that_this_runs_in_is_not_replaced(job, out, bench):
    bench.refuses(FOLDERS[job].replace("OUT", out))


@pytest.mark.parametrize("job", [*FOLDERS, *RUNS])
def test_a_folder_that_may_not_be_written_to_is_named(job, bench, not_root):
    bench.arguments((FOLDERS | RUNS)[job])
    (bench.here / "locked").mkdir()
    no_write(bench.here / "locked" / "out")
    bench.refuses((FOLDERS | RUNS)[job].replace("OUT", "locked/out"), "locked", "Permission denied")


@pytest.mark.parametrize("job", FOLDERS)
def test_a_disk_that_fills_up_leaves_nothing(job, bench):
    """A limit on the size of files is met as a full disk is: in the middle of a write."""
    bench.arguments(FOLDERS[job])
    with largest_file(20_000 if job == "corpus" else 100):
        bench.refuses(FOLDERS[job].replace("OUT", "out"), "cannot be written", "File too large")


def test_a_disk_that_fills_up_leaves_no_file_for_phones(bench):
    """ONNX Runtime says neither why nor with which number it could not write."""
    bench.copy("finetuned", "tokenizer", "text.txt")
    with largest_file(100):
        bench.refuses("convert ort finetuned out.ort --text text.txt", "model.ort cannot be written; make room")


class largest_file:
    """Inside, no file of this process can become larger than so many bytes."""

    def __init__(self, size: int):
        self.size = size

    def __enter__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
        signal.signal(signal.SIGXFSZ, self.handler)
