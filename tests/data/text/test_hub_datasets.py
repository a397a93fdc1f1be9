"""Text out of datasets on this disk, which are read by the same calls as those of the hub; or refused in one line."""

import io
import json
import os
import pathlib
import sys
from collections import Counter

import pytest
from hub_stand_in import Hub, Repository
from huggingface_hub import HfFileSystem, constants

from bertlite_jax.cli.main import main
from bertlite_jax.config.text import CorpusOptions
from bertlite_jax.data.text import hub_datasets
from bertlite_jax.data.text.documents import read_documents, read_sentences
from bertlite_jax.errors import UserError
from bertlite_jax.jobs.text.corpus import build_corpus

datasets = pytest.importorskip("datasets")
pytestmark = [
    # Of pyarrow and pandas, on their way through `datasets`.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TEXTS = ["First paragraph. Two sentences.\nSecond one.", "你好。我是谁？", "No end of a sentence"]
DOCUMENTS = [["First paragraph. Two sentences.", "Second one."], ["你好。我是谁？"], ["No end of a sentence"]]


def rows(texts: list[str]):
    columns = {"id": list(range(len(texts))), "text": texts, "title": [text[:3] for text in texts]}
    return datasets.Dataset.from_dict(columns)


@pytest.fixture
def places(tmp_path, monkeypatch) -> dict[str, str]:
    """The same texts in each kind of place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    split = datasets.DatasetDict({"train": rows(TEXTS), "test": rows(["Another text."])})
    (tmp_path / "files").mkdir()
    for name, part in split.items():
        part.to_parquet(str(tmp_path / "files" / f"{name}-00000-of-00001.parquet"))
    split.save_to_disk(str(tmp_path / "saved"))
    rows(TEXTS).save_to_disk(str(tmp_path / "one"))
    return {
        "JSON lines": "rows.jsonl",
        "Parquet files": "hf://datasets/./files?split=train",
        "an absolute path": f"hf://datasets/{tmp_path}/files?split=train&field=text",
        "saved splits": "hf://datasets/./saved?split=train",
        "a saved split": "one",
        "a split in its folder": "saved/train",
    }


def read(place: str, **options) -> list[list[str]]:
    return list(read_documents([place], **options))


def refusal(place: str, **options) -> str:
    with pytest.raises(UserError) as caught:
        read(place, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_place_gives_the_same_documents(places):
    for name, place in places.items():
        counts = Counter()
        assert read(place, counts=counts) == DOCUMENTS, name
        assert counts["files"] == 1
        assert name == "JSON lines" or counts["bytes"] == sum(len(text.encode()) for text in TEXTS)


def test_without_a_split_it_is_train_or_the_only_one(places, caplog):
    caplog.set_level("INFO", "bertlite_jax")
    assert read("hf://datasets/./saved") == DOCUMENTS
    assert read("saved") == DOCUMENTS
    assert "the split is train" in caplog.text
    assert read("hf://datasets/./files?split=test") == [["Another text."]]


def test_another_field_and_the_option_for_it(places):
    titles = [["Fir"], ["你好。"], ["No"]]
    assert read("hf://datasets/./files?field=title&split=train") == titles
    assert read("hf://datasets/./files?split=train", text_field="title") == titles


def test_an_example_without_text_is_an_empty_document(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    datasets.Dataset.from_dict({"text": ["one", None, "two"]}).save_to_disk(str(tmp_path / "gaps"))
    counts = Counter()
    assert read("gaps", counts=counts) == [["one"], ["two"]]
    assert counts["empty_documents"] == 1


def test_a_folder_is_a_saved_dataset_by_both_of_its_files(tmp_path):
    """Other programs call files state.json too; and the name of a folder need not be UTF-8."""
    (tmp_path / "state.json").write_text('{"text": "a state"}\n')
    assert read(str(tmp_path)) == [["a state"]]
    saved = tmp_path / os.fsdecode(b"caf\xe9")
    rows(TEXTS).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved").rename(saved)
    assert hub_datasets.parse(hub_datasets.place_of_saved(saved), "corpus").name == str(saved)


def test_a_corpus_has_the_bytes_of_the_text_wherever_it_came_from(prepared, tmp_path, monkeypatch):
    """By one process or two. And tokenizers are trained on the same sentences."""
    monkeypatch.chdir(tmp_path)
    texts = ["\n".join(paragraphs) for paragraphs in read_documents([prepared.text])]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    rows(texts).save_to_disk(str(tmp_path / "one"))
    options = CorpusOptions(length=64, validation_fraction=0.1)
    for out, place, workers in (("a", "rows.jsonl", 1), ("b", "one", 1), ("c", "hf://datasets/./one?split=train", 2)):
        build_corpus([place], prepared.tokenizer, out, options, workers=workers)
    written = [
        {path.name: path.read_bytes() for path in pathlib.Path(out).iterdir() if path.suffix != ".json"}
        for out in ("a", "b", "c")
    ]
    assert written[0] == written[1] == written[2]
    assert list(read_sentences(["rows.jsonl"])) == list(read_sentences(["one"]))


REFUSED = {
    "hf://datasets/./files?split=dev": "no split 'dev'; name one with split=: ",
    "hf://datasets/./saved?split=dev": "no split 'dev'; name one with split=: train, test",
    "hf://datasets/./files?split=train&field=body": "no field 'body'; it has: id, text, title; name one with field=",
    "hf://datasets/./files?split=train&field=id": "example 1: the field 'id' holds int, not a string",
    "hf://datasets/./files?splt=train": "splt is none of what can be asked for: split, field, config, revision",
    "hf://datasets/./nowhere?split=train": "./nowhere is no folder on this disk",
    "hf://datasets/?split=train": "names no dataset; write hf://datasets/NAME?split=train&field=text",
    "hf://datasets/./files?split=train&split=test": "asks for one thing twice; name each split by itself",
    "hf://datasets/./empty?split=train": "cannot be read: ",
    "hf://datasets/./damaged?split=train": "cannot be read: ",
    "hf://datasets/./torn?split=train": "cannot be read: Couldn't deserialize thrift",
}


@pytest.mark.parametrize("place", REFUSED)
def test_what_is_wrong_is_one_line(place, places, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/train.parquet").write_bytes(b"PAR1 no more")
    (tmp_path / "torn").mkdir()
    whole = next((tmp_path / "files").glob("train*")).read_bytes()
    (tmp_path / "torn/train.parquet").write_bytes(whole[:4] + b"\xff" * 100 + whole[104:])
    line = refusal(place)
    assert line.startswith(f"corpus: {place}")
    assert REFUSED[place] in line


def test_several_configs_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}.parquet\n" for name in ("en", "de")
    )
    (tmp_path / "both").mkdir()
    (tmp_path / "both/README.md").write_text(card + "---\n")
    for name in ("en", "de"):
        rows([name]).to_parquet(str(tmp_path / "both" / f"{name}.parquet"))
    assert read("hf://datasets/./both?config=de") == [["de"]]
    assert "it has several configs; name one with config=: en, de" in refusal("hf://datasets/./both")
    assert "no config 'fr'; name one with config=: en, de" in refusal("hf://datasets/./both?config=fr")


def test_the_command_refuses_in_one_line_and_leaves_nothing(places, prepared, tmp_path, monkeypatch, capsys):
    out = str(tmp_path / "out")
    command = ["corpus", "hf://datasets/./files?split=dev", "--tokenizer", prepared.tokenizer, "--out", out]
    assert main([*command, "--workers", "1"]) == 2
    assert capsys.readouterr().err.startswith("corpus: hf://datasets/./files?split=dev: no split 'dev'")
    assert main([*command, "--beam"]) == 2
    assert "a dataset is read by one process; leave --beam out" in capsys.readouterr().err
    assert main([command[0], "one", *command[2:], "--beam"]) == 2
    assert "a dataset is read by one process; leave --beam out" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert main([*command, "--workers", "1"]) == 2
    assert capsys.readouterr().err.endswith("needs datasets; pip install 'bertlite_jax[datasets]'\n")
    assert not pathlib.Path(out).exists()
    assert not list(tmp_path.glob("out*"))


# --- On the hub ------------------------------------------------------------------------------------------------------


@pytest.fixture
def remote(hub, tmp_path, monkeypatch):
    """The stand-in of the hub with a dataset of alice's in two splits; all caches are the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in (("HF_ENDPOINT", hub.address), ("HF_DATASETS_CACHE", tmp_path / "datasets_cache")):
        monkeypatch.setattr(datasets.config, name, value)
    HfFileSystem.clear_instance_cache()
    put(hub, "alice/reviews", train=TEXTS, test=["Another text."])
    hub_datasets._looked_up.cache_clear()
    hub_datasets.copied_split.cache_clear()
    yield hub
    HfFileSystem.clear_instance_cache()


def put(hub: Hub, name: str, **splits: list[str]) -> Repository:
    files = {"README.md": b"# Reviews\n"}
    for split, texts in splits.items():
        content = io.BytesIO()
        rows(texts).to_parquet(content)
        files[f"{split}.parquet"] = content.getvalue()
    hub.repositories[f"datasets/{name}"] = Repository(private=True, files=files)
    return hub.repositories[f"datasets/{name}"]


def test_a_dataset_of_the_hub_is_streamed_from_one_commit(remote):
    """Looked up once for all splits, although somebody adds to it meanwhile."""
    repository = remote.repositories["datasets/alice/reviews"]
    train, test = (f"hf://datasets/alice/reviews?split={split}" for split in ("train", "test"))
    first = repository.sha
    assert hub_datasets.commits([train, "a_file.txt"], "corpus") == {train: first}
    repository.commits += 1
    assert hub_datasets.commits([train, test], "corpus") == {train: first, test: first}
    hub_datasets._looked_up.cache_clear()  # As another process would begin.
    assert read(train) == DOCUMENTS
    assert read(test) == [["Another text."]]
    assert {call.split("/resolve/")[1][:40] for call in remote.asked if "/resolve/" in call} == {repository.sha}


def test_a_split_that_was_copied_by_its_commit_needs_no_network(remote, monkeypatch):
    """On a host without one, a run resumes with the same command."""
    place = f"hf://datasets/alice/reviews?split=train&revision={remote.repositories['datasets/alice/reviews'].sha}"
    copy = hub_datasets.copied_split(place, "finetune")
    hub_datasets.copied_split.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(remote.asked)
    assert hub_datasets.copied_split(place, "finetune") == copy
    assert hub_datasets.commits([place], "finetune") == {place: place[-40:]}
    assert len(remote.asked) == asked
    line = refusal("hf://datasets/alice/reviews?split=train")
    assert "HF_HUB_OFFLINE is set, and the cache does not have all of it" in line


NOT_THERE = {
    "alice/nothing?split=train": ": no such repository that this token may read; check the name",
    "alice/reviews?split=dev": ": no split 'dev'; name one with split=: ",
    "alice/reviews?revision=v9": ": there is no such revision; name a branch, a tag or a commit",
    "alice/gated?split=train": " is gated: accept its terms on its page, then log in",
    "alice/code?split=train": " cannot be read: Dataset scripts are no longer supported",
    "reviews?split=train": ": a dataset of the hub is named OWNER/NAME",
    "alice/reviews/train.parquet": ": a dataset of the hub is named OWNER/NAME, without a file behind it (revision= ",
}


@pytest.mark.parametrize("place", NOT_THERE)
def test_what_the_hub_does_not_have_is_one_line(place, remote):
    put(remote, "alice/gated", train=TEXTS).gated = True
    put(remote, "alice/code").files["code.py"] = b"import datasets\n"
    line = refusal(f"hf://datasets/{place}")
    assert line.startswith(f"corpus: hf://datasets/{place}")
    assert NOT_THERE[place] in line
