"""A file that is no text is refused by what it holds, whatever it is called, in training text and in tasks alike."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import random
import sqlite3
import tarfile
import zipfile

import pytest
import zstandard

from bertlite_jax.data.tasks import OwnOptions, task_of_file
from bertlite_jax.data.tasks.own import formats
from bertlite_jax.data.text.documents import read_documents
from bertlite_jax.data.text.foreign import refuse_foreign
from bertlite_jax.errors import UserError

TEXT = b"text,label\nGood food,pos\nBad food,neg\n" * 20


def zipped(*names: str, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name in names:
            archive.writestr(name, TEXT)
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.size = len(TEXT)
        archive.addfile(entry, io.BytesIO(TEXT))
    return out.getvalue()


def sqlite(tmp_path) -> bytes:
    with contextlib.closing(sqlite3.connect(tmp_path / "made.db")) as made:
        made.execute("create table t (text, label)")
        made.commit()
    return (tmp_path / "made.db").read_bytes()


HELD = {
    "gzip": (gzip.compress(TEXT), "compressed by gzip; give it a name that ends in .gz, or unpack it: gzip -dc"),
    "bzip2": (bz2.compress(TEXT), "compressed by bzip2; unpack it: bzip2 -dc < FILE > TEXT"),
    "xz": (lzma.compress(TEXT), "compressed by xz; unpack it: xz -dc < FILE > TEXT"),
    "zstd": (zstandard.compress(TEXT), "compressed by zstd; unpack it: zstd -dc < FILE > TEXT"),
    "zip": (zipped("a.txt"), "a zip archive; unpack it: unzip FILE"),
    "stored zip": (zipped("a.txt", method=zipfile.ZIP_STORED), "a zip archive; unpack it: unzip FILE"),
    "empty zip": (zipped(), "a zip archive"),
    "workbook": (zipped("[Content_Types].xml", "xl/workbook.xml"), "a workbook (.xlsx, .ods); save the sheet as CSV"),
    "document": (zipped("[Content_Types].xml", "word/document.xml"), "a text document (.docx, .odt); save it as plain"),
    "old Office": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "a workbook or document of Office"),
    "tar": (tarred(), "a tar archive; unpack it: tar -xf FILE"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "a PDF; write its text to a file: pdftotext FILE TEXT"),
    "RTF": (rb"{\rtf1\ansi\deff0 Good food}", "a document in rich text (RTF)"),
    "SQLite": (None, "an SQLite database; export the table: sqlite3"),
    "NumPy": (b"\x93NUMPY\x01\x00v\x00{'descr'", "an array of NumPy"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
}


def held(name: str, tmp_path) -> tuple[bytes, str]:
    content, said = HELD[name]
    return sqlite(tmp_path) if content is None else content, said


@pytest.mark.parametrize("called", ["own.csv", "own.tsv", "own.txt", "own.jsonl", "own.json", "own"])
@pytest.mark.parametrize("name", HELD)
def test_a_tasks_file_is_told_by_its_content(tmp_path, name, called):
    content, said = held(name, tmp_path)
    path = tmp_path / called
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        task_of_file(str(path))
    assert str(caught.value).startswith(f"task: {path}: this is ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("called", ["a.txt", "a.jsonl"])
@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("on_bad_text", ["refuse", "replace"])
def test_training_text_is_told_by_its_content(tmp_path, name, called, on_bad_text):
    content, said = held(name, tmp_path)
    path = tmp_path / called
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(read_documents([str(path)], on_bad_text=on_bad_text))
    assert str(caught.value).startswith(f"corpus: {path}: this is ")
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["gzip", "tar", "PDF"])
def test_what_is_packed_is_looked_at_once_it_is_unpacked(tmp_path, name):
    """`corpus.tar.gz` holds an archive, and a file that was packed twice is packed still."""
    content, said = held(name, tmp_path)
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match="this is ") as caught:
        list(read_documents([str(path)]))
    assert said in str(caught.value)
    with pytest.raises(UserError, match="this is ") as caught:
        task_of_file(str(path))
    assert said in str(caught.value)


def test_parquet_is_read_in_tasks_by_any_name_and_named_in_text(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "own.csv"
    parquet.write_table(pyarrow.table({"text": ["a", "b"], "label": ["x", "y"]}), path)
    assert formats.format_of(str(path), OwnOptions()) == "parquet"
    with pytest.raises(UserError, match=r"this is Parquet; give it a name that ends in \.parquet"):
        list(read_documents([str(path)]))


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"BZh is a word",
        b"PAR1 stands for",
        b"PK",
        b"Rar!",
        b"a\0b\tc",
        b"{\\rt",
        "日本語".encode(),
        b"1234567890\n\0",
    ],
)
def test_text_that_only_looks_like_it_is_text(start):
    refuse_foreign(start, "a.txt", "corpus")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_an_encoding_without_a_mark_is_told_with_its_order(encoding):
    """`iconv -f utf-16` would take the order of this machine."""
    with pytest.raises(UserError, match=f"iconv -f {encoding.replace('-le', 'le').replace('-be', 'be')} -t utf-8"):
        refuse_foreign("text,label\na,x\n".encode(encoding), "a.csv", "task")


@pytest.mark.parametrize("on_bad_text", ["refuse", "replace"])
@pytest.mark.parametrize(
    "start", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\x00\x10JFIF", b"\x7fELF\x02\x01\x01", b"\x80\x04\x95"]
)
def test_bytes_that_mean_no_letters_are_no_text(tmp_path, start, on_bad_text):
    """They would be trained on where bytes are replaced."""
    path = tmp_path / "a.txt"
    path.write_bytes(start + random.Random(0).randbytes(5000))
    with pytest.raises(UserError, match=r"a\.txt: this is no text: \d+% of its first bytes are control characters"):
        list(read_documents([str(path)], on_bad_text=on_bad_text))


def test_text_with_colours_or_a_few_control_characters_is_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\x1b[1mbold\x1b[0m \x0c\x0b page\n" * 20 + b"\0\1\2")
    assert list(read_documents([str(path)]))


@pytest.mark.parametrize(("name", "what"), [("a.csv", "columns"), ("a.TSV", "columns"), ("a.html.gz", "mark-up")])
def test_a_table_or_a_page_that_is_read_as_plain_text_is_said_to_be(tmp_path, caplog, name, what):
    path = tmp_path / name
    path.write_bytes(gzip.compress(TEXT) if name.endswith(".gz") else TEXT)
    assert list(read_documents([str(path)]))
    assert f"corpus: {path}: read as plain text, as it stands: with its {what}" in caplog.text


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b'<doc id="12" url="x" title="Anarchism">\nAnarchism\n\n', "it has the tags of WikiExtractor; leave them out"),
        (
            b'{"text": "Alice was beginning"}\n',
            "its first line is a JSON object; give the file a name that ends in .jsonl",
        ),
        (b"One.\r\rTwo.\r", "blank lines between carriage returns end no document"),
        (b"One.\r\n\r\nTwo.\r\n", ""),
        (b"{braces} are no object\n", ""),
    ],
)
def test_a_plain_text_that_begins_with_something_else_is_named(tmp_path, caplog, start, what):
    """google-research/bert #341: what WikiExtractor writes is what people pretrain on; ncbi-nlp/BLUE_Benchmark #7."""
    path = tmp_path / "a.txt"
    path.write_bytes(start)
    assert list(read_documents([str(path)]))
    assert (f"{path}: read as plain text, as it stands, but {what}" in caplog.text) if what else caplog.text == ""


# --- One name twice --------------------------------------------------------------------------------------------------


def test_the_texts_field_twice_in_one_object_is_refused_with_its_line(tmp_path):
    path = tmp_path / "a.jsonl"
    twice = '{"text": "one", "meta": {"text": "m", "text": "n"}}\n{"text": "one", "text": "two"}\n'
    path.write_text(twice)
    with pytest.raises(UserError) as caught:
        list(read_documents([str(path)]))
    assert str(caught.value) == f"corpus: {path}:2: the field 'text' occurs twice in one object"
    path.write_text(json.dumps({"text": 'the "text" of it'}) + "\n" + json.dumps({"text": "b", "a": ["text"]}))
    assert list(read_documents([str(path)])) == [['the "text" of it'], ["b"]]


def test_two_columns_of_the_texts_name_are_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    made = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    parquet.write_table(made, path)
    with pytest.raises(UserError, match=r"a\.parquet: 2 columns are called 'text'"):
        list(read_documents([str(path)]))
