"""Text that is damaged, packed wrongly, of another format, or not there: file and line are named."""

import gzip
import json
import os

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertlite_jax.data.text import pipes

LINES = "".join(f"Line {number} of some text that is long enough to be packed.\n\n" for number in range(40)).encode()
JSON_LINES = b'{"text": "one"}\n'
PACKED = gzip.compress(LINES)
ZSTANDARD = zstandard.compress(LINES)
COMMANDS = {
    "corpus": "corpus INPUT --tokenizer tokenizer --out out --workers 1",
    "tokenizer": "tokenizer INPUT --out out --vocab-size 60",
}
CONTENTS: dict[str, tuple[str, bytes, str]] = {
    "invalid UTF-8": ("a.txt", b"one\n\ntw\xffo\n", "a.txt:3: invalid UTF-8 (byte 0xff)"),
    "a cut character": ("a.txt", "one\n\ntwo é".encode()[:-1], "a.txt:3: invalid UTF-8"),
    "latin-1": ("a.txt", "é\n".encode("latin-1"), "a.txt:1: invalid UTF-8"),
    "UTF-16": ("a.txt", "one two".encode("utf-16"), "iconv -f utf-16 -t utf-8"),
    "UTF-16, big-endian": ("a.txt", b"\xfe\xff" + "one two".encode("utf-16-be"), "iconv -f utf-16"),
    "UTF-32": ("a.txt", "one two".encode("utf-32"), "iconv -f utf-32 -t utf-8"),
    "UTF-32, big-endian": ("a.txt", b"\x00\x00\xfe\xff" + "one two".encode("utf-32-be"), "iconv -f utf-32"),
    "UTF-16 without a mark": ("a.txt", ("one two three four " * 4).encode("utf-16-le"), "iconv -f utf-16le"),
    "UTF-32 without a mark": ("a.txt", ("one two three four " * 4).encode("utf-32-be"), "iconv -f utf-32be"),
    "gzip, cut off": ("a.txt.gz", PACKED[:-20], "a.txt.gz: truncated or damaged gz file"),
    "gzip, a bit flipped": ("a.txt.gz", PACKED[:30] + bytes([PACKED[30] ^ 4]) + PACKED[31:], "a.txt.gz"),
    "no gzip": ("a.txt.gz", LINES, "a.txt.gz: truncated or damaged gz file"),
    "gzip, wrong sum": ("a.txt.gz", PACKED[:-8] + bytes(8), "a.txt.gz: truncated or damaged gz file"),
    "zstandard, cut off": ("a.txt.zst", ZSTANDARD[:-20], "a.txt.zst: truncated or damaged zst file"),
    "no zstandard": ("a.txt.zst", LINES, "a.txt.zst: truncated or damaged zst file"),
    "zstandard, then other bytes": ("a.txt.zst", ZSTANDARD + b"more", "a.txt.zst: truncated or damaged zst file"),
    "no JSON": ("a.jsonl", JSON_LINES + b"text\n", "a.jsonl:2: not JSON"),
    "JSON, cut off": ("a.jsonl", JSON_LINES + b'{"text": "tw', "a.jsonl:2: not JSON"),
    "JSON, too deep": ("a.jsonl", b'{"text": ' + b"[" * 200_000 + b"\n", "a.jsonl:1: not "),
    "JSON, a number of many digits": ("a.jsonl", b'{"text": "a", "n": ' + b"9" * 5000 + b"}\n", "a.jsonl:1: not "),
    "JSON, another field": ("a.jsonl", b'{"body": "one"}\n', "no field 'text'; it has: body"),
    "JSON, a number as text": ("a.jsonl", b'{"text": 5}\n', "the field 'text' holds int"),
    "JSON, strings": ("a.jsonl", b'"one"\n', "a.jsonl:1: a JSON object is expected"),
    "JSON, a list": ("a.json", b'[{"text": "one"}, {"text": "two"}]', "a.json:1: this is one JSON list; write one"),
    "JSON, a list over lines": ("a.json", b'\n[\n {"text": "one"}\n]\n', "a.json:2: this is one JSON list"),
    "JSON, null": ("a.jsonl", b"null\n", "a.jsonl:1: a JSON object is expected"),
    "JSON, UTF-16": ("a.jsonl", '{"text": "a"}\n'.encode("utf-16"), "iconv -f utf-16"),
    "JSON, invalid UTF-8": ("a.jsonl", b'{"text": "\xff"}\n', "a.jsonl:1: invalid UTF-8"),
    "no Parquet": ("a.parquet", b"PAR1 not at all", "a.parquet: cannot be read as Parquet"),
    "an empty Parquet": ("a.parquet", b"", "a.parquet: cannot be read as Parquet"),
    "Parquet, cut off": ("a.parquet", b"PAR1" + bytes(40) + b"PAR1", "a.parquet: cannot be read as Parquet"),
    "nothing": ("a.txt", b"", "no"),
    "blank lines": ("a.txt", b"\n \n\t\n", "no"),
    "control characters": ("a.txt", b"\x01\x02\n", "no"),
}


@pytest.mark.parametrize("job", COMMANDS)
@pytest.mark.parametrize("name", CONTENTS)
def test_text_that_cannot_be_read_is_named_with_its_place(name, job, bench):
    file, content, said = CONTENTS[name]
    (bench.here / file).write_bytes(content)
    bench.refuses(COMMANDS[job].replace("INPUT", file), said)


@pytest.mark.parametrize("job", COMMANDS)
@pytest.mark.parametrize("name", ["invalid UTF-8", "gzip, cut off", "no JSON", "UTF-32"])
def test_a_damaged_file_in_a_folder_is_named(name, job, bench):
    file, content, said = CONTENTS[name]
    (bench.here / "d" / "sub").mkdir(parents=True)
    (bench.here / "d" / "a0.txt").write_bytes(LINES)
    (bench.here / "d" / "sub" / file).write_bytes(content)
    bench.refuses(COMMANDS[job].replace("INPUT", "d"), said)


FOLDERS = {
    "missing": (lambda path: None, "does not exist"),
    "empty": (lambda path: path.mkdir(), "the folder holds no file"),
    "only hidden files": (lambda path: [path.mkdir(), (path / ".a").write_text("a")], "the folder holds no file"),
    "only dead links": (lambda path: [path.mkdir(), (path / "a").symlink_to("/unmounted/a")], "a -> /unmounted/a"),
    "only a loop": (lambda path: [path.mkdir(), (path / "a").symlink_to(".")], "the folder holds no file"),
    "a link to itself": (lambda path: path.symlink_to("d"), "d"),
    "a dead link": (lambda path: path.symlink_to("/unmounted/d"), "a link to /unmounted/d"),
    "a pipe": (lambda path: os.mkfifo(path), "a pipe that no program has written to"),
    "only a pipe": (lambda path: [path.mkdir(), os.mkfifo(path / "p")], "p (neither file nor folder)"),
}


@pytest.mark.parametrize("job", COMMANDS)
@pytest.mark.parametrize("name", FOLDERS)
def test_an_input_that_is_no_text_is_named(name, job, bench, monkeypatch):
    monkeypatch.setattr(pipes, "PATIENCE_SECONDS", 0.05)
    make, said = FOLDERS[name]
    make(bench.here / "d")
    bench.refuses(COMMANDS[job].replace("INPUT", "d"), "d", said)


@pytest.mark.parametrize("command", [*COMMANDS.values(), "convert int8 finetuned out --calibrate INPUT"])
def test_an_empty_name_is_not_the_folder_that_this_runs_in(command, bench):
    """`"$TEXT"` in a shell that knows no TEXT."""
    (bench.here / "a.txt").write_bytes(LINES)
    bench.refuses(command.replace("INPUT", "''"), "an input has an empty name")


@pytest.mark.parametrize("job", COMMANDS)
@pytest.mark.parametrize("which", ["d", "d/sub", "d/a.txt", "d/sub/b.jsonl"])
def test_what_may_not_be_read_is_named(which, job, bench, not_root):
    (bench.here / "d" / "sub").mkdir(parents=True)
    (bench.here / "d" / "a.txt").write_bytes(LINES)
    (bench.here / "d" / "sub" / "b.jsonl").write_bytes(JSON_LINES)
    (bench.here / which).chmod(0)
    try:
        bench.refuses(COMMANDS[job].replace("INPUT", "d"), which, "Permission denied")
    finally:
        (bench.here / which).chmod(0o700)


OPTIONS = {
    "corpus": [
        ("--language xx", "language = 'xx'"),
        ("--language ../../etc", "language = '../../etc'"),
        ("--length 7", "length = 7"),
        ("--length 70000", "length = 70000"),
        ("--length -1", "length = -1"),
        ("--validation-fraction nan", "validation_fraction = nan"),
        ("--validation-fraction 1", "validation_fraction = 1.0"),
        ("--validation-fraction=-0.1", "validation_fraction = -0.1"),
        ("--short-fraction inf", "short_fraction = inf"),
        ("--workers=-1", "workers = -1"),
        ("--workers 100000000000000000000", "workers = 1"),
        ("--on-bad-text ignore", "--on-bad-text"),
        ("--beam-options=x", "--beam-options needs --beam"),
    ],
    "tokenizer": [
        ("--language xx", "language = 'xx'"),
        ("--vocab-size 0", "vocab_size = 0"),
        ("--vocab-size=-5", "vocab_size = -5"),
        (f"--vocab-size {2**63}", "vocab_size"),
        (f"--vocab-size {10**20}", "vocab_size"),
        ("--vocab-size 100000", "vocab"),
        ("--kind unigram", "--kind"),
        ("--word-segmenter mecab", "--word-segmenter"),
    ],
}


@pytest.mark.parametrize(
    ("job", "option", "said"), [(job, *each) for job, options in OPTIONS.items() for each in options]
)
def test_an_option_that_cannot_be_is_named(job, option, said, bench):
    (bench.here / "a.txt").write_bytes(LINES)
    command = COMMANDS[job].replace("INPUT", "a.txt")
    kept = command.replace("--workers 1", "") if "workers" in option else command.replace("--vocab-size 60", "")
    bench.refuses(f"{kept} {option}", said)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200), name=st.sampled_from(["a.txt", "a.jsonl", "a.txt.gz", "a.txt.zst", "a.parquet"])
)
def test_any_bytes_become_a_corpus_or_one_line(content, name, bench):
    for made in bench.here.glob("a.*"):
        made.unlink()
    (bench.here / name).write_bytes(content)
    code, _, err = bench.run(f"{COMMANDS['corpus'].replace('INPUT', name)} --overwrite")
    assert code == 0 or (code == 2 and err.count("\n") == 1), err


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_any_text_becomes_a_corpus_or_one_line(texts, bench):
    """Also halves of surrogate pairs, which JSON can spell."""
    (bench.here / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    code, _, err = bench.run(f"{COMMANDS['corpus'].replace('INPUT', 'a.jsonl')} --overwrite")
    assert code == 0 or (code == 2 and err.count("\n") == 1), err
