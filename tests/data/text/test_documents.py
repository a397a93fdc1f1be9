"""Documents out of files: the same for every format; cleaned and counted, or refused in one line."""

import gzip
import json
import pathlib
import subprocess
import sys
import time
from collections import Counter

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlite_jax.data.text import lines, sentences
from bertlite_jax.data.text.documents import CLEANED, LINE_LIMIT, list_files, read_documents, read_sentences
from bertlite_jax.errors import UserError

DOCUMENTS = [["First paragraph. Two sentences.", "Second one."], ["你好。我是谁？"], ["No end of a sentence"]]
PLAIN = "\n\n".join("\n".join(paragraphs) for paragraphs in DOCUMENTS) + "\n"
JSON_LINES = "".join(json.dumps({"id": 1, "text": "\n".join(document)}) + "\n" for document in DOCUMENTS)


def write(path: pathlib.Path, content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return str(path)


def read(path: str, **options) -> tuple[list[list[str]], Counter]:
    counts = Counter()
    return list(read_documents([path], counts=counts, **options)), counts


def refusal(path: str, **options) -> str:
    with pytest.raises(UserError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize(("name", "content"), [("a.txt", PLAIN), ("no_suffix", PLAIN), ("a.jsonl", JSON_LINES)])
def test_every_format_gives_the_same_documents(tmp_path, name, content, packing):
    path = write(tmp_path / (name + packing), content)
    documents, counts = read(path)
    assert documents == DOCUMENTS
    assert counts["bytes"] == len(content.encode())
    assert counts["position"] == pathlib.Path(path).stat().st_size


def test_parquet_is_read_row_by_row(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = str(tmp_path / "a.parquet")
    rows = ["\n".join(document) for document in DOCUMENTS]
    parquet.write_table(pyarrow.table({"body": [*rows, None], "id": [1, 2, 3, 4]}), path, row_group_size=2)
    documents, counts = read(path, text_field="body")
    assert documents == DOCUMENTS
    assert counts["empty_documents"] == 1
    assert refusal(path) == f"corpus: {path}: no column 'text'; it has: body, id; pass --text-field NAME"
    assert "cannot be read as Parquet" in refusal(path, text_field="id")
    bad = write(tmp_path / "bad.parquet", b"PAR1 this is not parquet")
    assert refusal(bad).startswith(f"corpus: {bad}: cannot be read as Parquet")


def test_parquet_without_pyarrow_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'bertlite_jax[parquet]'" in refusal(write(tmp_path / "a.parquet", b""))


def test_files_made_of_several_frames_are_read_to_the_end(tmp_path):
    """`cat a.zst b.zst` and parallel compressors write such files."""
    half = len(PLAIN) // 2
    zst, gz = tmp_path / "a.txt.zst", tmp_path / "a.txt.gz"
    zst.write_bytes(zstandard.compress(PLAIN[:half].encode()) + zstandard.compress(PLAIN[half:].encode()))
    gz.write_bytes(gzip.compress(PLAIN[:half].encode()) + gzip.compress(PLAIN[half:].encode()))
    assert read(str(zst))[0] == read(str(gz))[0] == DOCUMENTS


def test_a_folder_stands_for_its_files_in_the_order_of_their_names(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("c.txt", "b/z.txt", "a.txt", "b/.hidden", "b/y.txt"):
        write(tmp_path / name, f"text of {name}\n")
    documents, counts = read(str(tmp_path))
    assert [paragraphs[0][8:] for paragraphs in documents] == ["a.txt", "b/y.txt", "b/z.txt", "c.txt"]
    assert counts["files"] == 4


def test_sentences_for_the_tokenizer_come_one_by_one(tmp_path):
    path = write(tmp_path / "a.txt", PLAIN)
    expected = ["First paragraph.", "Two sentences.", "Second one.", "你好。", "我是谁？", "No end of a sentence"]
    assert list(read_sentences([path])) == expected
    unsplit = [line for document in DOCUMENTS for line in document]
    assert list(read_sentences([path], one_sentence_per_line=True)) == unsplit


# --- Cleaning --------------------------------------------------------------------------------------------------------


def test_what_no_tokenizer_should_see_is_removed_and_counted(tmp_path):
    raw = "\ufeffA\x00b \x07bell\x1f\r\nnext\x9f\tline\u3000with   spaces\ufeff\n \u3000 \nafter an ideographic blank\n"
    documents, counts = read(write(tmp_path / "a.txt", raw))
    assert documents == [["Ab bell", "next line with spaces"], ["after an ideographic blank"]]
    # The mark at the very start is part of the file format, not of the text.
    assert {kind: counts[kind] for kind in CLEANED} == {
        "invalid_utf8": 0, "nul": 1, "control": 3, "byte_order_mark": 1, "surrogate": 0,
    }  # fmt: skip


def test_in_json_lines_a_mark_and_signs_that_end_lines_elsewhere_stay_in_their_document(tmp_path):
    """A mark at the start of the file is no text; U+2028 and a form feed end a paragraph, and never a line."""
    raw = '\ufeff{"text": "one\u2028two\x0cthree"}\r\n{"text": "four"}\n'.replace("\x0c", "\\f")
    documents, counts = read(write(tmp_path / "a.jsonl", raw))
    assert documents == [["one", "two", "three"], ["four"]]
    assert not any(counts[kind] for kind in CLEANED)


def test_half_a_surrogate_pair_in_json_is_removed_and_counted(tmp_path):
    documents, counts = read(write(tmp_path / "a.jsonl", '{"text": "a\\ud800b"}\n'))
    assert documents == [["ab"]]
    assert counts["surrogate"] == 1


def test_invalid_utf8_is_refused_with_its_place_or_replaced_and_counted(tmp_path):
    path = write(tmp_path / "notes.txt", b"one\n\ntwo\n\nthree\r\nfo\xffur \xef\xbf\xbd\n")
    hint = "pass --on-bad-text replace to keep going"
    assert refusal(path) == f"corpus: {path}:6: invalid UTF-8 (byte 0xff); {hint}"
    documents, counts = read(path, on_bad_text="replace")
    assert documents[2] == ["three", "fo\ufffdur \ufffd"]
    assert counts["invalid_utf8"] == 1  # the other one was in the file
    path = write(tmp_path / "a.jsonl.gz", b'{"text": "a"}\n{"text": "\xe9t"}\n')
    assert refusal(path) == f"corpus: {path}:2: invalid UTF-8 (byte 0xe9); {hint}"
    path = write(tmp_path / "16.txt", "hi".encode("utf-16"))
    assert refusal(path).endswith(f"iconv -f utf-16 -t utf-8 < {path} > {tmp_path / '16_utf8.txt'}")


def test_a_long_line_is_cut_at_spaces_and_loses_nothing(tmp_path, monkeypatch):
    words = [f"w{i}" for i in range(700_000)]
    path = write(tmp_path / "a.txt", "before\n" + " ".join(words) + "\nafter\n\nnext\n")
    documents, counts = read(path)
    assert counts["long_lines"] == 1
    found = [line for paragraphs in documents for line in paragraphs]
    assert max(map(len, found)) <= LINE_LIMIT
    assert " ".join(found).split() == ["before", *words, "after", "next"]
    # How the bytes arrive makes no difference.
    monkeypatch.setattr(lines, "BLOCK", 12_345)
    assert read(path)[0] == documents


def test_a_long_line_without_spaces_is_cut_between_characters(tmp_path, monkeypatch):
    monkeypatch.setattr("bertlite_jax.data.text.documents.LINE_LIMIT", 1000)
    line = "汉字" * 5000
    documents, counts = read(write(tmp_path / "a.txt", line + "\nnext"))
    assert "".join(documents[0][:-1]) == line
    assert documents[0][-1] == "next"
    assert counts["long_lines"] == 1
    path = write(tmp_path / "b.txt", line.encode() + b"\n\xff\n")
    assert refusal(path).startswith(f"corpus: {path}:2: invalid")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_long_document_goes_on_as_another_one(tmp_path, monkeypatch, name):
    monkeypatch.setattr("bertlite_jax.data.text.documents.DOCUMENT_LIMIT", 1000)
    written = [f"line {i} of this document" for i in range(200)]
    content = "\n".join(written) if name == "a.txt" else json.dumps({"text": "\n".join(written)})
    documents, counts = read(write(tmp_path / name, content + "\n"))
    assert [line for paragraphs in documents for line in paragraphs] == written
    assert max(sum(map(len, paragraphs)) for paragraphs in documents) < 1100
    assert counts["split_documents"] == len(documents) - 1 >= 3


def test_a_long_paragraph_in_json_is_cut_too(tmp_path, monkeypatch):
    monkeypatch.setattr("bertlite_jax.data.text.documents.DOCUMENT_LIMIT", 4000)
    monkeypatch.setattr("bertlite_jax.data.text.documents.LINE_LIMIT", 1000)
    line = " ".join(f"w{i}" for i in range(5000))
    documents, counts = read(write(tmp_path / "a.jsonl", json.dumps({"text": "start\n" + line})))
    parts = [part for paragraphs in documents for part in paragraphs]
    assert max(map(len, parts)) <= 1000
    assert parts[0] == "start"
    assert " ".join(parts[1:]) == line
    assert counts["long_lines"] == 1


# --- Refusals --------------------------------------------------------------------------------------------------------


def test_missing_and_empty_inputs(tmp_path, caplog):
    nothing = str(tmp_path / "no.txt")
    assert refusal(nothing) == f"corpus: {nothing}: does not exist; give text files or folders of them"
    assert refusal(str(tmp_path)) == f"corpus: {tmp_path}: the folder holds no file"
    with pytest.raises(UserError, match="no input"):
        list_files([])
    path = write(tmp_path / "empty.txt", "")
    documents, counts = read(path)
    assert (documents, counts["empty_files"]) == ([], 1)
    assert f"{path}: no text in this file" in caplog.text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a"', "not JSON: Expecting ',' delimiter"),
        ('["a"]', "a JSON object is expected, with the text in the field 'text'"),
        ('{"body": "a", "id": 3}', "no field 'text'; it has: body, id; pass --text-field NAME"),
        ('{"text": 3}', "the field 'text' holds int, not a string"),
        ("[" * 100_000, "not usable JSON: lists or objects are nested too deeply"),
    ],
)
def test_a_bad_json_line_is_named(tmp_path, line, reason):
    path = write(tmp_path / "a.jsonl", f'{{"text": "fine"}}\n\n{line}\n')
    assert refusal(path).startswith(f"corpus: {path}:3: {reason}")


def test_a_json_line_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("bertlite_jax.data.text.documents.JSON_LIMIT", 1 << 20)
    path = write(tmp_path / "a.jsonl", '{"text": "a"}\n' + json.dumps({"text": "word " * 300_000}) + "\n")
    assert refusal(path) == f"corpus: {path}:2: longer than 1 MB; write one document a line"


def test_a_job_without_an_option_for_the_field_does_not_name_one(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"body": "a"}\n')
    assert refusal(path, text_field=None) == f"corpus: {path}:1: no field 'text'; it has: body; call it 'text'"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_truncated_or_damaged_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.txt{suffix}"
    write(path, "".join(f"line {i * i}\n" for i in range(50_000)))
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], whole[:-3], b"this is plain text", whole + b"rubbish behind the end"):
        path.write_bytes(data)
        assert refusal(str(path)).startswith(f"corpus: {path}: truncated or damaged {suffix[1:]} file (")


# --- Sentences -------------------------------------------------------------------------------------------------------


def test_sentences_end_where_people_say_they_do():
    line = 'Dr. Smith paid $3.50 to the U.N. office. "Really?" he asked. It was 5 p.m. in Paris.'
    expected = ["Dr. Smith paid $3.50 to the U.N. office.", '"Really?" he asked.', "It was 5 p.m. in Paris."]
    assert sentences.split_document([line]) == expected
    assert sentences.split_document(["他说：“你好。”我走了！你呢？"]) == ["他说：“你好。”", "我走了！", "你呢？"]


@pytest.mark.parametrize(
    ("line", "language"),
    [
        ("Plain text.", "en"),
        ("Élan vital.", "en"),
        ("紅樓夢是一部小說。", "zh"),
        ("これはペンです。", "ja"),
        ("", "en"),
    ],
)
def test_the_script_names_the_language(line, language):
    assert sentences.language_of(line) == language


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["word", "Hi there. ", "你好。", " ", "a.b ", "\u2026 ", "Ünde! ", "?", "“"]), max_size=80)
)
def test_splitting_loses_only_white_space(parts):
    paragraph = "".join(parts)
    for limit in (40, 4000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sentences, "SENTENCE_LIMIT", limit)
            for found in (
                sentences.split_document([paragraph], "en"),
                sentences.split_document([paragraph], one_sentence_per_line=True),
            ):
                assert "".join("".join(found).split()) == "".join(paragraph.split())
                assert all(len(sentence) <= limit for sentence in found) or limit == 40


def test_a_long_paragraph_has_the_sentences_of_its_parts():
    """Cutting text for its length must not invent sentence ends."""
    expected = [f"This is sentence number {i} of a long line." for i in range(2000)]
    counts = Counter()
    assert sentences.split_document([" ".join(expected)], counts=counts) == expected
    assert counts["cut_sentences"] == 0


def test_a_long_chinese_line_takes_linear_time():
    """The splitter alone would take minutes for this one, and four times as long for twice the length."""
    began = time.monotonic()
    assert len(sentences.split_document(["你好，世界。" * 40_000])) == 40_000
    assert time.monotonic() - began < 20


def test_endless_text_without_a_sentence_end_is_cut_and_counted():
    counts = Counter()
    found = sentences.split_document(["word " * 2000], counts=counts)
    assert max(map(len, found)) <= sentences.SENTENCE_LIMIT
    assert counts["cut_sentences"] == len(found) - 1 == 2


# --- Memory ----------------------------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
from bertlite_jax.data.text import documents
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = sum(len(line) for document in documents.read_documents([sys.argv[1]]) for line in document)
print(total, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "megabytes"),
    [
        ("a.txt", 60),
        pytest.param("a.txt.zst", 160, marks=pytest.mark.slow),
        pytest.param("a.jsonl", 300, marks=pytest.mark.slow),
    ],
)
def test_a_line_of_50_mb_is_read_in_bounded_memory(tmp_path, name, megabytes):
    line = "word " * 10_000_000
    path = write(tmp_path / name, line if "txt" in name else json.dumps({"text": line}))
    out = subprocess.run([sys.executable, "-c", MEASURE, path], check=True, capture_output=True, text=True).stdout
    total, used = map(int, out.split())
    assert total > 49_000_000
    assert used < megabytes
