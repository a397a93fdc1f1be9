"""gs:// where it may stand: copied once, whole, and read like a folder. Elsewhere: one line, and no folder `gs:`."""

import gzip
import json
import logging
import pathlib

import numpy as np
import pytest
import zstandard
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from bertlite_jax.cli.main import main
from bertlite_jax.config.pretrain import Data
from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.data.rows import batches, source
from bertlite_jax.data.text import object_storage
from bertlite_jax.data.vocabulary import tokenizer
from bertlite_jax.data.vocabulary.tokenizer import load_tokenizer
from bertlite_jax.errors import UserError
from bertlite_jax.host.places import check_on_disk, in_object_storage
from bertlite_jax.jobs.text.corpus import build_corpus


def data(prepared, bucket) -> Data:
    return Data(
        corpus=(bucket.upload(prepared.corpus, "mine/corpus"),),
        tokenizer=bucket.upload(prepared.tokenizer, "mine/tokenizer"),
        length=64,
        batch_rows=8,
    )


def test_batches_from_a_bucket_are_those_from_the_disk(bucket, prepared):
    here = Data(corpus=(prepared.corpus,), tokenizer=prepared.tokenizer, length=64, batch_rows=8)
    for split in ("train", "validation"):
        near = batches.batch_at(source.open_source(here, split, 3), 1, 8)
        far = batches.batch_at(source.open_source(data(prepared, bucket), split, 3), 1, 8)
        assert all(np.array_equal(near[name], far[name]) for name in near)
    assert sorted(path.name for path in pathlib.Path().iterdir()) == ["cache"]


def test_the_copy_is_made_once_and_anew_when_the_folder_was_built_again(bucket, prepared, caplog):
    caplog.set_level(logging.INFO)
    place = data(prepared, bucket).tokenizer
    first = object_storage.local_folder(place, tokenizer.SETTINGS_FILE)
    object_storage.copied_folder.cache_clear()  # As another process would find it.
    assert object_storage.local_folder(place, tokenizer.SETTINGS_FILE) == first
    assert len([line for line in caplog.messages if "copying" in line]) == 1
    object_storage.copied_folder.cache_clear()
    name = f"{place}/{tokenizer.SETTINGS_FILE}"
    bucket.pipe_file(name, bucket.cat_file(name) + b"\n")
    assert object_storage.local_folder(place, tokenizer.SETTINGS_FILE) != first


@pytest.mark.parametrize("kind", ["txt", "txt.gz", "txt.zst", "jsonl", "parquet"])
def test_text_from_a_bucket_makes_the_corpus_that_text_on_the_disk_makes(bucket, prepared, tmp_path, kind):
    documents = [" ".join(["alice", "said", "no", "word", str(number)]) for number in range(30)]
    near = tmp_path / "text" / "part"
    near.mkdir(parents=True)
    write_text(near / f"a.{kind}", documents)
    (near / ".hidden").write_text("not this")
    bucket.upload(str(near), "mine/text/part")
    made = {}
    for name, place in (("near", str(tmp_path / "text")), ("far", "gs://mine/text")):
        build_corpus([place], prepared.tokenizer, str(tmp_path / name), CorpusOptions(length=64), workers=1)
        made[name] = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.name != "build.json"}
    assert made["near"] == made["far"]
    assert json.loads(made["far"]["corpus.json"])["statistics"]["documents"] == 30


def write_text(path: pathlib.Path, documents: list[str]) -> None:
    plain = "\n\n".join(documents).encode()
    if path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"text": documents}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    else:
        path.write_bytes({".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)(plain))


def test_a_text_that_is_not_in_the_bucket_is_named(bucket, prepared, tmp_path):
    with pytest.raises(UserError, match="corpus: gs://mine/nothing: does not exist"):
        build_corpus(["gs://mine/nothing"], prepared.tokenizer, str(tmp_path / "out"), CorpusOptions(length=64))


def test_a_bucket_that_fails_now_and_then_is_asked_again(bucket, prepared, monkeypatch):
    place, real, calls = data(prepared, bucket).tokenizer, MemoryFileSystem._open, []

    def shaky(self, path, *arguments, **options):
        calls.append(path)
        if len(calls) % 2:
            raise OSError(5, "connection reset")
        return real(self, path, *arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "_open", shaky)
    assert load_tokenizer(place).hash == load_tokenizer(prepared.tokenizer).hash


def test_a_copy_that_was_cut_off_is_not_left_behind(bucket, prepared, monkeypatch):
    place = data(prepared, bucket).tokenizer
    monkeypatch.setattr(object_storage.shutil, "copyfileobj", lambda source, target, size: target.write(b"half"))
    with pytest.raises(UserError, match="4 bytes arrived instead of"):
        load_tokenizer(place)
    assert [path.suffix for path in pathlib.Path("cache/bertlite_jax/staged").iterdir()] == [".lock"]


def test_what_is_not_there_or_does_not_fit_is_said_in_one_line(bucket, prepared, monkeypatch):
    with pytest.raises(UserError, match=r"gs://mine/nothing has no bertlite_tokenizer.json"):
        load_tokenizer("gs://mine/nothing")
    place = data(prepared, bucket)
    monkeypatch.setattr(object_storage.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match="has room for 10; mount the bucket"):
        source.open_source(place, "train", 0)


def test_without_the_library_for_a_bucket_the_install_line_is_given(monkeypatch, tmp_path):
    def missing(self, name):
        raise ImportError("Please install gcsfs to access Google Storage")

    object_storage.copied_folder.cache_clear()
    monkeypatch.setattr(type(backend.fsspec_backend), "_get_filesystem", missing)
    with pytest.raises(UserError, match=r"install gcsfs .*pip install 'bertlite_jax\[gcs\]'"):
        load_tokenizer("gs://mine/tokenizer")


# --- Where it may not stand ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["pretrain", "configs/debug_cpu.py", "--workdir", "gs://mine/run"],
        ["pretrain", "configs/debug_cpu.py", "--workdir=gs://mine/run"],
        ["pretrain", "configs/debug_cpu.py", "--data.corpus", "gs://a/b", "--workdir", "gs://mine/run"],
        ["finetune", "configs/finetune_glue.py", "--workdir", "gs://mine/run"],
        ["tokenizer", "a.txt", "--out", "gs://mine/tokenizer"],
        ["corpus", "gs://mine/text", "--tokenizer", "gs://mine/tokenizer", "--out", "gs://mine/corpus"],
        ["corpus", "a.txt", "--tokenizer", "gs://mine/tokenizer", "--out", "gs://mine/corpus"],
        ["evaluate", "gs://mine/run"],
        ["report", "gs://mine/run"],
        ["quickstart", "--workdir", "gs://mine/run"],
    ],
)
def test_a_job_makes_no_folder_named_gs(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "lies in object storage" in said
    assert said.count("\n") == 1
    assert "gs://mine/" in said
    assert not list(tmp_path.iterdir())


def test_the_places_that_jobs_write_to_are_checked_without_the_command_too(tmp_path, monkeypatch, prepared):
    from bertlite_jax.config.pretrain import Pretrain
    from bertlite_jax.jobs.runs import workdir

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="workdir: gs://mine/run lies in object storage"):
        workdir.open_workdir("gs://mine/run", Pretrain(), False, {})
    with pytest.raises(UserError, match="gs:/mine/run lies in object storage"):
        workdir.open_workdir(pathlib.Path("gs://mine/run"), Pretrain(), False, {})
    with pytest.raises(UserError, match="corpus: gs://mine/corpus lies in object storage"):
        build_corpus([prepared.text], prepared.tokenizer, "gs://mine/corpus", CorpusOptions(length=64))
    assert not list(tmp_path.iterdir())


def test_paths_and_texts_are_not_taken_for_buckets():
    for path in ("runs/a", "/mnt/gs/a", "c:/a", "https://example.org is [MASK]", "gs", "a.txt", "--run.steps"):
        assert not in_object_storage(path)
        check_on_disk("job", path)


def test_what_a_bucket_says_of_rights_is_one_line(bucket, monkeypatch):
    """Gcsfs has errors of its own kind for that, and the package is not needed here."""

    def refuse(self, path, *arguments, **options):
        raise type("HttpError", (Exception,), {"__module__": "gcsfs.retry"})("Anonymous caller may not\nread this")

    monkeypatch.setattr(MemoryFileSystem, "_open", refuse)
    with pytest.raises(
        UserError, match="gs://mine/x cannot be read: Anonymous caller may not; are you logged in"
    ) as caught:
        load_tokenizer("gs://mine/x")
    assert "\n" not in str(caught.value)
